"""Two sets of objects into a GeoPackage of changes, out of core."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from affine import Affine
from rasterio.features import rasterize

from geohr._runtime.files import check_writable
from geohr.encoding import Bools, Floats32
from geohr.errors import InputError, UsageError
from geohr.geodesy import local_metric_crs
from geohr.scene.files import open_raster
from geohr.scene.footprints import FootprintLayer, Footprints, strip_edges
from geohr.workflows.change.evidence import ProbabilityRaster, raster_look
from geohr.workflows.change.groups import GroupFinder
from geohr.workflows.change.options import ChangeOptions
from geohr.workflows.change.output import ChangeWriter, open_changes
from geohr.workflows.change.raster import write_change_probability
from geohr.workflows.change.shift import SIDE, Look, ShiftField, estimate_shift
from geohr.workflows.change.verdicts import KINDS, SAME, UNSURE, Changes, Judge

# Metres a pixel at which shifts are measured at the finest: with half-pixel peaks a tenth of a
# metre, and a window is 77 m wide.
PIXEL_MIN = 0.3
Box = tuple[float, float, float, float]


@dataclass
class ChangeCounts:
    """The number of groups of each kind.

    Attributes:
        objects: By kind, how many groups.
        area_before: By kind, square metres of the earlier date.
        area_after: By kind, square metres of the later date.
        expected: By kind, the sum of confidences and their variance: with 1.96 standard deviations
            the interval of the number, if confidences are probabilities.
        unseen: Objects that the other date does not show, and that were not compared.
        repaired: Invalid polygons that were repaired.
        shift: The shift that was taken out.
    """

    objects: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    area_before: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    area_after: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    expected: dict[str, tuple[float, float]] = field(
        default_factory=lambda: dict.fromkeys(KINDS, (0.0, 0.0))
    )
    unseen: int = 0
    repaired: int = 0
    shift: ShiftField = field(default_factory=ShiftField.none)

    def add(self, changes: Changes) -> None:
        """Add the groups of a strip."""
        self.unseen += int(changes.unseen.sum())
        for kind in KINDS:
            mine = (changes.change == kind) & ~changes.unseen
            self.objects[kind] += int(mine.sum())
            self.area_before[kind] += float(changes.area_before[mine].sum())
            self.area_after[kind] += float(changes.area_after[mine].sum())
            # An unsure group may be what is likeliest for it.
            likely = (changes.likely == kind) & ~changes.unseen
            sure = changes.confidence[likely]
            mean, variance = self.expected[kind]
            self.expected[kind] = (
                mean + float(sure.sum()),
                variance + float((sure * (1 - sure)).sum()),
            )

    def interval(self, kind: str) -> tuple[float, float]:
        """The number of groups of a kind, at 95%, by the confidences."""
        mean, variance = self.expected[kind]
        half = 1.96 * variance**0.5
        return max(mean - half, 0.0), mean + half

    def as_dict(self) -> dict[str, Any]:
        """The counts as a dictionary, for JSON."""
        return {
            "shift_m": self.shift.metres,
            "shift_windows": self.shift.windows,
            "not_compared": self.unseen,
            "repaired": self.repaired,
            "kinds": {
                kind: {
                    "objects": self.objects[kind],
                    "area_before_m2": self.area_before[kind],
                    "area_after_m2": self.area_after[kind],
                    **({} if kind in (SAME, UNSURE) else {"interval": list(self.interval(kind))}),
                }
                for kind in KINDS
            },
        }

    def describe(self) -> str:
        """A description with one line per kind."""
        lines = [self.shift.describe()]
        for kind in KINDS:
            text = f"{kind}: {self.objects[kind]}"
            if self.objects[kind]:
                before, after = self.area_before[kind], self.area_after[kind]
                text += f", {before:,.0f} m2 before and {after:,.0f} m2 after"
            if kind not in (SAME, UNSURE) and self.objects[kind]:
                low, high = self.interval(kind)
                text += f" (by the confidences {low:.0f} to {high:.0f})"
            lines.append(text)
        if self.unseen:
            lines.append(f"not compared, as one date does not show them: {self.unseen}")
        if self.repaired:
            lines.append(f"invalid polygons repaired: {self.repaired}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Date:
    """One of the two dates: its objects and its probabilities.

    Attributes:
        objects: Vector file of its objects.
        probabilities: Raster that geohr wrote with them, or None.
        scene: The image, from which the shift is estimated, or None.
    """

    objects: str
    probabilities: str | None = None
    scene: str | None = None


def compare(
    before: Date,
    after: Date,
    out: Path,
    *,
    options: ChangeOptions | None = None,
    aoi: str | None = None,
    raster: Path | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ChangeCounts:
    """Write what changed between two dates into a GeoPackage.

    Its layer `changes` has a footprint a row with `change` (new, gone, grown, shrunk, reshaped,
    same, unsure), `likely`, `confidence`, `class`, `area_before_m2`, `area_after_m2`, `moved_m`,
    `before_ids` and `after_ids`; the layers `before` and `after` hold the objects of both dates.

    Args:
        before: The earlier date, or the footprints that exist.
        after: The later date.
        out: A .gpkg; it appears when it is whole.
        options: The thresholds of change.
        aoi: Vector file of polygons, in any CRS: objects that touch none are left out.
        raster: A .tif for the probability of change, pixel by pixel; for dates with probabilities.
        overwrite: Replace `out` and `raster` if they exist.
        progress: Called with strips done and strips in all.

    Raises:
        UsageError: When `out` exists or is no .gpkg.
        InputError: When a file cannot be read, the dates do not overlap, or the shift between them
            is larger than allowed.
        OutputError: When `out` cannot be written.
    """
    options = options or ChangeOptions()
    if out.suffix.lower() != ".gpkg":
        raise UsageError(f"{out}: changes go to a GeoPackage; name a file that ends in .gpkg")
    check_writable(out, overwrite=overwrite)
    if raster is not None:
        check_writable(raster, overwrite=overwrite)
        if before.probabilities is None or after.probabilities is None:
            raise UsageError(f"{raster}: needs the probabilities of both dates")
    first, second = FootprintLayer(before.objects), FootprintLayer(after.objects)
    plane = common_plane(first, second)
    counts = ChangeCounts()
    with ExitStack() as stack:
        rasters = [
            None
            if each.probabilities is None
            else stack.enter_context(ProbabilityRaster(each.probabilities, plane))
            for each in (before, after)
        ]
        bounds = common_bounds(first, second, rasters, plane)
        counts.shift = find_shift(before, after, (first, second), rasters, bounds, plane, options)
        area = None if aoi is None else read_area(aoi, bounds, plane)
        edges = strip_edges(bounds, first.count + second.count)
        judge = Judge(options, plane, counts.shift, rasters[0], rasters[1])
        finder = GroupFinder(counts.shift, shift=options.shift, lean=options.lean)
        writer = stack.enter_context(open_changes(out, plane, second.crs))
        strips = zip(
            first.strips(bounds, edges, plane, area),
            second.strips(bounds, edges, plane, area),
            strict=True,
        )
        total = len(edges) - 1
        for number, ((old, new), (_, bottom)) in enumerate(
            zip(strips, pairwise(edges), strict=True), start=1
        ):
            write_strip(writer, judge, finder, old, new, bottom, counts)
            if progress is not None:
                progress(number, total)
        counts.repaired = first.repaired + second.repaired
        writer.facts = counts.as_dict()
        if raster is not None and before.probabilities and after.probabilities:
            write_change_probability(
                before.probabilities, after.probabilities, raster, field=counts.shift, plane=plane
            )
    return counts


def write_strip(
    writer: ChangeWriter,
    judge: Judge,
    finder: GroupFinder,
    old: Footprints,
    new: Footprints,
    bottom: float,
    counts: ChangeCounts,
) -> None:
    """Judge the groups that a strip completes, and write them."""
    writer.objects("before", old)
    writer.objects("after", new)
    groups = finder.add(old, new, bottom)
    if groups.count:
        changes = judge.judge(groups)
        counts.add(changes)
        writer.changes(changes)


def common_plane(first: FootprintLayer, second: FootprintLayer) -> pyproj.CRS:
    """A metric CRS around both layers.

    Raises:
        InputError: When neither has objects.
    """
    layer = second if second.bounds is not None else first
    if layer.bounds is None:
        raise InputError(f"{first.path} and {second.path}: neither holds an object to compare")
    west, south, east, north = layer.bounds
    return local_metric_crs(layer.crs, (west + east) / 2, (south + north) / 2)


def common_bounds(
    first: FootprintLayer,
    second: FootprintLayer,
    rasters: list[ProbabilityRaster | None],
    plane: Any,
) -> Box:
    """The ground that both dates show, as far as rasters tell; else that of all objects.

    Raises:
        InputError: When the dates do not overlap.
    """
    shown = [each.bounds_in(plane) for each in rasters if each is not None]
    boxes = [each for each in (first.bounds_in(plane), second.bounds_in(plane)) if each]
    whole = np.array(boxes)
    union = (*whole[:, :2].min(axis=0), *whole[:, 2:].max(axis=0))
    inside = np.array([union, *shown])
    west, south = inside[:, :2].max(axis=0)
    east, north = inside[:, 2:].min(axis=0)
    if len(boxes) == 2 and not shown:
        apart = np.array(boxes)
        overlap = apart[:, 2:].min(axis=0) - apart[:, :2].max(axis=0)
        if (overlap < 0).any():
            west = east
    if west >= east or south >= north:
        raise InputError(
            f"{first.path} and {second.path}: do not overlap, so that there is nothing to compare; "
            "check their CRSs"
        )
    return float(west), float(south), float(east), float(north)


def read_area(aoi: str, bounds: Box, plane: pyproj.CRS) -> Any:
    """The polygons of a file, as one prepared geometry of the plane.

    Raises:
        InputError: When none lies where the dates are compared.
    """
    area = shapely.union_all(FootprintLayer(aoi).read(bounds, plane).shapes)
    if area.is_empty:
        raise InputError(f"{aoi}: holds no polygon where the two dates are compared")
    shapely.prepare(area)
    return area


def find_shift(
    before: Date,
    after: Date,
    layers: tuple[FootprintLayer, FootprintLayer],
    rasters: list[ProbabilityRaster | None],
    bounds: Box,
    plane: pyproj.CRS,
    options: ChangeOptions,
) -> ShiftField:
    """The shift between both dates, from the images where there are two, else from the objects.

    Raises:
        InputError: When it is larger than allowed.
    """
    if options.shift == 0:
        return ShiftField.none()
    pixel = max([PIXEL_MIN, *(each.pixel for each in rasters if each is not None)])
    with ExitStack() as stack:
        looks: list[Look]
        if before.scene is not None and after.scene is not None:
            opened = [
                stack.enter_context(open_raster(each)) for each in (before.scene, after.scene)
            ]
            looks = [raster_look(each, plane) for each in opened]
        else:
            looks = [object_look(each, plane) for each in layers]
        field = estimate_shift(looks[0], looks[1], bounds, pixel)
    if field is None:
        return ShiftField.none()
    if field.metres > options.shift:
        east, north = field.weights[0]
        raise InputError(
            f"{before.objects}: lies {field.metres:.1f} m from {after.objects} ({east:+.1f} m "
            f"east, {north:+.1f} m north would bring it there), more than the {options.shift:g} m "
            "that are allowed; move it, or allow more with --shift"
        )
    return field


def object_look(layer: FootprintLayer, plane: pyproj.CRS) -> Look:
    """Objects drawn as pixels of 1 on 0; see `geohr.workflows.change.shift.Look`."""

    def look(x: float, y: float, pixel: float) -> tuple[Floats32, Bools] | None:
        half = SIDE * pixel / 2
        shapes = layer.read((x - half, y - half, x + half, y + half), plane).shapes
        if len(shapes) == 0:
            return None
        drawn = rasterize(
            [(each, 1) for each in shapes],
            out_shape=(SIDE, SIDE),
            transform=Affine(pixel, 0, x - half, 0, -pixel, y + half),
            dtype=np.uint8,
        )
        return drawn.astype(np.float32), np.ones((SIDE, SIDE), bool)

    return look
