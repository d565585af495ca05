"""Scenes as they were asked for: as one, on the grid that suits a model, in part.

A scene is read on another pixel grid where its pixels are more than `FACTOR` times finer or
coarser than the model predicts best, and where its CRS counts degrees and its pixels are not square
on the ground.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio.warp
from affine import Affine
from rasterio.crs import CRS

from geohr.errors import InputError, UsageError
from geohr.geobox import GeoBox, Window
from geohr.geodesy import (
    ground_sampling_distance,
    local_metric_crs,
    local_scale,
    parse_crs,
)
from geohr.options import ViewOptions, is_length
from geohr.scene.mosaic import MosaicSource, PlacedScene
from geohr.scene.scene import Scene
from geohr.scene.stac import is_stac, rasters_of
from geohr.scene.stack import BandStack
from geohr.scene.tiles import host_of, is_service, is_tiled, open_tiles
from geohr.scene.warped import WarpedSource

# The factor by which pixels may be finer or coarser than the model's range without resampling.
FACTOR = 1.25
# No scene is enlarged by more, and none whose pixels are that much coarser than any trained on.
ENLARGED_MAX = 4.0
# A resampling by less than this share is left out.
SAME_SIZE = 0.01
# Share of a pixel by which a scene may lie off the grid of the mosaic that it is part of.
OFF_GRID = 0.01
# Pixels that another grid may leave out at the far edges: less than half, as centres count.
INSIDE = 0.49
# The largest ratio of the sides of a pixel, on the ground, that counts as square.
SQUARE = 1.1
# Share of the width of its middle pixels that those nearest to a pole may have without a warning.
NARROW = 0.5
# A scene that spans more longitude has no one local metric CRS.
WIDEST_DEGREES = 20.0


@dataclass(frozen=True)
class ResolutionRange:
    """Resolutions that suit a model, in metres a pixel.

    Attributes:
        trained: Smallest and largest that it was trained on.
        best: Smallest and largest that it predicts best.
    """

    trained: tuple[float, float]
    best: tuple[float, float]


# A scene, or several that are one mosaic.
SceneLike = str | Path | Sequence[str | Path]


def open_view(
    given: SceneLike,
    options: ViewOptions,
    *,
    bands: Sequence[str] | None = None,
    suits: ResolutionRange | None = None,
) -> Scene:
    """The scene that was asked for.

    Args:
        given: A file, a URL, a STAC Item or ItemCollection, or several of them, which are
            read as one mosaic: where two have a valid pixel, the later one's is taken.
        options: The options of reading.
        bands: Names of the bands of the model that it is for; None for all bands.
        suits: Resolutions that suit this model.

    Raises:
        InputError: When a scene cannot be used, or several do not fit together.
        UsageError: When what was asked for cannot be had of any scene.
    """
    # Numbers of bands are counted through all rasters of a stack.
    own = replace(options, bands=None) if options.bands_from else options
    scenes = [open_scene(name, own, suits) for name in names_of(given, options)]
    for each in scenes:
        if each.crs is not None and each.transform.is_identity:
            warnings.warn(
                f"{each.path}: has a CRS but no geotransform, so that its pixels are taken to be "
                "one unit wide and to begin at 0, 0; set it with gdal_edit.py -a_ullr",
                stacklevel=2,
            )
    if options.bands_from:
        joined = stack(scenes[0] if len(scenes) == 1 else mosaic(scenes), options)
        scene = joined if bands is None else joined.select(bands)
    else:
        chosen = scenes if bands is None else [each.select(bands) for each in scenes]
        scene = chosen[0] if len(chosen) == 1 else mosaic(chosen)
    if options.scene_gsd is not None:
        scene = replace(scene, gsd=options.scene_gsd)
    return on_wanted_grid(scene, options, suits).within(aoi=options.aoi, bbox=options.bbox)


def open_scene(name: str, options: ViewOptions, suits: ResolutionRange | None) -> Scene:
    """One raster, or service or file of tiles, as it is; `suits` chooses its zoom level.

    Raises:
        InputError: When it cannot be used.
        UsageError: When what was asked for cannot be had of it.
    """
    if is_tiled(name):
        return open_tiles(name, options, coarsest_wanted(options, suits))
    return Scene.open(name, options)


def names_of(given: SceneLike, options: ViewOptions) -> list[str]:
    """The rasters that were named, those that STAC names among them."""
    named = [given] if isinstance(given, (str, Path)) else list(given)
    if not named:
        raise UsageError("no scene named; give a file or a URL")
    found = []
    for each in map(str, named):
        found += rasters_of(each, options) if is_stac(each) else [each]
    if not found:
        raise InputError(f"{named[0]}: an ItemCollection without items; give one with a scene")
    return found


def display_name(given: SceneLike) -> str:
    """The name of a scene, or of several, for people; of a service of tiles only its host."""
    if isinstance(given, (str, Path)):
        return f"tiles of {host_of(str(given))}" if is_service(str(given)) else str(given)
    first = display_name(given[0]) if given else ""
    return first if len(given) == 1 else f"{first} and {len(given) - 1} more"


def stack(first: Scene, options: ViewOptions) -> Scene:
    """A scene with the bands of other rasters after its own, on its pixel grid.

    Numbers of bands are counted through all of them.

    Raises:
        InputError: When one does not lie where the scene does, or there are fewer bands.
    """
    parts = [first]
    for name in options.bands_from or ():
        other = Scene.open(name, replace(options, bands=None))
        if other.geobox != first.geobox:
            if first.crs is None or other.crs is None:
                raise InputError(
                    f"{name}: cannot be brought to the grid of {first.path}, as one of them has no "
                    "CRS; set it with gdal_edit.py -a_srs"
                )
            placed, corner = place(other, first)
            if not first.geobox.extent.intersects(Window(*corner, *placed.geobox.shape)):
                raise InputError(f"{name}: lies outside of {first.path}, whose band it is to be")
            other = warp(other, first.geobox)
        parts.append(other)
    names = tuple(name for part in parts for name in part.band_names)
    joined = replace(first, source=BandStack(tuple(parts)), band_names=names)
    if options.bands is None:
        return joined
    if max(options.bands) > len(joined.bands):
        raise InputError(
            f"{first.path}: band {max(options.bands)} was asked for, but with --bands-from there "
            f"are {len(joined.bands)}; choose with --bands"
        )
    return joined.with_bands([band - 1 for band in options.bands])


def mosaic(scenes: Sequence[Scene]) -> Scene:
    """Several scenes as one, on the pixel grid of the first.

    Raises:
        InputError: When one has no CRS, or other bands or another data type than the first.
    """
    first = scenes[0]
    for scene in scenes:
        if scene.crs is None:
            raise InputError(
                f"{scene.path}: has no CRS, so it cannot be placed in a mosaic; "
                "set it with gdal_edit.py -a_srs"
            )
        for what, here, there in (
            ("bands", len(scene.bands), len(first.bands)),
            ("pixels of type", scene.dtype, first.dtype),
        ):
            if here != there:
                raise InputError(
                    f"{scene.path}: has {what} {here}, but {first.path} has {there}; "
                    "scenes of a mosaic share their bands; choose with --bands"
                )
    placed = [place(scene, first) for scene in scenes]
    top, left = (min(window[axis] for _, window in placed) for axis in (0, 1))
    parts = tuple(
        PlacedScene(scene, Window(row - top, col - left, scene.height, scene.width))
        for scene, (row, col) in placed
    )
    height = max(each.window.row_stop for each in parts)
    width = max(each.window.col_stop for each in parts)
    geobox = first.geobox.window(Window(top, left, height, width))
    return replace(
        first,
        path=display_name([scene.path for scene in scenes]),
        geobox=geobox,
        source=MosaicSource(parts, width),
        band_names=(),
        # In Web Mercator it is another one in the middle of the mosaic than in its first scene.
        gsd=ground_sampling_distance(geobox),
    )


def place(scene: Scene, first: Scene) -> tuple[Scene, tuple[int, int]]:
    """A scene on the grid of `first`, resampled where it is not, and its first row and column."""
    local = ~first.transform @ scene.transform
    span = max(scene.height, scene.width)
    apart = max(abs(local.a - 1), abs(local.b), abs(local.d), abs(local.e - 1)) * span
    off = max(abs(local.c - round(local.c)), abs(local.f - round(local.f)))
    if scene.crs == first.crs and apart < OFF_GRID and off < OFF_GRID:
        return scene, (round(local.f), round(local.c))
    steps = np.linspace(0, 1, 21)
    cols, rows = np.meshgrid(steps * scene.width, steps * scene.height)
    x, y = scene.geobox.to_world(cols.ravel(), rows.ravel())
    if scene.crs != first.crs:
        x, y = rasterio.warp.transform(scene.crs, first.crs, x, y)
    col, row = first.geobox.to_pixels(np.asarray(x), np.asarray(y))
    if not (np.isfinite(col).all() and np.isfinite(row).all()):
        raise InputError(
            f"{scene.path}: does not lie where {first.path}'s CRS {first.crs} can map it"
        )
    top, left = math.floor(row.min()), math.floor(col.min())
    height, width = math.ceil(row.max()) - top, math.ceil(col.max()) - left
    return warp(scene, first.geobox.window(Window(top, left, height, width))), (top, left)


def warp(scene: Scene, geobox: GeoBox, *, nearest: bool = False, by_centre: bool = False) -> Scene:
    """A scene on another pixel grid; see `geohr.scene.warped.WarpedSource`."""
    gsd = scene.gsd
    if geobox.crs is not None and (gsd is None or scene.crs != geobox.crs):
        gsd = ground_sampling_distance(geobox)
    return replace(
        scene,
        geobox=geobox,
        source=WarpedSource(scene, geobox, nearest, by_centre),
        gsd=gsd,
        corner=(0, 0),
        area=None,
        warped_from=scene,
    )


def on_wanted_grid(scene: Scene, options: ViewOptions, suits: ResolutionRange | None) -> Scene:
    """The scene itself, or on the grid that the options ask for.

    Raises:
        InputError: When its resolution is not known and a certain one is asked for.
    """
    if options.gsd == "native":
        return scene
    wanted = wanted_gsd(scene, options.gsd, suits)
    # Who says how large pixels are does not trust the georeference.
    degrees = scene.crs is not None and parse_crs(scene.crs).is_geographic
    if degrees and options.scene_gsd is None and not (wanted is None and is_square(scene)):
        return on_metric_grid(scene, wanted)
    if wanted is None or scene.gsd is None or abs(wanted / scene.gsd - 1) < SAME_SIZE:
        return scene
    factor = wanted / scene.gsd
    # A scene that is less than half of one such pixel holds nothing to see at that resolution.
    if max(scene.height, scene.width) < factor / 2:
        return scene
    # All centres of the scene's pixels lie inside, so that each gets a result.
    height, width = (
        max(round(side / factor), math.ceil((side - INSIDE) / factor))
        for side in (scene.height, scene.width)
    )
    made = warp(scene, GeoBox(scene.crs, scene.transform @ Affine.scale(factor), height, width))
    return replace(made, gsd=wanted)


def coarsest_wanted(options: ViewOptions, suits: ResolutionRange | None) -> float | None:
    """The largest pixel, in metres, that a scene may be read with as it is; None for any."""
    if is_length(options.gsd):
        return float(options.gsd) * (1 + SAME_SIZE)
    return None if suits is None else suits.best[1] * FACTOR


def wanted_gsd(scene: Scene, asked: str, suits: ResolutionRange | None) -> float | None:
    """The ground sampling distance to read a scene at; None for its own."""
    if asked != "auto":
        if scene.gsd is None:
            raise InputError(
                f"{scene.path}: has no CRS, so its resolution is unknown; "
                "give it with --scene-gsd METRES"
            )
        return float(asked)
    if suits is None or scene.gsd is None or scene.gsd > suits.trained[1] * ENLARGED_MAX:
        return None
    finest, coarsest = suits.best
    if scene.gsd < finest / FACTOR:
        return finest
    return max(coarsest, scene.gsd / ENLARGED_MAX) if scene.gsd > coarsest * FACTOR else None


def is_square(scene: Scene) -> bool:
    """Whether pixels of a scene in degrees are as long as wide on the ground, within `SQUARE`.

    The shape changes with the latitude alone: it is looked at from the top to the bottom.
    """
    rows = np.array([0.0, 0.5, 1.0]) * scene.height
    lon, lat = scene.geobox.to_world(np.full(3, scene.width / 2), rows)
    if np.abs(lat).max() >= 90:
        return False
    a, b, _, d, e, _ = scene.transform[:6]
    metres = local_scale(scene.crs, lon, lat) @ np.array([[a, b], [d, e]])
    long, short = np.linalg.svd(metres, compute_uv=False).T
    return bool((long <= SQUARE * short).all())


def on_metric_grid(scene: Scene, wanted: float | None) -> Scene:
    """The scene in a local metric CRS, on its own datum.

    Raises:
        InputError: When it is too wide for one.
    """
    west, south, east, north = scene.geobox.bounds
    x, y = (west + east) / 2, (south + north) / 2
    if east - west > WIDEST_DEGREES:
        raise InputError(
            f"{scene.path}: spans {east - west:.0f} degrees of longitude, too many for one metric "
            "CRS; cut it, or read it as it is with --gsd native"
        )
    if math.cos(math.radians(max(-south, north))) < NARROW * math.cos(math.radians(y)):
        warnings.warn(
            f"{scene.path}: reaches so near to a pole that its pixels become slivers there, of "
            "which many share one result; bring it into EPSG:3413 or 3031 with gdalwarp",
            stacklevel=2,
        )
    metric = local_metric_crs(scene.crs, x, y)
    crs = CRS.from_wkt(metric.to_wkt())
    bounds = rasterio.warp.transform_bounds(
        scene.crs, crs, west, south, east, north, densify_pts=101
    )
    middle = np.array([[(bounds[0] + bounds[2]) / 2], [(bounds[1] + bounds[3]) / 2]])
    gsd = wanted or scene.gsd or 1.0
    pixel = gsd / math.sqrt(abs(np.linalg.det(local_scale(metric, *middle)[0])))
    left, bottom = (math.floor(each / pixel) for each in bounds[:2])
    right, top = (math.ceil(each / pixel) for each in bounds[2:])
    transform = Affine(pixel, 0, left * pixel, 0, -pixel, top * pixel)
    return warp(scene, GeoBox(crs, transform, top - bottom, right - left))
