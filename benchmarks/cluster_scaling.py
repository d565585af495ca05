"""Where the driver of a cluster spends its time, and with how many workers it keeps up.

    python -m benchmarks.cluster_scaling [--repeat 4] [--no-regularize]

Processor seconds of one core for a megapixel, so that others on this machine count less. A worker
predicts the sample scene in blocks and saves them, then joins, classifies, traces and saves strips.
The driver is measured with a predictor that takes no time, which is to say none: the strips, whose
probabilities are those of the sample, repeated, are there before. It reads them, joins polygons,
and writes the outputs.
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
import rasterio
import rasterio.shutil
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
)
from geohr.inference.prepare import prepare
from geohr.models.model import resolve_model
from geohr.options import SegmentOptions
from geohr.outputs.cog import cog_settings
from geohr.outputs.write import OutputPaths, write_outputs
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
        worker, scores = measure_worker(job, executor, folder)
        print(f"a worker: {worker:.0f} ms a megapixel")
        large = enlarged(job, repeated(SCENE, asked.repeat, folder / "large.tif"))
        scores = np.tile(scores, (1, asked.repeat, asked.repeat))
        write_strips(large, scores, folder)
        measure_rasters(scores, folder)
        for label, names in OUTPUTS.items():
            driver = measure_driver(large, names, folder)
            print(f"the driver, {label}: {driver:.1f} ms; {worker / driver:.0f} workers")


def measure_worker(
    job: Job, executor: LocalExecutor, folder: Path
) -> tuple[float, NDArray[np.uint8]]:
    """What a worker takes for a megapixel, and the probabilities `(class, row, col)`."""
    megapixels = job.scene.height * job.scene.width / 1e6

    def predict() -> None:
        with SceneReader(job.scene) as reader:
            for block in job.blocks:
                made = predict_block(
                    reader, job.grid, block, executor.predictor, normalizer=job.normalizer,
                    classes=len(job.card.classes), blend=job.options.blend,
                )  # fmt: skip
                save_block(folder, block, made)

    def finish() -> None:
        strips = cut_strips(job)
        for strip in strips:
            finish_strip(job, strip, folder, partial(load_block, folder))
        for edge in cut_edges(job, strips):
            finish_edge(job, edge, folder)

    spent = timed(megapixels, predict) + timed(megapixels, finish)
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
    for strip in cut_strips(job):
        start, stop = job.trace_settings.reach(strip.start, strip.stop)
        rows = (ids[max(start, 0) : stop], scores[:, max(start, 0) : stop])
        traced = trace_strip(iter([rows]), strip.start, strip.stop, job.trace_settings)
        own = {"windows": np.array(0), "probabilities": scores[:, strip.start : strip.stop]}
        save_arrays(strip.path(folder), traced.to_arrays() | own)
    for edge in cut_edges(job, cut_strips(job)):
        finish_edge(job, edge, folder)


def measure_rasters(scores: NDArray[np.uint8], folder: Path) -> None:
    """Print what the steps of writing probabilities take."""
    megapixels = scores[0].size / 1e6
    rows, made = folder / "rows.tif", folder / "cog.tif"
    profile = {
        "driver": "GTiff", "dtype": "uint8", "count": len(scores), "height": scores.shape[1],
        "width": scores.shape[2], "nodata": 255, "tiled": True, "blockxsize": 512,
        "blockysize": 512, "compress": "deflate", "zlevel": 1, "crs": "EPSG:3857",
        "transform": rasterio.Affine(0.1, 0, 0, 0, -0.1, 0),
    }  # fmt: skip

    def write() -> None:
        with rasterio.open(rows, "w", **profile) as raster:
            raster.write(scores)

    def copy(overviews: str) -> None:
        settings = {**cog_settings({"OVERVIEWS": overviews}), "NUM_THREADS": "1"}
        rasterio.shutil.copy(rows, made, driver="COG", overview_resampling="average", **settings)

    def read() -> None:
        with rasterio.open(rows) as raster:
            raster.read()

    print(f"probabilities, temporary rows: written {timed(megapixels, write):.1f} ms", end="")
    print(f", read {timed(megapixels, read):.1f} ms")
    full = timed(megapixels, partial(copy, "NONE"))
    print(f"probabilities, COG: full resolution {full:.1f} ms", end="")
    print(f", overviews {timed(megapixels, partial(copy, 'AUTO')) - full:.1f} ms")


def measure_driver(job: Job, names: tuple[str, ...], folder: Path) -> float:
    """What the driver takes for a megapixel with some outputs."""
    targets = OutputPaths(
        tuple(folder / name for name in names if name != PROBS),
        probs=folder / PROBS if PROBS in names else None,
        creation_options={"NUM_THREADS": "1"},
    )
    megapixels = job.scene.height * job.scene.width / 1e6
    chunks = chunks_of_strips(job, folder, cut_strips(job))
    spent = timed(megapixels, lambda: write_outputs(job, chunks, targets))
    for path in targets.made:
        path.unlink()
    return spent


if __name__ == "__main__":
    main()
