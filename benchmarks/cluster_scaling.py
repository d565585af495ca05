"""Where a cluster stops scaling: a simulation of 10 terapixels, fed with what is measured here.

    python -m benchmarks.cluster_scaling --figure docs/images/scaling.png

Measured on one core: a worker's block, and its joining and tracing; the driver's merging of traced
bands, and its writing; and what Dask takes to pass on a block that takes no time. Simulated: every
block of the scene, handed out one after the other, predicted by the next free worker in a time that
varies, written to storage that all share, finished in bands, and put into the outputs in order.
"""

from __future__ import annotations

import argparse
import heapq
import math
import os
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.cluster_processes import scheduler, workers
from geohr.cluster import connected
from geohr.inference.checkpoint import block_path, load_arrays, load_block, save_arrays, save_block
from geohr.inference.job import Job, prepare
from geohr.inference.pipeline import predict_block
from geohr.models.model import resolve_model
from geohr.options import SegmentOptions
from geohr.outputs.cog import class_writer, probability_writer
from geohr.polygons.bands import StripJoiner, StripPolygons, trace_strip
from geohr.polygons.instances import SQUARE
from geohr.scene import SceneReader
from geohr.stitching.blocks import Assembler
from geohr.stitching.mosaic import classify
from geohr.tiling.blocks import square

SCENE = Path(__file__).parent.parent / "examples" / "data" / "kampala.tif"
PIXELS = 10e12
TILE, SHARED, SIDE = 512, 128, 4
"""Window, pixels shared by neighbours, and windows along a block's side."""
COUNTS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)
BANDWIDTH = 5e9
"""Bytes a second of the shared storage: assumed, as there is none here."""
SPREAD = 0.2
"""Standard deviation of the logarithm of a block's time: assumed."""
STARTUP = 60.0
"""Seconds until workers have started: assumed; a queue takes longer."""
TOGETHER = 10
"""Blocks that are simulated as one."""
TASKS = 2000


@dataclass(frozen=True)
class Rates:
    """What was measured, of one core.

    Attributes:
        predict: Megapixels a second that a worker predicts.
        join: That it reads and joins.
        trace: That it classifies and traces.
        merge: That the driver merges, of which a worker has traced bands.
        classes: That it writes as classes.
        probabilities: That it writes as probabilities.
        dispatch: Seconds of a block that takes none.
        bytes: Of a pixel in the work folder.
    """

    predict: float
    join: float
    trace: float
    merge: float
    classes: float
    probabilities: float
    dispatch: float
    bytes: float


