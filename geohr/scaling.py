"""How long a cluster will take, from what a block was measured to take here.

A worker predicts a block and writes it; the scheduler passes a name to it and an answer back; the
driver reads blocks in order, joins them, traces polygons and writes. Whichever of the three needs
longest for all blocks binds:

    seconds = startup + max(blocks x block / workers, blocks x dispatch, blocks x assembly) + rest

where the rest is the last block of a worker and the last row of blocks of the driver.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from geohr.blocks import Block, BlockScores, extent
from geohr.calibration import spread
from geohr.grid import Window
from geohr.journal import block_path, from_arrays, save_block
from geohr.mosaic import NODATA, classify
from geohr.polygons import Tracer, Tracing
from geohr.raster import class_sink, probability_sink
from geohr.run import EVEN, Run
from geohr.scene import SceneReader
from geohr.stitching import Extent
from geohr.streaming import predict_block

SAMPLE_BLOCKS = 4
"""Blocks that are tried out, at most."""
SAMPLE_SECONDS = 10.0
"""How long, about."""
SAMPLE_PIXELS = 2**23
"""Pixels that the driver's work is tried out on."""
DISPATCH_SECONDS = 0.002
"""Of scheduler and driver for one block: seen with blocks that take no time."""


@dataclass(frozen=True)
class Costs:
    """What a block takes, and how many there are. Seconds are of one core.

    Attributes:
        blocks: Of the scene.
        across: Blocks from its left to its right edge.
        startup: Seconds until a new process has opened scene and model.
        block: Seconds of a worker for a block: read, predict, sum, write.
        assembly: Seconds of the driver for a block: read, join, trace, write.
        dispatch: Seconds of scheduler and driver to hand it out.
        bytes: Of a block in the work folder.
    """

    blocks: int
    across: int
    startup: float
    block: float
    assembly: float
    dispatch: float
    bytes: int


@dataclass(frozen=True)
class Forecast:
    """What a run on a cluster will take.

    Attributes:
        workers: Of one core each.
        seconds: From start to end.
        binds: What needs longest for all blocks: `workers`, `scheduler` or `driver`.
        enough: Workers beyond which more of them change nothing.
        stored: Bytes in the work folder at the end.
        rate: Bytes a second that are written there.
    """

    workers: int
    seconds: float
    binds: str
    enough: int
    stored: int
    rate: float

    def describe(self) -> str:
        """The forecast for a person, a line an entry."""
        return "\n".join(
            (
                f"cluster: {self.workers} workers of one core, {self.seconds:.0f} s; the "
                f"{self.binds} bind{'s' if self.binds != 'workers' else ''}, and more than "
                f"{self.enough} workers change nothing",
                f"work folder: {self.stored / 1e9:.3f} GB, written at {self.rate / 1e6:.1f} MB/s",
            )
        )


def forecast(costs: Costs, workers: int) -> Forecast:
    """What a run takes with so many workers."""
    totals = {
        "workers": costs.blocks * costs.block / workers,
        "scheduler": costs.blocks * costs.dispatch,
        "driver": costs.blocks * costs.assembly,
    }
    binds = max(totals, key=lambda each: totals[each])
    rest = costs.block / 2 + min(costs.across, costs.blocks) * costs.assembly
    seconds = costs.startup + totals[binds] + rest
    serial = max(costs.dispatch, costs.assembly)
    stored = costs.blocks * costs.bytes
    return Forecast(
        workers=workers,
        seconds=seconds,
        binds=binds,
        enough=max(1, min(costs.blocks, round(costs.block / serial))),
        stored=stored,
        rate=stored / totals[binds],
    )


def measure_costs(run: Run) -> Costs:
    """Try out some blocks spread over the scene, and the start of a process.

    Args:
        run: Whose `cut` is that of the cluster, and whose predictor computes on one core.

    Raises:
        InputError: When the scene cannot be read.
    """
    blocks = run.blocks
    chosen = [blocks[index] for index in spread(len(blocks))[:SAMPLE_BLOCKS]]
    seconds: list[float] = []
    size, tried = 0, chosen
    with TemporaryDirectory(prefix="geohr-plan-") as name, SceneReader(run.scene) as reader:
        folder = Path(name)
        warm_up(run)
        for number, block in enumerate(chosen, start=1):
            started = time.monotonic()
            scores = predict_block(
                reader,
                run.grid,
                block,
                run.predictor,
                normalizer=run.normalizer,
                classes=len(run.card.classes),
                blend=run.options.blend,
            )
            save_block(folder, block, scores)
            seconds.append(time.monotonic() - started)
            size += block_path(folder, block).stat().st_size
            if sum(seconds) > SAMPLE_SECONDS:
                tried = chosen[:number]
                break
        assembly = assembly_seconds(run, tried, folder)
    return Costs(
        blocks=len(blocks),
        across=sum(block.row == 0 for block in blocks),
        startup=startup_seconds(run),
        block=float(np.mean(seconds)),
        assembly=assembly,
        dispatch=DISPATCH_SECONDS,
        bytes=size // len(seconds),
    )


