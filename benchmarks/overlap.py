"""What overlap costs and what it is good for: windows, seam score, and objects found.

`python -m benchmarks.overlap` segments the sample scene with several overlaps and compares with
the outlines that come with it; `--place IMAGE LABELS`, once or more, does so with other scenes and
rasters of their labels (0, 1, and 255 where nothing is annotated).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import geopandas
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.features import rasterize

from geohr.encoding import IGNORE, NODATA
from geohr.inference.executor import LocalExecutor
from geohr.inference.prepare import prepare
from geohr.models.model import Model, resolve_model
from geohr.options import SegmentOptions
from geohr.stitching.seams import Counts, SeamMeter, SeamScore

DATA = Path(__file__).parents[1] / "examples" / "data"
OVERLAPS = (0.0, 0.0625, 0.125, 0.25, 0.375, 0.5)


def read_truth(scene: Path, labels: Path) -> NDArray[np.uint8]:
    """Labels `(row, col)` on the scene's grid, from a raster or from outlines."""
    if labels.suffix == ".tif":
        with rasterio.open(labels) as raster:
            return np.asarray(raster.read(1), np.uint8)
    with rasterio.open(scene) as raster:
        shape, transform = raster.shape, raster.transform
    drawn = rasterize(geopandas.read_file(labels).geometry, out_shape=shape, transform=transform)
    return np.asarray(drawn, np.uint8)


def measure(
    scene: Path, truth: NDArray[np.uint8], model: Model, overlap: float
) -> tuple[int, NDArray[np.int64], Counts]:
    """Windows, pixels in both and in either, and what the seam meter counted."""
    executor = LocalExecutor()
    options = SegmentOptions(overlap=overlap, gsd="native")
    job = prepare(scene, model, options, executor, polygons=False)
    meter, found = SeamMeter(job.grid), []
    for chunk in executor.chunks(job):
        meter.add(chunk.probabilities, chunk.classes)
        found.append(chunk.classes)
    mask = np.concatenate(found)
    objects, counted = mask == 1, (mask != NODATA) & (truth != IGNORE)
    both, either = objects & (truth == 1) & counted, (objects | (truth == 1)) & counted
    return len(job.grid), np.array([both.sum(), either.sum()]), meter.counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=None, help="a bundled name or a .safetensors file")
    parser.add_argument("--place", nargs=2, type=Path, action="append", default=[])
    args = parser.parse_args()
    model = resolve_model(args.model)
    named = args.place or [(DATA / "kampala.tif", DATA / "kampala_buildings.gpkg")]
    places = [(scene, read_truth(scene, labels)) for scene, labels in named]
    print("| overlap | windows | IoU | seam score | of changes | of jumps |")
    print("|---:|---:|---:|---:|---:|---:|")
    for overlap in OVERLAPS:
        told = [measure(scene, truth, model, overlap) for scene, truth in places]
        windows = sum(each[0] for each in told)
        both, either = sum((each[1] for each in told), np.zeros(2, np.int64))
        seams = SeamScore.of(sum((each[2] for each in told), np.zeros_like(told[0][2])))
        shown = " | ".join(
            "-" if each is None else f"{each:.2f}"
            for each in (seams.score, seams.changes, seams.jumps)
        )
        print(f"| {overlap} | {windows} | {both / either:.4f} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
