"""What a building model could still gain: by its threshold, and by its outlines.

    python -m recipes.limits DATA MODEL... [--work DIR]

DATA is a folder with the data sets' `manifest.json`, a MODEL a bundled name or a model file. At the
resolution that scenes are read at, for each model and place: intersection over union of pixels at
the card's threshold and at the one that suits the place best, and at the card's with the pixels
within so many metres of a labelled outline left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geohr.encoding import IGNORE
from geohr.geobox import Window
from geohr.models.model import Model, resolve_model
from geohr.training.samples import Sample, pair
from geohr.training.store import Store
from geohr.training.validate import LEVELS, histogram, predict, threshold_ious
from recipes.buildings import as_read

NEAR = (0.25, 0.5, 1.0)
"""Metres from an outline within which pixels are left out."""

Bytes = NDArray[np.uint8]


def predict_whole(model: Model, sample: Sample, store: Store) -> Bytes:
    """`(row, col)` probability levels of a whole image."""
    levels = np.zeros((sample.scene.height, sample.scene.width), np.uint8)
    for window, found in predict(model.network, model.card, sample, store=store, device="cpu"):
        levels[window.row : window.row_stop, window.col : window.col_stop] = found
    return levels


def leave_outlines_out(truth: Bytes, pixels: float) -> Bytes:
    """Labels `(row, col)` with `IGNORE` within so many pixels of the border of an object."""
    objects = truth == 1
    inside, outside = (ndimage.distance_transform_edt(each) for each in (objects, ~objects))
    kept: Bytes = np.where(inside + outside > pixels, truth, np.uint8(IGNORE))
    return kept


def row(model: Model, sample: Sample) -> list[float]:
    """The scores of one model at one place; see the module."""
    store = Store()
    levels = predict_whole(model, sample, store)
    scene = sample.scene
    truth = store.read(sample, Window(0, 0, scene.height, scene.width)).classes
    level = round((model.card.threshold or 0.5) * LEVELS)
    whole = threshold_ious(histogram(truth, levels))
    farther = [
        threshold_ious(histogram(leave_outlines_out(truth, metres / sample.gsd), levels))[level]
        for metres in NEAR
    ]
    return [float(each) for each in (whole[level], whole.max(), *farther)]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--work", type=Path, default=Path("build/validation"))
    arguments = parser.parse_args()
    data, folder = arguments.data, arguments.work
    folder.mkdir(parents=True, exist_ok=True)
    places = as_read(data, folder)
    farther = " | ".join(f"beyond {metres:g} m" for metres in NEAR)
    print(f"| model | place | card's threshold | best threshold | {farther} |")
    print("|---" * (4 + len(NEAR)) + "|")
    for name in arguments.models:
        model = resolve_model(name)
        for place, files in places.items():
            (sample,) = pair([files.scene], [files.labels], split="test")
            cells = " | ".join(f"{score:.3f}" for score in row(model, sample))
            print(f"| {name} | {place} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
