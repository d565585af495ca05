"""What the resolution that an HRNet keeps is worth: IoU by object size, multiply-adds and speed.

`python -m benchmarks.stem_strides --data manifest.json --train PLACE ... --test PLACE ...` trains
one network at each stem stride from the same tensors, with the same windows and steps, segments
the images of the places of `--test`, and prints the table. The IoU of a true object is that with
the found object that shares most with it, 0 where none is found. Nothing is chosen on the places
of `--test`, so all their images are scored. The start was trained at one stride, which has that
advantage. Speed is windows of 512 pixels on one core in processor seconds, for machines that
others use too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import rasterio
import rasterio.features
import shapely
import torch
from numpy.typing import NDArray

from benchmarks.hrnet_tables import count_macs
from geohr.hrnet import fuse
from geohr.models.model import Model

STRIDES = (8, 4, 2)
SIZES = (0.0, 20.0, 50.0, 150.0, np.inf)
"""Areas in square metres that separate the columns."""
WINDOW = 512
ROUNDS = 5


def geohr(*arguments: object) -> None:
    """Run the command line."""
    subprocess.run([sys.executable, "-m", "geohr_cli", *map(str, arguments)], check=True)


def train(stride: int, manifest: Path, args: argparse.Namespace, folder: Path) -> Path:
    """A model of one stride."""
    out = folder / f"stride{stride}.safetensors"
    geohr(
        "train", "--data", manifest, "--out", out, "--init", args.init,
        "--stem-stride", stride, "--steps", args.steps, "--batch", args.batch,
        "--tile", args.tile, "--gsd-range",
        f"{args.gsd},{args.gsd}", "--learning-rate", args.learning_rate, "--warmup",
        args.steps // 10, "--ema", args.ema, "--device", "cpu", "--validate-every", args.steps,
    )  # fmt: skip
    return out


def objects(classes: Path, metres: float) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Objects of a raster of classes, joined by their sides, and their areas in square metres."""
    with rasterio.open(classes) as raster:
        mask = raster.read(1) == 1
        shapes = rasterio.features.shapes(
            mask.astype(np.uint8), mask=mask, transform=raster.transform
        )
        made = np.array([shapely.geometry.shape(shape) for shape, _ in shapes])
        pixel = abs(raster.transform.determinant)
    return made, shapely.area(made) / pixel * metres**2


def overlaps(truth: NDArray[Any], found: NDArray[Any]) -> NDArray[np.float64]:
    """Of each true object, the IoU with the found object that shares most with it."""
    best = np.zeros(len(truth))
    shared = np.zeros(len(truth))
    for index, other in zip(*shapely.STRtree(found).query(truth, "intersects"), strict=True):
        both = shapely.area(shapely.intersection(truth[index], found[other]))
        if both > shared[index]:
            shared[index] = both
            best[index] = both / (truth[index].area + found[other].area - both)
    return best


def score(model: Path, images: Sequence[dict[str, Any]], gsd: float, folder: Path) -> list[float]:
    """IoU of all pixels, then the mean of the objects' by size."""
    both = either = 0
    areas, ious = [], []
    for image in images:
        classes = folder / "classes.tif"
        geohr(
            "segment", image["image"], "--model", model, "--out", classes, "--gsd", gsd,
            "--min-area", 0, "--threshold", 0.5, "--quiet", "--overwrite", "--no-resume",
        )  # fmt: skip
        with rasterio.open(image["label"]) as raster, rasterio.open(classes) as made:
            truth, found = raster.read(1), made.read(1)
        known = (truth != 255) & (found != 255)
        both += int(((truth == 1) & (found == 1) & known).sum())
        either += int((((truth == 1) | (found == 1)) & known).sum())
        true, sizes = objects(Path(image["label"]), image["gsd"])
        areas.append(sizes)
        ious.append(overlaps(true, objects(classes, image["gsd"])[0]))
    area, iou = np.concatenate(areas), np.concatenate(ious)
    by_size = [float(iou[(area >= low) & (area < high)].mean()) for low, high in pairwise(SIZES)]
    counts = [int(((area >= low) & (area < high)).sum()) for low, high in pairwise(SIZES)]
    print(f"true objects by size: {counts}", file=sys.stderr)
    return [both / either, *by_size]


def speed(model: Path) -> float:
    """Megapixels a processor second of the fused network, one thread, the median of rounds."""
    torch.set_num_threads(1)
    network = fuse(Model.load(model).network)
    pixels = torch.rand(1, 3, WINDOW, WINDOW).contiguous(memory_format=torch.channels_last)
    seconds = []
    with torch.inference_mode():
        for _ in range(ROUNDS + 1):
            started = time.process_time()
            network(pixels)
            seconds.append(time.process_time() - started)
    return WINDOW**2 / 1e6 / median(seconds[1:])


def main() -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a manifest")
    parser.add_argument("--train", nargs="+", required=True, help="its places to train on")
    parser.add_argument("--test", nargs="+", required=True, help="its places to score")
    parser.add_argument("--init", default="buildings", help="the HRNet that all start from")
    parser.add_argument("--gsd", type=float, default=0.3, help="metres a pixel")
    parser.add_argument("--tile", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--ema", type=float, default=0.95)
    parser.add_argument("--strides", nargs="+", type=int, default=STRIDES)
    parser.add_argument("--folder", type=Path, help="keeps the models")
    args = parser.parse_args()
    rows = [
        {**row, **{name: str(args.data.parent / row[name]) for name in ("image", "label")}}
        for row in json.loads(args.data.read_text())
        if row["place"] in (*args.train, *args.test) and row["label"]
    ]
    print("| stride | IoU | under 20 m2 | 20 to 50 | 50 to 150 | from 150 | GMAC | Mpx/s |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = args.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        manifest = folder / "train.json"
        chosen = [row for row in rows if row["place"] in args.train and row["split"] == "train"]
        manifest.write_text(json.dumps(chosen))
        for stride in args.strides:
            model = train(stride, manifest, args, folder)
            scores = score(
                model, [row for row in rows if row["place"] in args.test], args.gsd, folder
            )
            network = Model.load(model).network
            with torch.device("meta"):
                macs = count_macs(network.to("meta"), WINDOW, WINDOW) / 1e9
            cells = " | ".join(f"{each:.3f}" for each in scores)
            print(f"| {stride} | {cells} | {macs:.1f} | {speed(model):.2f} |", flush=True)


if __name__ == "__main__":
    main()
