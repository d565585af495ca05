"""What a run will take, before it is made: windows, time, memory and disk."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geohr._runtime.html import lines
from geohr._runtime.messages import amount
from geohr._runtime.threads import mapped
from geohr.encoding import Batch
from geohr.engines.cores import cores
from geohr.engines.predictor import Predictor
from geohr.inference.disk import OutputCounts, disk_bytes, reading_bytes, valid_share
from geohr.inference.executor import LocalExecutor
from geohr.inference.job import CoarserJob
from geohr.inference.prepare import prepare
from geohr.models.card import Card
from geohr.models.model import Model, resolve_model
from geohr.options import SegmentOptions
from geohr.scene import BLOCK_ROWS_MAX, CACHE_BYTES, Scene
from geohr.scene.prepare import SceneLike
from geohr.tiling.blocks import BlockSize, cut_blocks, square
from geohr.tiling.grid import Grid

# The seconds for which the engine is tried out.
CALIBRATION_SECONDS = 1.0
# Memory of a run besides what grows with the scene's width: libraries, engine, polygons.
BASE_BYTES = 430_000_000
# Windows' heights of sums that are held: in the making, waiting, and being joined.
SUM_WINDOWS = 3


@dataclass(frozen=True)
class Plan:
    """The windows, time, memory and disk space that a run will take.

    Attributes:
        scene: The path of the scene.
        own_size: Columns and rows of the scene itself.
        height: Rows, as the scene is read.
        width: Columns, as the scene is read.
        crs: Coordinate reference system, or None.
        own_gsd: Ground sampling distance of the scene itself in metres, or None without a CRS.
        gsd: The one that it is read at.
        readings: Coarser ones that it is read at as well, whose windows, time and disk count.
        model_gsd: Smallest and largest that the model was trained on, in metres.
        valid: Estimated share of valid pixels.
        windows: Windows in all.
        predicted: Windows that will be predicted, estimated.
        engine: The name of the engine.
        tile: Window side in pixels.
        overlap: Pixels that neighbouring windows share at least.
        batch: Windows predicted at once by one worker.
        workers: Batches at once.
        blocks: Blocks that a cluster would predict.
        seconds: Expected time to predict, after the engine was tried out.
        memory: Expected peak in bytes.
        temporary: Disk that the run needs while it lasts, in bytes.
        final: Disk that the outputs will take, in bytes.
    """

    scene: str
    own_size: tuple[int, int]
    height: int
    width: int
    crs: str | None
    own_gsd: float | None
    gsd: float | None
    readings: tuple[float, ...]
    model_gsd: tuple[float, float]
    valid: float
    windows: int
    predicted: int
    engine: str
    tile: int
    overlap: int
    batch: int
    workers: int
    blocks: int
    seconds: float
    memory: int
    temporary: int
    final: int

    def _repr_html_(self) -> str:
        """The plan in a notebook."""
        return lines(self.describe())

    def describe(self) -> str:
        """The plan for a person, a line an entry."""
        gsd = "unknown" if self.gsd is None else f"{self.gsd:.3g} m"
        if self.own_gsd is not None and self.own_gsd != self.gsd:
            gsd = f"{self.own_gsd:.3g} m, read at {gsd}"
        if self.readings:
            gsd += f" and {', '.join(f'{each:g}' for each in self.readings)} m"
        size = " x ".join(str(side) for side in self.own_size)
        if self.own_size != (self.width, self.height):
            size += f", read as {self.width} x {self.height}"
        low, high = self.model_gsd
        fit = ""
        if self.gsd is not None and not low <= self.gsd <= high:
            fit = "; outside, so results may be poor"
        return "\n".join(
            (
                f"scene: {self.scene}",
                f"size: {size} pixels, {self.valid:.0%} valid",
                f"crs: {self.crs or 'none'}",
                f"ground sampling distance: {gsd}; the model's {low:g} to {high:g} m{fit}",
                f"windows: {self.predicted:,} of {self.windows:,} to predict, of "
                f"{self.tile} pixels with {self.overlap} shared",
                f"engine: {self.engine}, {amount(self.workers * self.batch, 'window')} at once",
                f"time: {self.seconds:.0f} s",
                f"memory: {self.memory / 1e9:.2f} GB",
                f"disk: {self.temporary / 1e9:.3f} GB while it runs, "
                f"{self.final / 1e9:.3f} GB after",
            )
        )

    def describe_cluster(self, workers: int) -> str:
        """The time on a cluster of one-core workers: that of all cores here, divided among them.

        Starting workers, sharing files and writing outputs come on top of it.
        """
        seconds = self.seconds * cores() / min(workers, self.blocks)
        return (
            f"cluster: {seconds:.0f} s to predict with {amount(workers, 'worker')} of one core: "
            f"the time above divided by the cores; {amount(self.blocks, 'block')}, of which a "
            "worker takes one at a time"
        )


def plan(
    scene: SceneLike,
    *,
    model: str | Path | Model | None = None,
    options: SegmentOptions | None = None,
    block_size: BlockSize | None = None,
) -> Plan:
    """Estimate what segmenting a scene takes, from samples of it and a second of the engine.

    Disk space is for one file of polygons, a class raster and a raster of probabilities.

    Args:
        scene: A raster file, an address, a STAC item, or several of them as one mosaic.
        model: A bundled name, a model file or a `Model`; by default the bundled building model.
        options: The options of segmentation; by default those of the model card.
        block_size: Windows of a block on a cluster; by default as many down as across.

    Raises:
        InputError: When the scene or the model cannot be used, or does not fit the other.
        EngineError: When the device is not there.
    """
    executor = LocalExecutor()
    job = prepare(scene, resolve_model(model), options or SegmentOptions(), executor)
    outputs = OutputCounts(len(job.card.classes), vectors=1, rasters=1, probabilities=1)
    return make_plan(
        job.scene,
        job.card,
        job.grid,
        executor.predictor,
        outputs=outputs,
        block_size=block_size,
        coarser=job.coarser,
    )


def make_plan(
    scene: Scene,
    card: Card,
    grid: Grid,
    predictor: Predictor,
    *,
    outputs: OutputCounts,
    block_size: BlockSize | None = None,
    coarser: Sequence[CoarserJob] = (),
) -> Plan:
    """Estimate what a run takes, with the model on its engine; see `plan`.

    Raises:
        InputError: When the scene cannot be read.
    """
    valid, touched = valid_share(scene, grid)
    own = scene.native
    predicted = math.ceil(touched * len(grid))
    temporary, final = disk_bytes(scene, grid, valid, outputs=outputs, resume=True)
    blocks = len(cut_blocks(grid, block_size or square(grid)))
    temporary += reading_bytes(coarser, valid, resume=True)
    jobs = [each.job for each in coarser]
    for coarse in jobs:
        predicted += math.ceil(touched * len(coarse.grid))
        blocks += len(cut_blocks(coarse.grid, block_size or square(coarse.grid)))
    return Plan(
        scene=scene.path,
        own_size=(own.width, own.height),
        height=scene.height,
        width=scene.width,
        crs=None if scene.crs is None else str(scene.crs),
        own_gsd=own.gsd,
        gsd=scene.gsd,
        readings=tuple(each.scene.gsd or math.nan for each in jobs),
        model_gsd=card.gsd,
        valid=valid,
        windows=len(grid) + sum(len(each.grid) for each in jobs),
        predicted=predicted,
        engine=predictor.engine,
        tile=grid.tile,
        overlap=grid.overlap,
        batch=predictor.batch,
        workers=predictor.workers,
        blocks=blocks,
        seconds=predicted * seconds_a_window(predictor, len(card.bands), grid.tile),
        memory=memory_bytes(scene, grid, classes=len(card.classes)),
        temporary=temporary,
        final=final,
    )


def seconds_a_window(predictor: Predictor, bands: int, tile: int) -> float:
    """Measured time of a window, all workers busy for `CALIBRATION_SECONDS`."""
    batch = np.zeros((predictor.batch, bands, tile, tile), np.float32)
    predictor.predict(batch)
    started = time.monotonic()

    def batches() -> Iterator[Batch]:
        while time.monotonic() - started < CALIBRATION_SECONDS:
            yield batch

    done = sum(1 for _ in mapped(predictor.predict, batches(), workers=predictor.workers))
    return (time.monotonic() - started) / (max(done, 1) * predictor.batch)


def memory_bytes(scene: Scene, grid: Grid, *, classes: int) -> int:
    """Expected peak: a constant, and what each column of the scene adds.

    A column is held as read (a window's height and a row of the file's blocks, twice while blocks
    are decoded) and as sums (about three windows' heights, in blocks on their way).
    """
    step = scene.block_height if scene.block_height <= BLOCK_ROWS_MAX else 1
    pixel = len(scene.bands) * np.dtype(scene.dtype).itemsize
    column = (grid.tile + step) * (pixel + 1) + step * pixel
    column += SUM_WINDOWS * grid.tile * (4 * classes + 5)
    return BASE_BYTES + CACHE_BYTES + scene.width * column
