"""Two sets of objects into a GeoPackage of changes, out of core."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from affine import Affine
from rasterio.features import rasterize

from geohr._runtime.files import check_writable
from geohr._runtime.redact import redact
from geohr._runtime.stop import Stop
from geohr.encoding import Bools, Floats32
from geohr.errors import InputError, UsageError
from geohr.geodesy import local_metric_crs, parse_crs
from geohr.scene.area import read_polygons
from geohr.scene.features import Box
from geohr.scene.files import open_raster
from geohr.scene.footprints import FootprintLayer, strip_edges
from geohr.workflows.change.counts import ChangeCounts
from geohr.workflows.change.evidence import ProbabilityRaster, raster_look
from geohr.workflows.change.groups import GroupFinder
from geohr.workflows.change.options import ChangeOptions
from geohr.workflows.change.output import open_changes
from geohr.workflows.change.raster import write_change_probability
from geohr.workflows.change.shift import SIDE, Look, ShiftField, estimate_shift
from geohr.workflows.change.verdicts import Judge

# Metres a pixel at which shifts are measured at the finest: with half-pixel peaks a tenth of a
# metre, and a window is 77 m wide.
PIXEL_MIN = 0.3
# Factors of the pixel at which a larger shift is looked for, where none was found: windows reach
# 19 m at the finest, 77 m and 300 m here.
COARSER = (4, 16)
# Windows that must agree on a shift that large.
AGREEING = 5
# Metres around what is compared, in which objects are read for the windows at its edge.
MARGIN = 50.0


@dataclass(frozen=True)
class Date:
    """One of the two dates: its objects and its probabilities.

    Attributes:
        objects: Vector file of its objects.
        probabilities: Raster that geohr wrote with them, or None.
        scene: The image, from which the shift is estimated, or None.
        reference: Whether these are footprints that exist, of which only those count that lie
            where the other date has objects.
    """

    objects: str
    probabilities: str | None = None
    scene: str | None = None
    reference: bool = False


@dataclass(frozen=True)
class Ground:
    """Both dates, open, and the ground on which they are compared.

    Attributes:
        dates: The dates.
        layers: Their objects.
        rasters: Their probabilities, or None.
        plane: A metric CRS around them.
        bounds: What is compared, west, south, east, north in the plane.
        area: The part of it that is asked for, a geometry of the plane; None for all.
    """

    dates: tuple[Date, Date]
    layers: tuple[FootprintLayer, FootprintLayer]
    rasters: tuple[ProbabilityRaster | None, ProbabilityRaster | None]
    plane: pyproj.CRS
    bounds: Box
    area: Any


def compare(
    before: Date,
    after: Date,
    out: Path,
    *,
    options: ChangeOptions | None = None,
    aoi: str | None = None,
    raster: Path | None = None,
    creation_options: Mapping[str, str] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    stop: Stop | None = None,
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
        creation_options: Options of GDAL's COG driver for `raster`, such as COMPRESS=ZSTD.
        overwrite: Replace `out` and `raster` if they exist.
        progress: Called with strips done and strips in all.
        stop: When requested, the run ends with an error before the next strip.

    Raises:
        UsageError: When `out` exists, is no .gpkg, or is one of the inputs.
        InputError: When a file cannot be read, the dates do not overlap, or the shift between them
            is larger than allowed.
        OutputError: When `out` cannot be written.
        InterruptedRunError: When `stop` was requested.
    """
    options = options or ChangeOptions()
    check_outputs(before, after, out, raster, aoi=aoi, overwrite=overwrite)
    with open_ground(before, after, aoi, out.parent) as ground:
        field = find_shift(ground, options)
        counts = write_changes(ground, field, out, options, progress, stop or Stop())
        if raster is not None and before.probabilities and after.probabilities:
            write_change_probability(
                before.probabilities,
                after.probabilities,
                raster,
                field=field,
                plane=ground.plane,
                creation_options=creation_options,
            )
    return counts


