"""A scene cut into chips: GeoTIFFs of one size, with their labels where there are any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from geohr._runtime.files import check_writable
from geohr.api.options import TileOptions
from geohr.errors import UsageError
from geohr.outputs.cog import write_raster
from geohr.scene import Scene, SceneReader, Tile
from geohr.scene.labels import read_classes
from geohr.scene.prepare import SceneLike, open_view
from geohr.tiling.grid import Grid

# Side of a chip in pixels, where none is asked for.
DEFAULT_SIDE = 512


def tile(
    given: SceneLike,
    out: str | Path,
    *,
    labels: str | Path | None = None,
    options: TileOptions | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write a scene's windows as georeferenced GeoTIFFs.

    Windows lie inside the scene and are `tile` pixels a side where the scene is as large; those
    without a valid pixel are left out. Chips are `out/images/STEM_rROW_cCOL.tif`, labels have the
    same name under `out/labels/`: 0 background, class ids from 1, 255 where the scene has no data.

    Args:
        given: The scene, or several that are one mosaic.
        out: A folder; made where missing.
        labels: Polygons in any CRS, or a raster on the scene's grid; or None.
        options: Window size, overlap, bands, nodata.
        overwrite: Replace chips that exist.
        progress: Called with windows done and windows in all.

    Returns:
        How many chips were written.

    Raises:
        UsageError: When a chip exists.
        InputError: When the scene or the labels cannot be read.
        OutputError: When a chip cannot be written.
    """
    options = options or TileOptions()
    scene = open_view(given, options)
    side = options.tile or DEFAULT_SIDE
    grid = Grid(scene.height, scene.width, side, int(side * options.overlap), margin=0)
    out = Path(out)
    folders = [out / "images"] + ([out / "labels"] if labels is not None else [])
    if out.is_file():
        raise UsageError(f"{out}: is a file; name a folder for the chips")
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    stem = Path(scene.path).stem
    written = 0
    with SceneReader(scene) as reader:
        for index, window in enumerate(grid):
            chip = clipped(reader.read(window.clip(scene.height, scene.width)), scene)
            if chip.valid.any():
                name = f"{stem}_r{chip.window.row:06d}_c{chip.window.col:06d}.tif"
                for folder in folders:
                    check_writable(
                        folder / name, overwrite=overwrite, inputs=[*scene.files, labels]
                    )
                write_chip(out / "images" / name, scene, chip)
                if labels is not None:
                    write_labels(out / "labels" / name, scene, chip, labels)
                written += 1
            if progress is not None:
                progress(index + 1, len(grid))
    return written


def clipped(chip: Tile, scene: Scene) -> Tile:
    """The chip without what lies beyond the scene's area."""
    if scene.area is None:
        return chip
    return replace(chip, valid=chip.valid & scene.area.mask(chip.window))


def write_chip(path: Path, scene: Scene, chip: Tile) -> None:
    """Write a chip's pixels, with the scene's nodata value."""
    write_raster(
        path,
        chip.pixels,
        scene.geobox.window(chip.window),
        nodata=scene.nodata,
        valid=chip.valid if scene.mask_band or scene.area is not None else None,
    )


def write_labels(path: Path, scene: Scene, chip: Tile, labels: str | Path) -> None:
    """Write the labels of a chip."""
    classes = np.where(chip.valid, read_classes(str(labels), scene, chip.window), np.uint8(255))
    write_raster(path, classes[None], scene.geobox.window(chip.window), nodata=255)
