"""Where the driver of a cluster spends its time, and with how many workers it keeps up.

    python -m benchmarks.cluster_scaling [--repeat 4] [--no-regularize]

Processor seconds of one core for a megapixel, so that others on this machine count less. A worker
predicts the sample scene in blocks and saves them, then joins, classifies, traces and saves strips,
their tiles compressed. The driver is measured with a predictor that takes no time, which is to say
none: the strips, whose probabilities are those of the sample, repeated, are there before. It reads
them, joins polygons, and writes the outputs.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.cluster import SCENE, repeated
from geohr.inference.checkpoint import load_block, save_arrays, save_block
from geohr.inference.executor import LocalExecutor
from geohr.inference.job import Job
from geohr.inference.pipeline import predict_block
from geohr.inference.postprocess import (
    chunks_of_strips,
    cut_edges,
    cut_strips,
    finish_edge,
    finish_strip,
    kept_rows,
)
from geohr.inference.prepare import prepare
from geohr.models.model import resolve_model
from geohr.options import SegmentOptions
from geohr.outputs.write import OutputPaths, StripRasters, write_outputs
from geohr.polygons.strips import trace_strip
from geohr.scene import Scene, SceneReader
from geohr.stitching.mosaic import classify
from geohr.tiling.blocks import square
from geohr.tiling.grid import Grid

CLASSES, PROBS, POLYGONS = "classes.tif", "probs.tif", "objects.gpkg"
OUTPUTS = {
    "polygons, classes, probabilities": (POLYGONS, CLASSES, PROBS),
    "polygons, classes": (POLYGONS, CLASSES),
    "polygons": (POLYGONS,),
}


def timed(megapixels: float, work: Callable[[], object]) -> float:
    """Processor milliseconds of this process for a megapixel."""
    started = time.process_time()
    work()
    return 1000 * (time.process_time() - started) / megapixels


def main() -> None:
    """Measure, and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--repeat", type=int, default=4, help="times down and across")
    arguments.add_argument("--model", default="buildings", help="a bundled name or a file")
    arguments.add_argument("--no-regularize", action="store_true", help="outlines as traced")
    asked = arguments.parse_args()
    # One core, also for GDAL, which would use them all to compress.
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="geohr-scaling-") as name:
        folder = Path(name)
        executor = LocalExecutor()
        regularize = False if asked.no_regularize else None
        options = SegmentOptions(gsd="native", regularize=regularize)
        job = prepare(str(SCENE), resolve_model(asked.model), options, executor)
        job = replace(job, block_size=square(job.grid))
        predicted = measure_blocks(job, executor, folder)
        print(f"a worker, blocks: {predicted:.0f} ms a megapixel")
        large = enlarged(job, repeated(SCENE, asked.repeat, folder / "large.tif"))
        for label, names in OUTPUTS.items():
            targets = targets_of(names, folder)
            finished, scores = measure_strips(job, targets, folder)
            scores = np.tile(scores, (1, asked.repeat, asked.repeat))
            larger = replace(large, rasters=StripRasters.of(large, targets))
            write_strips(larger, scores, folder)
            driver = measure_driver(larger, targets, folder)
            worker = predicted + finished
            print(
                f"{label}: a worker {worker:.0f} ms, {finished:.0f} of them for strips; "
                f"the driver {driver:.1f} ms; {worker / driver:.0f} workers"
            )


def targets_of(names: tuple[str, ...], folder: Path) -> OutputPaths:
    """Outputs of these names."""
    return OutputPaths(
        tuple(folder / name for name in names if name != PROBS),
        probs=folder / PROBS if PROBS in names else None,
    )


def measure_blocks(job: Job, executor: LocalExecutor, folder: Path) -> float:
    """What a worker takes for the blocks of a megapixel."""

    def predict() -> None:
        with SceneReader(job.scene) as reader:
            for block in job.blocks:
                made = predict_block(
                    reader, job.grid, block, executor.predictor, normalizer=job.normalizer,
                    classes=len(job.card.classes), blend=job.options.blend,
                )  # fmt: skip
                save_block(folder, block, made)

    return timed(job.scene.height * job.scene.width / 1e6, predict)


def measure_strips(job: Job, targets: OutputPaths, folder: Path) -> tuple[float, NDArray[np.uint8]]:
    """What a worker takes for the strips of a megapixel, and the probabilities `(class, row, col)`.

    Their edges are in it.
    """
    load = partial(load_block, folder)
    encoded = replace(job, rasters=StripRasters.of(job, targets))

    def finish() -> None:
        strips = cut_strips(encoded)
        for strip in strips:
            finish_strip(encoded, strip, folder, load)
        for edge in cut_edges(encoded, strips):
            finish_edge(encoded, edge, folder)

    spent = timed(job.scene.height * job.scene.width / 1e6, finish)
    for strip in cut_strips(job):
        finish_strip(job, strip, folder, load)
    chunks = list(chunks_of_strips(job, folder, cut_strips(job)))
    return spent, np.concatenate([chunk.probabilities for chunk in chunks], axis=1)


def enlarged(job: Job, path: Path) -> Job:
    """The job for a scene of another size."""
    scene = Scene.open(path, job.options)
    grid = Grid(scene.height, scene.width, job.grid.tile, job.grid.overlap, step=job.grid.step)
    return replace(job, scene=scene, grid=grid)


def write_strips(job: Job, scores: NDArray[np.uint8], folder: Path) -> None:
    """The files of strips that workers would have made."""
    ids = classify(scores, job.options.threshold)
    strips = cut_strips(job)
    for strip in strips:
        start, stop = job.trace_settings.reach(strip.start, strip.stop)
        rows = (ids[start:stop], scores[:, start:stop])
        traced = trace_strip(iter([rows]), strip.start, strip.stop, job.trace_settings)
        own = kept_rows(job, strip, scores[:, max(strip.start - 1, 0) : strip.stop])
        arrays = {"windows": np.array(0), **traced.to_arrays(), **own}
        save_arrays(strip.path(folder), arrays)
    for edge in cut_edges(job, strips):
        finish_edge(job, edge, folder)


def measure_driver(job: Job, targets: OutputPaths, folder: Path) -> float:
    """What the driver takes for a megapixel with some outputs."""
    megapixels = job.scene.height * job.scene.width / 1e6
    # What is loaded once in a run.
    import geopandas  # noqa: F401

    chunks = chunks_of_strips(job, folder, cut_strips(job))
    spent = timed(megapixels, lambda: write_outputs(job, chunks, targets))
    for path in targets.made:
        path.unlink()
    return spent


if __name__ == "__main__":
    main()