def main() -> None:
    """Measure, simulate, print and draw."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--figure", type=Path)
    chosen = arguments.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    rates = measure()
    print("measured, megapixels a second of one core:")
    for name in ("predict", "join", "trace", "merge", "classes", "probabilities"):
        print(f"  {name:14} {getattr(rates, name):8.2f}")
    print(f"  a block that takes no time: {1000 * rates.dispatch:.2f} ms")
    print(f"  work folder: {rates.bytes:.1f} bytes a pixel")
    step = TILE - SHARED
    pixels = (SIDE * step) ** 2
    drivers = {
        "polygons, classes, probabilities": driver(rates, rates.classes, rates.probabilities),
        "polygons, classes": driver(rates, rates.classes),
        "polygons": driver(rates),
        "a driver that takes no time": 0.0,
    }
    curves = {}
    for name, seconds in drivers.items():
        each = [simulate(rates, count, seconds * pixels / 1e6, pixels) for count in COUNTS]
        curves[name] = each
        serial = max(seconds * pixels / 1e6, rates.dispatch, pixels * rates.bytes / BANDWIDTH)
        most = pixels / 1e6 * worker(rates) / serial
        print(f"{name}: scales to {most:.0f} workers")
        for count, hours in zip(COUNTS, each, strict=True):
            print(f"  {count:6} workers {hours / 3600:10.1f} h")
    if chosen.figure is not None:
        draw(curves, chosen.figure)


def driver(rates: Rates, *writing: float) -> float:
    """Seconds of the driver for a megapixel."""
    return sum(1 / rate for rate in (rates.merge, *writing))


def worker(rates: Rates) -> float:
    """Seconds of a worker for a megapixel."""
    return sum(1 / rate for rate in (rates.predict, rates.join, rates.trace))


def measure() -> Rates:
    """Everything in `Rates`; processor seconds, so that others on this machine count less."""
    options = SegmentOptions(tile=256, gsd="native")
    run = prepare([SCENE], resolve_model(None), options, cut=square)
    pixels = run.scene.height * run.scene.width / 1e6
    with tempfile.TemporaryDirectory() as name, SceneReader(run.scene) as reader:
        folder = Path(name)
        started = time.process_time()
        for block in run.blocks:
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
        predict = pixels / (time.process_time() - started)
        size = sum(block_path(folder, block).stat().st_size for block in run.blocks)
        started = time.process_time()
        assembler = Assembler(run.grid, classes=len(run.card.classes))
        rows = [assembler.add(block, load_block(folder, block)) for block in run.blocks]
        join = pixels / (time.process_time() - started)
        probabilities = np.concatenate([each.probabilities for each in rows if each], axis=1)
        trace, merge = tracing_rates(run, probabilities, folder)
        classes, written = writing_rates(run, probabilities, folder)
    dispatch = dispatch_seconds()
    return Rates(predict, join, trace, merge, classes, written, dispatch, size / pixels / 1e6)


def tracing_rates(run: Job, scores: NDArray[np.uint8], folder: Path) -> tuple[float, float]:
    """Megapixels a second that are traced in bands, and that are merged out of their files."""
    height, pixels = scores.shape[1], scores[0].size / 1e6
    edges = [*range(0, height, SQUARE), height]
    started = time.process_time()
    ids = classify(scores, run.options.threshold)
    for start, stop in pairwise(edges):
        rows = slice(*run.tracing.reach(start, stop, height))
        traced = trace_strip([(ids[rows], scores[:, rows])], start, stop, height, run.tracing)
        save_arrays(folder / f"{stop}.npz", traced.to_arrays())
    trace = pixels / (time.process_time() - started)
    started = time.process_time()
    merged = StripJoiner(run.tracing)
    for stop in edges[1:]:
        band = StripPolygons.from_arrays(load_arrays(folder / f"{stop}.npz"))
        merged.add(band, last=stop == height)
    return trace, pixels / (time.process_time() - started)


def writing_rates(run: Job, scores: NDArray[np.uint8], folder: Path) -> tuple[float, float]:
    """Megapixels a second that are written as classes, and as probabilities."""
    pixels, ids = scores[0].size / 1e6, classify(scores, run.options.threshold)
    started = time.process_time()
    with class_writer(folder / "classes.tif", run.scene, {}, {}) as sink:
        sink.write(ids)
    classes = pixels / (time.process_time() - started)
    started = time.process_time()
    with probability_writer(folder / "probabilities.tif", run.scene, ["p"], {}) as sink:
        sink.write(scores)
    return classes, pixels / (time.process_time() - started)


def dispatch_seconds() -> float:
    """Seconds for which Dask holds up other blocks with one, by the clock."""
    with (
        tempfile.TemporaryDirectory() as name,
        scheduler(Path(name)) as address,
        workers(address, 1, Path(name), ["--no-nanny"]),
        connected(address) as client,
    ):
        client.gather([client.submit(abs, number) for number in range(100)])
        started = time.monotonic()
        client.gather([client.submit(abs, -number, pure=False) for number in range(TASKS)])
        return (time.monotonic() - started) / TASKS


def simulate(rates: Rates, count: int, assembly: float, pixels: float) -> float:
    """Seconds in which so many workers and a driver are done with the whole scene.

    Args:
        rates: What was measured.
        count: Workers.
        assembly: Seconds of the driver for a block.
        pixels: Of a block.
    """
    blocks = math.ceil(PIXELS / pixels)
    across = math.ceil(math.sqrt(blocks) / TOGETHER)
    chance = np.random.default_rng(0)
    mean = TOGETHER * pixels / 1e6 * worker(rates)
    times = mean * chance.lognormal(
        -(SPREAD**2) / 2 / TOGETHER, SPREAD / math.sqrt(TOGETHER), blocks // TOGETHER
    )
    passing = TOGETHER * rates.dispatch
    storing = TOGETHER * pixels * rates.bytes / BANDWIDTH
    free = [STARTUP] * count
    handed = stored = joined = STARTUP
    row_done = 0.0
    for number, seconds in enumerate(times.tolist()):
        handed += passing
        begin = max(heapq.heappop(free), handed)
        # Storage takes blocks one after the other, as fast as it can.
        stored = max(stored + storing, begin + storing)
        end = max(begin + seconds, stored)
        heapq.heappush(free, end)
        row_done = max(row_done, end)
        if (number + 1) % across == 0:
            joined = max(joined, row_done) + across * TOGETHER * assembly
    return max(joined, row_done)


def draw(curves: dict[str, list[float]], path: Path) -> None:
    """Draw hours over workers, and what perfect scaling were."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    alone = curves["a driver that takes no time"][0]
    axes.plot(COUNTS, [alone / count / 3600 for count in COUNTS], ":", color="grey", label="ideal")
    for name, seconds in curves.items():
        axes.plot(COUNTS, [each / 3600 for each in seconds], "o-", markersize=3, label=name)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="workers of one core",
        ylabel="hours",
        title="10 terapixels, simulated from rates measured on one core",
    )
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(title="what the driver makes", fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