def check_outputs(
    before: Date, after: Date, out: Path, raster: Path | None, *, aoi: str | None, overwrite: bool
) -> None:
    """Refuse outputs that cannot be written, or are inputs."""
    if out.suffix.lower() != ".gpkg":
        raise UsageError(f"{out}: changes go to a GeoPackage; name a file that ends in .gpkg")
    inputs = [aoi]
    for date in (before, after):
        inputs += [date.objects, date.probabilities, date.scene]
    for path in (out, raster):
        if path is not None:
            check_writable(path, overwrite=overwrite, inputs=inputs)
    if raster is not None and (before.probabilities is None or after.probabilities is None):
        raise UsageError(f"{raster}: needs the probabilities of both dates")


@contextmanager
def open_ground(before: Date, after: Date, aoi: str | None, folder: Path) -> Iterator[Ground]:
    """Open both dates, and find where they can be compared, inside the polygons of a file if named.

    Objects that have no index or are remote are kept in `folder` for the time being.

    Raises:
        InputError: When a file cannot be read, or the dates do not overlap.
    """
    layers = FootprintLayer(before.objects), FootprintLayer(after.objects)
    plane = common_plane(layers, [before.probabilities, after.probabilities])
    with ExitStack() as stack:

        def probabilities(date: Date) -> ProbabilityRaster | None:
            if date.probabilities is None:
                return None
            return stack.enter_context(ProbabilityRaster(date.probabilities, plane))

        rasters = probabilities(before), probabilities(after)
        shown = [each.bounds_in(plane) for each in rasters if each is not None]
        area = None if aoi is None else read_area(aoi, plane)
        if area is not None:
            shown.append(shapely.bounds(area))
        if before.reference and rasters[1] is None and (box := layers[1].bounds_in(plane)):
            shown.append(box)
        bounds = common_bounds(layers, shown, plane, seen=None not in rasters)
        west, south, east, north = bounds
        around = (west - MARGIN, south - MARGIN, east + MARGIN, north + MARGIN)
        kept = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder, prefix=".geohr-")))
        near = (
            layers[0].near(around, plane, kept / "before.gpkg"),
            layers[1].near(around, plane, kept / "after.gpkg"),
        )
        yield Ground((before, after), near, rasters, plane, bounds, area)


def write_changes(
    ground: Ground,
    field: ShiftField,
    out: Path,
    options: ChangeOptions,
    progress: Callable[[int, int], None] | None,
    stop: Stop,
) -> ChangeCounts:
    """Compare both dates strip by strip, from north to south."""
    counts = ChangeCounts(shift=field)
    first, second = ground.layers
    edges = strip_edges(ground.bounds, first.count + second.count)
    judge = Judge(options, ground.plane, field, *ground.rasters)
    reach = max(options.shift, field.largest(ground.bounds)) + options.lean
    finder = GroupFinder(field, reach=reach, lean=options.lean)
    strips = zip(
        first.strips(ground.bounds, edges, ground.plane, ground.area),
        second.strips(ground.bounds, edges, ground.plane, ground.area),
        pairwise(edges),
        strict=True,
    )
    with open_changes(out, ground.plane, second.crs) as writer:
        for number, (old, new, (_, bottom)) in enumerate(strips, start=1):
            stop.check()
            writer.objects("before", old)
            writer.objects("after", new)
            counts.repaired += int(old.repaired.sum() + new.repaired.sum())
            groups = finder.add(old, new, bottom)
            changes = judge.judge(groups)
            counts.add(changes)
            writer.changes(changes)
            if progress is not None:
                progress(number, len(edges) - 1)
        dates = {
            name: redact(Path(date.scene or date.objects).name)
            for name, date in zip(("before", "after"), ground.dates, strict=True)
        }
        writer.facts = {**dates, "options": asdict(options), **counts.as_dict()}
    return counts


