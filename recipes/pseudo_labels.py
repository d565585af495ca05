"""Labels for the places without any, from what teachers find there at two resolutions.

    python -m recipes.pseudo_labels DATA data.json LABELS students.json TEACHER... [--every N]
        [--listen listeners.json]

DATA is a folder with the data sets' `manifest.json`, data.json the manifest that the teachers
learnt from, LABELS a folder for the labels, a TEACHER a bundled name or a model file. students.json
lists what data.json does, and the unlabelled places with these labels; listeners.json lists them
without labels, for students that listen to a teacher there (`geohr train --teacher`).

An image is read at `FINE` and at `COARSE` metres a pixel; what counts is the mean of what the
teachers say. From the coarse reading only large objects are taken: a window of fine pixels may lie
wholly inside one of these, and shows no outline that tells it from hard ground. What is neither
surely found nor surely not is not annotated.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional as F

from geohr.encoding import IGNORE
from geohr.models.model import Model, resolve_model
from geohr.tiling.normalize import Normalizer

FINE, COARSE = 0.3, 0.6
"""Metres a pixel of the reading for all objects, and of the one for large ones."""
LARGE = 150.0
"""Square metres from which the coarse reading is believed."""
SURE, NOT = 0.65, 0.3
"""Probabilities from which on, and up to which, the teacher is believed."""
WEIGHTS = {"czech_orthophoto": 1.0, "naip_california": 0.5}
"""How often windows are drawn from a data set with these labels, shared out among its places."""
LISTEN_WEIGHTS = {"czech_orthophoto": 3.15, "naip_california": 1.5}
"""The same where its places have no labels, only a teacher."""
CROPS = "naip_california"
"""A data set of many small images, of which some do."""
STRIDE = 32
"""A network's image must be a multiple of this."""

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@torch.inference_mode()
def read(models: Sequence[Model], image: Bytes, factor: float) -> Floats:
    """Probabilities `(row, col)` of an image `(band, row, col)`, read `factor` times larger."""
    size = [max(round(side * factor / STRIDE), 1) * STRIDE for side in image.shape[1:]]
    told = torch.zeros(1, 1, *size)
    for model in models:
        pixels = np.empty(image.shape, np.float32)
        valid = np.ones(image.shape[1:], np.bool_)
        Normalizer.of(model.card, None).apply(image, valid, pixels)
        scaled = F.interpolate(
            torch.from_numpy(pixels)[None], size, mode="bilinear", antialias=True
        )
        with torch.autocast("cpu", torch.bfloat16):
            logits = model.network(scaled.contiguous(memory_format=torch.channels_last))
        told += logits.float().sigmoid() / len(models)
    found: Floats = F.interpolate(told, image.shape[1:], mode="bilinear", antialias=True)[
        0, 0
    ].numpy()
    return found


def large_objects(coarse: Floats, gsd: float) -> NDArray[np.bool_]:
    """Where the coarse reading has an object from `LARGE` on, `(row, col)`."""
    numbered, _ = ndimage.label(coarse >= SURE)
    areas = np.bincount(numbered.ravel()) * gsd**2
    areas[0] = 0
    kept: NDArray[np.bool_] = areas[numbered] >= LARGE
    return kept


def label(models: Sequence[Model], image: Bytes, gsd: float) -> Bytes:
    """Labels `(row, col)` of an image: 0, 1, and 255 where the teachers are in doubt."""
    fine, coarse = (read(models, image, gsd / metres) for metres in (FINE, COARSE))
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
    parser.add_argument("learnt", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("teachers", nargs="+")
    parser.add_argument("--every", type=int, default=10, help="of the crops of California, 1 in N")
    parser.add_argument("--listen", type=Path, help="a manifest without these labels, too")
    arguments = parser.parse_args()
    data: Path = arguments.data.resolve()
    models = [resolve_model(each) for each in arguments.teachers]
    for each in models:
        each.network.eval().to(memory_format=torch.channels_last)
    arguments.labels.mkdir(exist_ok=True)
    entries = [
        entry
        for entry in json.loads((data / "manifest.json").read_text("utf-8"))
        if entry["split"] == "unlabelled"
    ]
    crops = [each for each in entries if each["dataset"] == CROPS]
    entries = [each for each in entries if each["dataset"] != CROPS] + crops[:: arguments.every]
    added: list[dict[str, object]] = []
    heard: list[dict[str, object]] = []
    for entry in entries:
        source = data / entry["image"]
        path = arguments.labels.resolve() / source.name
        path = path.with_suffix(".tif" if source.suffix == ".tif" else ".png")
        with rasterio.open(source) as image:
            labels = label(models, image.read([1, 2, 3]), entry["gsd"])
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
        weight = LISTEN_WEIGHTS[entry["dataset"]] / len(places)
        heard.append({**added[-1], "label": None, "weight": weight})
        shares = [f"{float((labels == value).mean()):.3f}" for value in (0, 1, IGNORE)]
        print(source.name, *shares, flush=True)
    learnt = json.loads(arguments.learnt.read_text("utf-8"))
    arguments.out.write_text(json.dumps(learnt + added, indent=1), "utf-8")
    if arguments.listen is not None:
        arguments.listen.write_text(json.dumps(learnt + heard, indent=1), "utf-8")


if __name__ == "__main__":
    main()
