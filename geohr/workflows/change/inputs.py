"""What a comparison is asked for: its dates and its files, refused where they cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from geohr._runtime.files import check_writable
from geohr.errors import InputError, UsageError
from geohr.geodesy import parse_crs
from geohr.options import SegmentOptions
from geohr.outputs.creation_options import check_creation_options
from geohr.scene import Scene
from geohr.scene.features import Box, overlaps
from geohr.scene.footprints import FootprintLayer, box_in
from geohr.scene.prepare import open_view
from geohr.scene.vectors import is_vector
from geohr.workflows.change.compare import do_not_overlap

# Longitude and latitude.
DEGREES = parse_crs("OGC:CRS84")


@dataclass(frozen=True)
class ChangeOutputs:
    """The files of a comparison; they appear together.

    Attributes:
        changes: The GeoPackage.
        raster: A .tif for the probability of change, or None.
        osm: An .osc for new buildings, or None.
        overture: A .parquet for new buildings, or None.
        creation_options: Options of GDAL's COG driver for the raster.
    """

    changes: Path
    raster: Path | None = None
    osm: Path | None = None
    overture: Path | None = None
    creation_options: Mapping[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> list[Path]:
        """All files."""
        named = (self.changes, self.raster, self.osm, self.overture)
        return [each for each in named if each is not None]

    def kept(self, date: str) -> tuple[Path, Path]:
        """The objects and probabilities of a date's scene, which are kept beside the changes."""
        stem = self.changes.with_name(f"{self.changes.stem}_{date}")
        return stem.with_suffix(".gpkg"), stem.with_name(f"{stem.name}_probs.tif")


@dataclass(frozen=True)
class GivenDate:
    """A date as it was asked for.

    Attributes:
        name: before or after.
        path: A scene, or a vector file of objects.
        probabilities: A raster that geohr wrote with the objects, or None.
        options: The options with which a scene is read.
    """

    name: str
    path: str
    probabilities: str | None
    options: SegmentOptions

    @cached_property
    def is_scene(self) -> bool:
        """Whether it is a scene, and no vector file."""
        return not is_vector(self.path)

    @cached_property
    def scene(self) -> Scene:
        """The scene, described."""
        return open_view(self.path, self.options)

    def bounds(self) -> Box | None:
        """West, south, east, north in degrees; None without objects.

        Raises:
            InputError: When a scene has no CRS, or the file cannot be read.
        """
        if not self.is_scene:
            return FootprintLayer(self.path).bounds_in(DEGREES)
        geobox = self.scene.geobox
        if geobox.crs is None:
            raise InputError(
                f"{self.path}: has no CRS, so it cannot be laid on another date; "
                "set it with gdal_edit.py -a_srs"
            )
        return box_in(geobox.bounds, parse_crs(geobox.crs.to_wkt()), DEGREES)


def check_targets(
    given: list[GivenDate],
    targets: ChangeOutputs,
    others: list[str | Path | None],
    *,
    overwrite: bool,
) -> None:
    """Refuse outputs that cannot be written, or are inputs, before anything is segmented.

    Args:
        given: The dates.
        targets: The outputs.
        others: Inputs besides the dates.
        overwrite: Whether outputs may be replaced.

    Raises:
        UsageError: Saying which, and why.
    """
    for path, suffix in (
        (targets.changes, ".gpkg"),
        (targets.raster, ".tif"),
        (targets.osm, ".osc"),
        (targets.overture, ".parquet"),
    ):
        if path is not None and path.suffix.lower() != suffix:
            raise UsageError(f"{path}: name a file that ends in {suffix}")
    check_creation_options(targets.creation_options)
    inputs = [*others]
    for date in given:
        if date.is_scene and date.probabilities is not None:
            raise UsageError(
                f"{date.path}: is a scene, whose probabilities are made; leave "
                f"{date.probabilities} out"
            )
        inputs += [date.path, date.probabilities, *(date.scene.files if date.is_scene else ())]
    for path in targets.paths:
        check_writable(path, overwrite=overwrite, inputs=inputs)
    for date in given:
        for path in targets.kept(date.name) if date.is_scene else ():
            check_writable(path, overwrite=True, inputs=inputs)
    known = all(each.is_scene or each.probabilities is not None for each in given)
    if targets.raster is not None and not known:
        raise UsageError(f"{targets.raster}: needs the probabilities of both dates")


def check_ground(given: list[GivenDate]) -> None:
    """Refuse dates that share no ground, before anything is segmented.

    Raises:
        InputError: When a scene has no CRS or a file cannot be read, too.
    """
    # Across the antimeridian a box begins in the east; these are compared after segmentation.
    boxes = [box for each in given if (box := each.bounds()) is not None and box[0] <= box[2]]
    if len(boxes) == 2 and not overlaps(*boxes):
        raise do_not_overlap(*(each.path for each in given))
