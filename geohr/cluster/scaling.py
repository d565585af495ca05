"""How long a cluster will take, from what a block was measured to take here.

Workers predict blocks and finish bands of rows: they join the blocks, classify and trace them. The
scheduler passes a name to a worker and an answer back; the driver joins the objects that cross
bands, and writes. Whichever of the three needs longest for all blocks binds:

    seconds = startup + max(blocks x block / workers, blocks x dispatch, blocks x assembly) + rest

where the rest is the last block of a worker and the last row of blocks of the driver.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from geohr.encoding import NODATA
from geohr.geobox import Window
from geohr.inference.checkpoint import block_path, load_arrays, load_block, save_arrays, save_block
from geohr.inference.job import Job
from geohr.inference.pipeline import predict_block
from geohr.outputs.cog import class_writer, probability_writer
from geohr.polygons import TraceSettings
from geohr.polygons.strips import StripJoiner, StripPolygons, trace_strip
from geohr.scene import SceneReader
from geohr.stitching.blocks import BlockScores
from geohr.stitching.mosaic import classify
from geohr.tiling.blocks import Block, extent
from geohr.tiling.spread import spread

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
        block: Seconds of a worker for a block: read, predict, sum, write, and its share of a band.
        assembly: Seconds of the driver for a block's share of the outputs.
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


def measure_costs(run: Job) -> Costs:
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
        finishing, assembly = finishing_seconds(run, tried, folder)
    return Costs(
        blocks=len(blocks),
        across=sum(block.row == 0 for block in blocks),
        startup=startup_seconds(run),
        block=float(np.mean(seconds)) + finishing,
        assembly=assembly,
        dispatch=DISPATCH_SECONDS,
        bytes=size // len(seconds),
    )


def warm_up(run: Job) -> None:
    """Let the engine do what it does only the first time."""
    shape = (run.predictor.batch, len(run.card.bands), run.grid.tile, run.grid.tile)
    run.predictor.predict(np.zeros(shape, np.float32))


def startup_seconds(run: Job) -> float:
    """Seconds in which a new process imports what it needs and opens scene and model."""
    code = (
        "import sys, geohr.api.segment; from geohr.models.model import Model; "
        "from geohr.engines import open_predictor; from geohr.options import SegmentOptions; "
        "open_predictor(Model.load(sys.argv[1]), int(sys.argv[2]), "
        "SegmentOptions(backend=sys.argv[3]))"
    )
    if run.model.path is None or run.options.precision == "int8":
        code, arguments = "import geohr.api.segment, geohr.engines", []
    else:
        arguments = [str(run.model.path), str(run.grid.tile), run.options.backend]
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
    return time.monotonic() - started


def finishing_seconds(run: Job, blocks: Sequence[Block], folder: Path) -> tuple[float, float]:
    """Seconds for a block until it is in polygons and rasters: of a worker, and of the driver.

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
        scores = load_block(folder, block)
        pieces.append(joined(scores, extent(run.grid, block), len(run.card.classes)))
    reading = (time.monotonic() - started) / len(blocks)
    width = min(piece.shape[2] for piece in pieces)
    sample = np.concatenate([piece[:, :, :width] for piece in pieces], axis=1)
    times = max(1, SAMPLE_PIXELS // sample[0].size)
    share = run.scene.height * run.scene.width / len(run.blocks) / (times * sample[0].size)
    started = time.monotonic()
    traced = trace_sample(run, sample, times, folder)
    tracing = time.monotonic() - started
    started = time.monotonic()
    StripJoiner(sample_tracing(run, times * sample.shape[1], width)).add(
        StripPolygons.from_arrays(load_arrays(traced))
    )
    write_sample(run, sample, times, folder)
    writing = time.monotonic() - started
    return reading + tracing * share, writing * share


def sample_tracing(run: Job, height: int, width: int) -> TraceSettings:
    """How the run traces, on another grid."""
    return dataclasses.replace(
        run.tracing, geobox=run.scene.geobox.window(Window(0, 0, height, width))
    )


def trace_sample(run: Job, rows: NDArray[np.uint8], times: int, folder: Path) -> Path:
    """Classify and trace rows of probabilities several times over, as one band; its file."""
    height, width = rows.shape[1] * times, rows.shape[2]
    chunks = ((classify(rows, run.options.threshold), rows) for _ in range(times))
    traced = trace_strip(chunks, 0, height, sample_tracing(run, height, width))
    path = folder / "band.npz"
    save_arrays(path, traced.to_arrays())
    return path


def write_sample(run: Job, rows: NDArray[np.uint8], times: int, folder: Path) -> None:
    """Write rows of probabilities several times over, and their classes."""
    height, width = rows.shape[1] * times, rows.shape[2]
    geobox = run.scene.geobox.window(Window(0, 0, height, width))
    names = [label.name for label in run.card.classes]
    with (
        class_writer(folder / "classes.tif", geobox, {}, {}) as classes,
        probability_writer(folder / "probabilities.tif", geobox, names, {}) as probabilities,
    ):
        for _ in range(times):
            classes.write(classify(rows, run.options.threshold))
            probabilities.write(rows)


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