def warm_up(run: Run) -> None:
    """Let the engine do what it does only the first time."""
    shape = (run.predictor.batch, len(run.card.bands), run.grid.tile, run.grid.tile)
    run.predictor.predict(np.zeros(shape, np.float32))


def startup_seconds(run: Run) -> float:
    """Seconds in which a new process imports what it needs and opens scene and model."""
    code = (
        "import sys, geohr.segmenting; from geohr.model import Model; "
        "from geohr.backends import open_predictor; from geohr.options import SegmentOptions; "
        "open_predictor(Model.load(sys.argv[1]), int(sys.argv[2]), "
        "SegmentOptions(backend=sys.argv[3]))"
    )
    if run.model.path is None or run.options.precision == "int8":
        code, arguments = "import geohr.segmenting, geohr.backends", []
    else:
        arguments = [str(run.model.path), str(run.grid.tile), run.options.backend]
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
    return time.monotonic() - started


def assembly_seconds(run: Run, blocks: Sequence[Block], folder: Path) -> float:
    """Seconds in which the driver turns a block into polygons and rasters.

    What a raster takes besides its pixels would weigh more with a few blocks than with all, so
    that they are repeated, one below the other, until there are `SAMPLE_PIXELS`.

    Args:
        run: The run.
        blocks: Of it, kept in the folder.
        folder: Of the blocks and of what is written.
    """
    started = time.monotonic()
    pieces = []
    for block in blocks:
        with np.load(block_path(folder, block), allow_pickle=False) as arrays:
            scores = from_arrays(dict(arrays))
        pieces.append(joined(scores, extent(run.grid, block), len(run.card.classes)))
    reading = (time.monotonic() - started) / len(blocks)
    width = min(piece.shape[2] for piece in pieces)
    sample = np.concatenate([piece[:, :, :width] for piece in pieces], axis=1)
    height = sample.shape[1]
    times = max(1, SAMPLE_PIXELS // (height * width))
    started = time.monotonic()
    write_sample(run, sample, times, folder)
    pixel = (time.monotonic() - started) / (times * height * width)
    return float(reading + pixel * run.scene.height * run.scene.width / len(run.blocks))


def write_sample(run: Run, rows: NDArray[np.uint8], times: int, folder: Path) -> None:
    """Write rows of probabilities several times over, as a run does that writes all outputs."""
    height, width = rows.shape[1] * times, rows.shape[2]
    ground = Extent(run.scene.crs, run.scene.transform, height, width)
    names = [label.name for label in run.card.classes]
    tracer = Tracer(
        Tracing(
            width,
            transform=run.scene.transform,
            crs=run.scene.crs,
            options=run.options,
            threshold=run.options.threshold or EVEN,
        )
    )
    with (
        class_sink(folder / "classes.tif", ground, {}, {}) as classes,
        probability_sink(folder / "probabilities.tif", ground, names, {}) as probabilities,
    ):
        for _ in range(times):
            ids = classify(rows, run.options.threshold)
            classes.write(ids)
            probabilities.write(rows)
            tracer.push(ids, rows)
        tracer.finish()


def joined(scores: BlockScores, whole: Window, classes: int) -> NDArray[np.uint8]:
    """Probabilities of a block's pixels, as if no other touched them."""
    probabilities = np.full((classes, whole.height, whole.width), NODATA, np.uint8)
    pieces = [(part.window, part.probabilities()) for part in scores.parts]
    if scores.core is not None:
        pieces.append((scores.core, scores.finished))
    for window, values in pieces:
        rows = slice(window.row - whole.row, window.row_stop - whole.row)
        cols = slice(window.col - whole.col, window.col_stop - whole.col)
        probabilities[:, rows, cols] = values
    return probabilities
