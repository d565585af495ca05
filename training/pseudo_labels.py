"""Labels for the places without any, from what a teacher finds there at several resolutions.

    python -m training.pseudo_labels DATA TEACHER data.json LABELS students.json [--every N]

DATA is a folder with the data sets' `manifest.json`, TEACHER a model file, data.json the manifest
that the teacher learnt from, LABELS a folder for the labels. students.json lists the same and the
unlabelled places with these labels.

An image is read at its own resolution (finer, where that is coarse) and at `COARSE`. From the
coarse reading only large objects are taken: a window of fine pixels may lie wholly inside one of
these, and shows no outline that tells it from hard ground. What is neither surely found nor surely
not is not annotated.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

from geohr.metrics import IGNORE
from geohr.model import Model, resolve_model
from geohr.pixels import Normalizer

FINEST = 0.3
"""Metres a pixel that coarser images are enlarged to."""
COARSE = 0.4
"""Metres a pixel of the reading in which large objects are looked for."""
LARGE = 150.0
"""Square metres from which the coarse reading is believed."""
SURE, NOT = 0.65, 0.3
"""Probabilities from which on, and up to which, the teacher is believed."""
WEIGHTS = {"czech_orthophoto": 1.0, "naip_california": 1.0}
"""How often windows are drawn from a place of a data set, shared out among its places."""
STRIDE = 32
"""A network's image must be a multiple of this."""

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@torch.inference_mode()
def read(network: nn.Module, normalizer: Normalizer, image: Bytes, factor: float) -> Floats:
    """Probabilities `(row, col)` of an image `(band, row, col)`, read `factor` times larger."""
    pixels = np.empty(image.shape, np.float32)
    normalizer.apply(image, np.ones(image.shape[1:], bool), pixels)
    size = [max(round(side * factor / STRIDE), 1) * STRIDE for side in image.shape[1:]]
    scaled = F.interpolate(torch.from_numpy(pixels)[None], size, mode="bilinear", antialias=True)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(scaled.contiguous(memory_format=torch.channels_last))
    told = F.interpolate(logits.float().sigmoid(), image.shape[1:], mode="bilinear", antialias=True)
    found: Floats = told[0, 0].numpy()
    return found


def large_objects(coarse: Floats, gsd: float) -> NDArray[np.bool_]:
    """Where the coarse reading has an object from `LARGE` on, `(row, col)`."""
    numbered, _ = ndimage.label(coarse >= SURE)
    areas = np.bincount(numbered.ravel()) * gsd**2
    areas[0] = 0
    kept: NDArray[np.bool_] = areas[numbered] >= LARGE
    return kept


def label(model: Model, image: Bytes, gsd: float) -> Bytes:
    """Labels `(row, col)` of an image: 0, 1, and 255 where the teacher is in doubt."""
    normalizer = Normalizer.of(model.card, None)
    fine = read(model.network, normalizer, image, max(gsd / FINEST, 1.0))
    coarse = read(model.network, normalizer, image, min(gsd / COARSE, 1.0))
    found = (fine >= SURE) | large_objects(coarse, gsd)
    labels = np.full(fine.shape, IGNORE, np.uint8)
    labels[np.maximum(fine, coarse) <= NOT] = 0
    labels[found] = 1
    return labels


def write(path: Path, labels: Bytes, image: rasterio.DatasetReader) -> None:
    """Labels on the grid of their image."""
    profile: dict[str, Any] = {"height": image.height, "width": image.width, "dtype": "uint8"}
    if path.suffix == ".tif":
        profile |= {"crs": image.crs, "transform": image.transform, "compress": "deflate"}
    with rasterio.open(path, "w", count=1, **profile) as raster:
        raster.write(labels, 1)


def main() -> None:
    """Write the labels and the manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher")
    parser.add_argument("learnt", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--every", type=int, default=3, help="of the crops of California, 1 in N")
    arguments = parser.parse_args()
    data: Path = arguments.data.resolve()
    model = resolve_model(arguments.teacher)
    model.network.eval().to(memory_format=torch.channels_last)
    arguments.labels.mkdir(exist_ok=True)
    entries = [
        entry
        for entry in json.loads((data / "manifest.json").read_text("utf-8"))
        if entry["split"] == "unlabelled"
    ]
    crops = [each for each in entries if each["dataset"] == "naip_california"]
    left = {each["image"] for index, each in enumerate(crops) if index % arguments.every}
    entries = [each for each in entries if each["image"] not in left]
    added: list[dict[str, object]] = []
    for entry in entries:
        source = data / entry["image"]
        path = arguments.labels.resolve() / source.name
        path = path.with_suffix(".tif" if source.suffix == ".tif" else ".png")
        with rasterio.open(source) as image:
            labels = label(model, image.read([1, 2, 3]), entry["gsd"])
            write(path, labels, image)
        places = {each["place"] for each in entries if each["dataset"] == entry["dataset"]}
        added.append(
            {
                "image": str(source),
                "label": str(path),
                "place": entry["place"],
                "split": "train",
                "gsd": entry["gsd"],
                "weight": WEIGHTS[entry["dataset"]] / len(places),
            }
        )
        shares = [f"{float((labels == value).mean()):.3f}" for value in (0, 1, IGNORE)]
        print(source.name, *shares, flush=True)
    learnt = json.loads(arguments.learnt.read_text("utf-8"))
    arguments.out.write_text(json.dumps(learnt + added, indent=1), "utf-8")


if __name__ == "__main__":
    main()
