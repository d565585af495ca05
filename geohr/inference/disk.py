"""Disk that a run needs, and whether it is there."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from geohr.errors import OutputError
from geohr.inference.job import CoarserJob
from geohr.scene import Scene
from geohr.tiling.grid import Grid
from geohr.tiling.spread import spread_tiles

# Windows that the valid share is estimated from.
SAMPLES = 48
# Bytes a valid pixel takes in a compressed raster of classes: twice what towns were seen to.
CLASSES_BYTES = 0.06
# Bytes a valid pixel and class takes in a compressed raster of probabilities, seen likewise.
PROBABILITIES_BYTES = 0.6
# Bytes a valid pixel takes in a file of polygons, seen likewise.
VECTOR_BYTES = 0.2
# Rasters are written as rows and then copied into their final layout.
COPIES = 2


@dataclass(frozen=True)
class OutputCounts:
    """The outputs of a run, as far as their size depends on them.

    Attributes:
        classes: The number of classes of the model.
        vectors: Files of polygons.
        rasters: Rasters of classes, or of as much as one.
        probabilities: Rasters of probabilities.
    """

    classes: int
    vectors: int
    rasters: int
    probabilities: int


def valid_share(scene: Scene, grid: Grid) -> tuple[float, float]:
    """Estimated shares of valid pixels and of windows with a valid pixel."""
    valid = [tile.valid for tile in spread_tiles(scene, grid, SAMPLES)]
    pixels = sum(float(each.mean()) for each in valid)
    return pixels / len(valid), sum(bool(each.any()) for each in valid) / len(valid)


def disk_bytes(
    scene: Scene, grid: Grid, valid: float, *, outputs: OutputCounts, resume: bool
) -> tuple[int, int]:
    """Disk that a run needs while it lasts, and that its outputs keep.

    A share `valid` of the scene's pixels is valid; `resume` keeps finished blocks meanwhile.
    """
    pixels = scene.height * scene.width * valid
    probabilities = outputs.probabilities * outputs.classes * PROBABILITIES_BYTES
    images = pixels * (outputs.rasters * CLASSES_BYTES + probabilities)
    polygons = pixels * outputs.vectors * VECTOR_BYTES
    shared = min(2 * grid.overlap / (grid.tile - grid.overlap), 2.0)
    kept = (4 * outputs.classes + 5) * shared + outputs.classes
    blocks = scene.height * scene.width * kept if resume else 0
    return math.ceil(images * COPIES + polygons + blocks), math.ceil(images + polygons)


def reading_bytes(readings: Sequence[CoarserJob], valid: float, *, resume: bool) -> int:
    """Disk that coarser readings need in the work folder while a run lasts; see `disk_bytes`."""
    total = 0
    for reading in readings:
        job = reading.job
        outputs = OutputCounts(len(job.card.classes), vectors=0, rasters=0, probabilities=1)
        total += disk_bytes(job.scene, job.grid, valid, outputs=outputs, resume=resume)[0]
    return total


def check_disks(
    folder: Path,
    root: Path,
    scene: Scene,
    grid: Grid,
    *,
    outputs: OutputCounts,
    keeps: bool,
    readings: Sequence[CoarserJob] = (),
) -> None:
    """Refuse a run whose disk, or whose work folder's, cannot hold what goes there.

    Args:
        folder: The folder of outputs and temporary files.
        root: The folder of all work folders; it need not be there yet.
        scene: The scene to segment.
        grid: Its windows.
        outputs: The outputs to write.
        keeps: Whether finished blocks are kept in the work folder.
        readings: Coarser readings, whose probabilities lie there, too.

    Raises:
        OutputError: With what is free and what is needed.
    """
    held = next(each for each in (root.resolve(), *root.resolve().parents) if each.exists())
    together = held.stat().st_dev == folder.stat().st_dev
    here = readings if together else ()
    check_disk(folder, scene, grid, outputs=outputs, resume=keeps and together, readings=here)
    if (keeps or readings) and not together:
        blocks = dataclasses.replace(outputs, vectors=0, rasters=0, probabilities=0)
        check_disk(held, scene, grid, outputs=blocks, resume=keeps, readings=readings)


def check_disk(
    folder: Path,
    scene: Scene,
    grid: Grid,
    *,
    outputs: OutputCounts,
    resume: bool,
    readings: Sequence[CoarserJob] = (),
) -> None:
    """Refuse a run whose disk, that of `folder`, cannot hold the result; see `check_disks`.

    Raises:
        OutputError: With what is free and what is needed.
    """

    def needs(valid: float) -> int:
        needed, _ = disk_bytes(scene, grid, valid, outputs=outputs, resume=resume)
        return needed + reading_bytes(readings, valid, resume=resume)

    free = shutil.disk_usage(folder).free
    if free >= needs(1.0):
        return
    valid, _ = valid_share(scene, grid)
    needed = needs(valid)
    if free < needed:
        raise OutputError(
            f"{folder}: {free / 1e6:.1f} MB free, and the run needs about {needed / 1e6:.1f} MB; "
            "make room, name outputs or --work-dir on another disk, or ask for fewer outputs"
        )
