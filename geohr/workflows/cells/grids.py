"""The pixel grid that scenes are placed on: that of the first, UTM zones, or one that is stated."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import rasterio.warp
from affine import Affine
from rasterio.crs import CRS

from geohr.errors import InputError, UsageError
from geohr.geobox import GeoBox, Window
from geohr.geodesy import ground_sampling_distance, parse_crs
from geohr.models.card import Card
from geohr.options import SegmentOptions
from geohr.scene import Scene
from geohr.scene.mosaic import MosaicSource
from geohr.scene.prepare import ResolutionRange, display_name, mosaic, open_scene, place, wanted_gsd
from geohr.scene.provenance import identify
from geohr.workflows.cells.options import CellOptions
from geohr.workflows.cells.plan import PlannedScene, Zone


@dataclass(frozen=True)
class ZoneDraft:
    """A zone before its options are resolved and its cells are cut.

    Attributes:
        zone: The zone, without edges.
        opened: Its scenes.
        side: The side of a cell in units of the CRS, where its edges are multiples of it there;
            None where cells are counted from the mosaic's corner.
    """

    zone: Zone
    opened: tuple[Scene, ...]
    side: float | None


def draft_zones(
    names: Sequence[str],
    opened: Sequence[Scene],
    options: SegmentOptions,
    asked: CellOptions,
    card: Card,
) -> list[ZoneDraft]:
    """The zones of scenes: one, or those of UTM.

    Args:
        names: The scenes, as tasks will open them.
        opened: The same, with the model's bands.
        options: The options of segmentation.
        asked: Which grid.
        card: The model's card.

    Raises:
        InputError: When a scene has no CRS, and so no place on another grid.
        UsageError: When the grid is no CRS in metres.
    """
    if asked.grid == "scene":
        return [_on_own_grid(names, opened, options)]
    for scene in opened:
        if scene.crs is None:
            raise InputError(
                f"{scene.path}: has no CRS, so it cannot be placed on another grid; set it with "
                "gdal_edit.py -a_srs, or leave out --grid"
            )
    suits = ResolutionRange(card.gsd, card.gsd_best or card.gsd)
    known = [each.gsd for each in opened if each.gsd is not None]
    wanted = None if options.gsd == "native" else wanted_gsd(opened[0], options.gsd, suits)
    pixel = float(f"{wanted or min(known):.4g}")
    if asked.grid != "utm":
        crs = parse_crs(asked.grid)
        if not crs.is_projected or crs.axis_info[0].unit_conversion_factor != 1:
            raise UsageError(f"grid must be a projected CRS in metres; got {asked.grid}")
        target = CRS.from_wkt(crs.to_wkt())
        return [_on_grid(names, opened, options, asked, ("", target, pixel))]
    spans = [_utm_zones(each) for each in opened]
    numbers = sorted({each for span in spans for each in span})
    drafts = []
    for epsg in numbers:
        inside = [place for place, span in enumerate(spans) if epsg in span]
        part, scenes = options, [opened[each] for each in inside]
        if len(numbers) > 1:
            part = dataclasses.replace(options, bbox=_zone_box(epsg, options.bbox))
            # What is read of a service of tiles depends on the box.
            scenes = [
                scene if scene.files else open_scene(names[each], part, suits).select(card.bands)
                for each, scene in zip(inside, scenes, strict=True)
            ]
        name = f"{epsg}-"
        grid = (name, CRS.from_epsg(epsg), pixel)
        drafts.append(_on_grid([names[each] for each in inside], scenes, part, asked, grid))
    return drafts


def _utm_zones(scene: Scene) -> list[int]:
    """The EPSG codes of the UTM zones that a scene lies in, of the hemisphere of its middle."""
    west, south, east, north = rasterio.warp.transform_bounds(
        scene.crs, "OGC:CRS84", *scene.geobox.bounds
    )
    first, last = (math.floor((lon + 180) / 6) for lon in (west, east))
    base = 32601 if south + north >= 0 else 32701
    return [base + each % 60 for each in range(first, last + 1)]


def _zone_box(epsg: int, bbox: tuple[float, ...] | None) -> tuple[float, ...]:
    """The part of a box that lies in a UTM zone, in degrees."""
    west = (epsg % 100 - 1) * 6.0 - 180
    box = (west, -80.0, west + 6, 84.0)
    if bbox is None:
        return box
    return (
        max(box[0], bbox[0]), max(box[1], bbox[1]), min(box[2], bbox[2]), min(box[3], bbox[3])
    )  # fmt: skip


def _on_own_grid(
    names: Sequence[str], opened: Sequence[Scene], options: SegmentOptions
) -> ZoneDraft:
    """Scenes on the pixel grid of the first, as `geohr segment` reads them."""
    first = made = opened[0]
    windows = [Window(0, 0, first.height, first.width)]
    whole = windows[0]
    if len(opened) > 1:
        made = mosaic(opened)
        assert isinstance(made.source, MosaicSource)
        windows = [each.window for each in made.source.parts]
        offset = ~first.transform @ made.transform
        whole = Window(round(offset.f), round(offset.c), made.height, made.width)
    gsd = made.gsd if options.scene_gsd is None else options.scene_gsd
    return ZoneDraft(
        _zone("", names, opened, windows, (first.geobox, whole), gsd, options), tuple(opened), None
    )


def _on_grid(
    names: Sequence[str],
    opened: Sequence[Scene],
    options: SegmentOptions,
    asked: CellOptions,
    grid: tuple[str, CRS, float],
) -> ZoneDraft:
    """Scenes on the pixels of a CRS, whose corners are multiples of a pixel."""
    name, crs, pixel = grid
    # The pixels are made as they are wanted.
    options = dataclasses.replace(options, gsd="native", scene_gsd=None)
    geobox = GeoBox(crs, Affine(pixel, 0, 0, 0, -pixel, 0), 1, 1)
    reference = dataclasses.replace(opened[0], geobox=geobox)
    placed = []
    for scene in opened:
        made, (row, col) = place(scene, reference)
        placed.append(Window(row, col, made.height, made.width))
    top, left = min(each.row for each in placed), min(each.col for each in placed)
    bottom = max(each.row_stop for each in placed)
    right = max(each.col_stop for each in placed)
    whole = Window(top, left, bottom - top, right - left)
    windows = [each.relative_to(whole) for each in placed]
    gsd = ground_sampling_distance(geobox.window(whole))
    zone = _zone(name, names, opened, windows, (geobox, whole), gsd, options)
    return ZoneDraft(zone, tuple(opened), asked.cell_metres)


def _zone(
    name: str,
    names: Sequence[str],
    opened: Sequence[Scene],
    windows: Sequence[Window],
    grid: tuple[GeoBox, Window],
    gsd: float | None,
    options: SegmentOptions,
) -> Zone:
    """A zone without edges."""
    geobox, whole = grid
    scenes = tuple(
        PlannedScene(each, _numbers(window), identify(scene.files))
        for each, scene, window in zip(names, opened, windows, strict=True)
    )
    title = opened[0].path if len(opened) == 1 else display_name([each.path for each in opened])
    return Zone(
        name=name,
        title=title,
        crs=None if geobox.crs is None else geobox.crs.to_wkt(),
        transform=tuple(geobox.transform)[:6],
        window=_numbers(whole),
        gsd=gsd,
        scenes=scenes,
        options=dataclasses.asdict(options),
        rows=(),
        cols=(),
        own_rows=(),
        own_cols=(),
        acquired=None,
    )


def _numbers(window: Window) -> tuple[int, int, int, int]:
    """A window as four numbers."""
    return window.row, window.col, window.height, window.width
