"""Georeferenced tile predictions, made by any tool, joined into one raster of probabilities.

Tiles may overlap and differ in size; they must share a coordinate reference system and a pixel
grid. Memory is one band of rows as high as the highest tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geohr._runtime.files import check_writable
from geohr._runtime.messages import amount
from geohr.errors import InputError, UsageError
from geohr.geobox import GeoBox, Window
from geohr.options import StitchOptions
from geohr.outputs.cog import probability_writer
from geohr.outputs.creation_options import check_creation_options
from geohr.scene import Scene, SceneReader
from geohr.stitching.mosaic import Mosaic, ProbabilityRows

# Share of a pixel by which a tile may lie off the common grid.
GRID_TOLERANCE = 0.01


@dataclass(frozen=True)
class TilePlace:
    """A tile's file and its window in the mosaic."""

    scene: Scene
    window: Window


def stitch(
    tiles: Sequence[Path],
    out: str | Path,
    *,
    options: StitchOptions | None = None,
    creation_options: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> GeoBox:
    """Join tile predictions into one raster of probabilities, a band a class.

    Args:
        tiles: GeoTIFFs of probabilities, a band a class.
        out: The raster to write, `.tif`.
        options: Blend, nodata and scale.
        creation_options: Options of GDAL's COG driver, such as COMPRESS=ZSTD.
        overwrite: Replace `out` where it exists.

    Returns:
        The grid of the raster that was written.

    Raises:
        UsageError: When `out` exists or is no `.tif`, values need a scale, or a creation option
            is not allowed.
        InputError: When tiles cannot be read or do not fit together.
        OutputError: When `out` cannot be written.
    """
    options, out = options or StitchOptions(), Path(out)
    if out.suffix.lower() not in (".tif", ".tiff"):
        raise UsageError(f"{out}: stitch writes a .tif; got {out.suffix or 'no extension'}")
    check_creation_options(creation_options or {})
    scenes = [Scene.open(path, options) for path in tiles]
    inputs: list[str | Path] = [*tiles, *(name for scene in scenes for name in scene.files)]
    check_writable(out, overwrite=overwrite, inputs=inputs)
    geobox, placed = place(scenes)
    names = [f"class_{number}" for number in range(1, len(placed[0].scene.bands) + 1)]
    with probability_writer(out, geobox, names, tags={}, creation_options=creation_options) as sink:
        for rows in join(placed, geobox, options):
            sink.write(rows.probabilities)
    return geobox


def place(scenes: Sequence[Scene]) -> tuple[GeoBox, list[TilePlace]]:
    """Find the place of each tile on the common grid, from top to bottom.

    Raises:
        InputError: When there is no tile, or one does not fit the first.
    """
    if not scenes:
        raise InputError("no tile to stitch; name a folder with .tif files, or files")
    first = scenes[0]
    offsets = [offset(scene, first) for scene in scenes]
    top, left = min(row for row, _ in offsets), min(col for _, col in offsets)
    placed = [
        TilePlace(scene, Window(row - top, col - left, scene.height, scene.width))
        for scene, (row, col) in zip(scenes, offsets, strict=True)
    ]
    height = max(each.window.row_stop for each in placed)
    width = max(each.window.col_stop for each in placed)
    geobox = first.geobox.window(Window(top, left, height, width))
    return geobox, sorted(placed, key=lambda each: (each.window, each.scene.path))


def offset(scene: Scene, first: Scene) -> tuple[int, int]:
    """Row and column of a tile's corner, counted from the first tile's.

    Raises:
        InputError: When it is in another system, of another pixel size, or off the grid.
    """
    if scene.crs != first.crs:
        raise InputError(
            f"{scene.path}: is in {scene.crs}, but {first.path} is in {first.crs}; "
            "bring all tiles into one coordinate reference system"
        )
    if len(scene.bands) != len(first.bands):
        raise InputError(
            f"{scene.path}: has {amount(len(scene.bands), 'band')}, but {first.path} has "
            f"{len(first.bands)}; choose with --bands"
        )
    local = ~first.transform @ scene.transform
    col, row = local.c, local.f
    linear = np.array([local.a - 1, local.b, local.d, local.e - 1])
    if np.abs(linear).max() * max(scene.height, scene.width) > GRID_TOLERANCE:
        raise InputError(
            f"{scene.path}: its pixels are not those of {first.path} in size or direction; "
            "resample all tiles to one grid"
        )
    if max(abs(col - round(col)), abs(row - round(row))) > GRID_TOLERANCE:
        raise InputError(
            f"{scene.path}: lies {col - round(col):+.2f} columns and {row - round(row):+.2f} rows "
            f"off the pixel grid of {first.path}; resample all tiles to one grid"
        )
    return round(row), round(col)


def join(
    placed: Sequence[TilePlace], geobox: GeoBox, options: StitchOptions
) -> Iterator[ProbabilityRows]:
    """Finished rows of all tiles; `placed` comes from top to bottom."""
    mosaic = Mosaic(
        geobox.height,
        geobox.width,
        classes=len(placed[0].scene.bands),
        reach=max(each.window.height for each in placed),
        blend=options.blend,
    )
    reach = mosaic.reach
    done = 0
    for each in placed:
        while done < each.window.row:
            done = min(each.window.row, done + reach)
            yield mosaic.finish(done)
        with SceneReader(each.scene) as reader:
            tile = reader.read(each.scene.geobox.extent)
        scores = to_scores(tile.pixels, tile.valid, each.scene, options.scale)
        mosaic.add(each.window, tile.valid, scores)
    yield mosaic.finish(geobox.height)


def to_scores(
    pixels: NDArray[np.generic],
    valid: NDArray[np.bool_],
    scene: Scene,
    scale: tuple[float, ...] | None,
) -> NDArray[np.float32]:
    """Pixel values as probabilities in [0, 1]; 0 where not valid.

    Raises:
        UsageError: When values are whole numbers and no scale says what they mean.
        InputError: When values lie outside the scale.
    """
    if scale is None and not scene.dtype.startswith("float"):
        raise UsageError(
            f"{scene.path}: holds {scene.dtype}; say which values mean 0 and 1 with "
            "--scale MIN,MAX, such as --scale 0,255"
        )
    low, high = scale or (0.0, 1.0)
    scores = ((pixels.astype(np.float32) - low) / (high - low)).astype(np.float32)
    scores[:, ~valid] = 0
    if scores.min() < 0 or scores.max() > 1:
        raise InputError(
            f"{scene.path}: values from {pixels[:, valid].min()} to {pixels[:, valid].max()} are "
            f"no probabilities between {low:g} and {high:g}; give the range with --scale MIN,MAX"
        )
    return scores