def common_plane(
    layers: tuple[FootprintLayer, FootprintLayer], probabilities: Sequence[str | None]
) -> pyproj.CRS:
    """A metric CRS around both layers; without objects, around what the dates show.

    Raises:
        InputError: When neither has objects, and nothing says what they show.
    """
    for layer in reversed(layers):
        if layer.bounds is not None:
            west, south, east, north = layer.bounds
            return local_metric_crs(layer.crs, (west + east) / 2, (south + north) / 2)
    for path in filter(None, probabilities):
        with open_raster(path) as raster:
            if raster.crs is not None:
                x, y = raster.transform @ (raster.width / 2, raster.height / 2)
                return local_metric_crs(parse_crs(raster.crs.to_wkt()), x, y)
    raise InputError(
        f"{redact(layers[0].path)} and {redact(layers[1].path)}: neither holds an object to compare"
    )


def common_bounds(
    layers: tuple[FootprintLayer, FootprintLayer],
    shown: list[Box],
    plane: pyproj.CRS,
    *,
    seen: bool,
) -> Box:
    """The ground that both dates show, as far as that is known; else that of all objects.

    Args:
        layers: The objects of both dates.
        shown: Bounds of the plane beyond which a date shows nothing.
        plane: A metric CRS.
        seen: Whether `shown` says it of both dates, so that they may be without objects there.

    Raises:
        InputError: When the dates do not overlap.
    """
    boxes = [box for each in layers if (box := each.bounds_in(plane)) is not None]
    whole = np.array(boxes).reshape(-1, 4)
    union = [(*whole[:, :2].min(axis=0), *whole[:, 2:].max(axis=0))] if boxes else []
    apart = len(boxes) == 2 and bool((whole[:, 2:].min(axis=0) < whole[:, :2].max(axis=0)).any())
    for inside in ([*union, *shown], shown) if seen else ([*union, *shown],):
        low, high = np.array(inside)[:, :2].max(axis=0), np.array(inside)[:, 2:].min(axis=0)
        if (low < high).all() and (shown or not apart):
            return float(low[0]), float(low[1]), float(high[0]), float(high[1])
    raise do_not_overlap(layers[0].path, layers[1].path)


def do_not_overlap(before: str, after: str) -> InputError:
    """The error for two dates without common ground."""
    return InputError(
        f"{redact(before)} and {redact(after)}: do not overlap, so that there is nothing to "
        "compare; check their CRSs"
    )


def read_area(aoi: str, plane: pyproj.CRS) -> Any:
    """The polygons of a file, as one prepared geometry of a plane.

    Raises:
        InputError: When it holds no polygon, or cannot be read.
    """
    polygons, crs = read_polygons(aoi)
    change = pyproj.Transformer.from_crs(crs, plane, always_xy=True)
    area = shapely.transform(polygons, lambda points: np.column_stack(change.transform(*points.T)))
    shapely.prepare(area)
    return area


def find_shift(ground: Ground, options: ChangeOptions) -> ShiftField:
    """The shift between both dates, from the images where there are two, else from the objects.

    Raises:
        InputError: When it is larger than allowed.
    """
    if options.shift == 0:
        return ShiftField.none()
    pixel = max([PIXEL_MIN, *(each.pixel for each in ground.rasters if each is not None)])
    before, after = ground.dates
    with ExitStack() as stack:
        looks: list[Look]
        if before.scene is not None and after.scene is not None:
            opened = [
                stack.enter_context(open_raster(each)) for each in (before.scene, after.scene)
            ]
            looks = [raster_look(each, ground.plane) for each in opened]
        else:
            looks = [object_look(each, ground.plane) for each in ground.layers]
        field = estimate_shift(looks[0], looks[1], ground.bounds, pixel)
        if field is not None and field.metres <= options.shift:
            return field
        for factor in COARSER if field is None else ():
            far = estimate_shift(looks[0], looks[1], ground.bounds, pixel * factor)
            if far is not None and far.windows >= AGREEING and far.spread < pixel * factor:
                field = far
                break
    if field is None or field.metres <= options.shift:
        return ShiftField.none()
    east, north = field.weights[0]
    raise InputError(
        f"{redact(before.scene or before.objects)}: lies {field.metres:.1f} m from "
        f"{redact(after.scene or after.objects)} ({east:+.1f} m east, {north:+.1f} m north would "
        f"bring it there), more than the {options.shift:g} m that are allowed; move it, or allow "
        "more with --shift"
    )


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
