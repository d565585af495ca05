"""A scene cut into chips: GeoTIFFs of one size, with their labels where there are any."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from geohr._runtime.files import check_writable, written_whole
from geohr.api.options import TileOptions
from geohr.errors import UsageError
from geohr.geobox import Window
from geohr.outputs.cog import write_raster
from geohr.scene import Scene, SceneReader, Tile
from geohr.scene.labels import read_classes
from geohr.scene.prepare import SceneLike, open_view
from geohr.tiling.grid import Grid

# Side of a chip in pixels, where none is asked for.
DEFAULT_SIDE = 512
# What lists the chips, in their folder.
MANIFEST = "manifest.json"
# Of the rows of windows, those for validation.
VALIDATION_SHARE = 0.2


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
    With labels, `out/manifest.json` lists the chips as `geohr.train` reads them; see
    `write_manifest`.

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
        UsageError: When a chip exists, or `manifest.json` is none of chips.
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
    others = read_manifest(out / MANIFEST) if labels is not None else []
    written: dict[str, Window] = {}
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
                written[name] = chip.window
            if progress is not None:
                progress(index + 1, len(grid))
    if labels is not None:
        entries = manifest_entries(scene, grid, written)
        kept = [each for each in others if each.get("place") != stem]
        with written_whole(out / MANIFEST) as part:
            part.write_text(json.dumps([*kept, *entries], indent=1) + "\n", "utf-8")
    return len(written)


def read_manifest(path: Path) -> list[dict[str, Any]]:
    """The entries of the manifest of a folder of chips; none where there is no manifest.

    Raises:
        UsageError: When the file is something else.
    """
    try:
        entries = json.loads(path.read_text("utf-8")) if path.exists() else []
    except (OSError, ValueError):
        entries = None
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise UsageError(f"{path}: is no manifest of chips; name another folder for the chips")
    return entries


def manifest_entries(scene: Scene, grid: Grid, chips: Mapping[str, Window]) -> list[dict[str, Any]]:
    """Describe chips to `geohr.train`: image, label, place, split.

    The chips of the lowest fifth of the rows of windows are for validation. Chips above that share
    pixels with them are left out, so that no weight is chosen on what was learnt; a scene of which
    nothing would be left to learn from is for training as a whole.

    Args:
        scene: The scene.
        grid: Its windows.
        chips: Name and window of each chip.
    """
    rows = grid.row_starts
    lowest = rows[-math.ceil(VALIDATION_SHARE * len(rows))]
    if not any(window.row + window.height <= lowest for window in chips.values()):
        lowest = scene.height
    told = {"gsd": scene.gsd} if scene.geobox.crs is None and scene.gsd is not None else {}
    return [
        {
            "image": f"images/{name}",
            "label": f"labels/{name}",
            "place": Path(scene.path).stem,
            "split": "validation" if window.row >= lowest else "train",
            **told,
        }
        for name, window in chips.items()
        if window.row >= lowest or window.row + window.height <= lowest
    ]


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
