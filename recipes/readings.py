"""Which resolutions to read a scene at, and how to join what is found there.

    python -m recipes.readings DATA MODEL... [--work FOLDER] [--metres 0.1,0.5]

DATA is a folder with the data sets' `manifest.json`, a MODEL a bundled name or a model file. Each
place is predicted at each resolution, and the probabilities are brought to the grid of its labels.
A row is one reading or two joined: the larger probability, the mean, or the larger one where the
coarse reading counts only as far as it holds for squares of `OPENED` metres, so that it speaks of
large roofs alone. Its cells are the intersection over union of pixels at the one threshold whose
mean over the places that choose (Kampala a and Lyon) is largest, then at the one that suits the
place itself.

The second table has, at that threshold, the share of the pixels of buildings found, by the area of
the building.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.warp import reproject
from scipy import ndimage

from geohr.api.memory import predict
from geohr.encoding import IGNORE
from geohr.models.model import Model, resolve_model
from geohr.options import SegmentOptions
from geohr.training.validate import LEVELS, histogram, threshold_ious
from recipes.buildings import Place, accra, geneva, kampala, lyon

METRES = (0.1, 0.15, 0.3, 0.5)
"""Metres a pixel that are tried."""
SIZES = (40.0, 150.0, 500.0)
"""Square metres at which buildings are told apart."""
CHOOSE = ("Kampala a", "Kampala a at 0.3 m", "Kampala a at 0.5 m", "Lyon", "Lyon at 0.3 m")
"""The places that choose; the others are reported."""
OPENED = 10.0
"""Metres: the side of the squares that a coarse reading is opened by."""
FINER_MAX = 4.0
"""No scene is read at pixels more times smaller than its own; its finest reading is at that."""

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Seen:
    """A place with what was found there.

    Attributes:
        truth: Labels `(row, col)`: 0, 1, 255 not annotated.
        sizes: Size class `(row, col)` of the building a pixel belongs to, from 1; 0 is none.
        found: Probability levels `(row, col)` by way of reading.
    """

    truth: Bytes
    sizes: Bytes
    found: Mapping[str, Bytes]


def places(data: Path, folder: Path) -> Iterator[tuple[str, Place, float]]:
    """Places by name, with their metres a pixel."""
    yield "Kampala a", kampala(data, folder, "a"), 0.0746
    for gsd in (0.3, 0.5):
        yield f"Kampala a at {gsd} m", kampala(data, folder, "a", gsd), gsd
    yield "Lyon", lyon(data, folder), 0.08
    yield "Lyon at 0.3 m", lyon(data, folder, 0.3), 0.3
    yield "Kampala b", kampala(data, folder, "b"), 0.0746
    yield "Kampala b at 0.3 m", kampala(data, folder, "b", 0.3), 0.3
    yield "Geneva", geneva(data, folder), 0.25
    yield "Accra, 9 images", accra(data, folder), 0.1036


def read(model: Model, place: Place, gsd: float, *, like: rasterio.DatasetReader) -> Floats:
    """Probabilities `(row, col)` on the grid of the labels, of the place read at one resolution."""
    told = predict(place.scene, model=model, options=SegmentOptions(gsd=str(gsd), backend="torch"))
    out = np.zeros((like.height, like.width), np.float32)
    reproject(
        np.nan_to_num(told.probabilities[0]),
        out,
        src_transform=told.transform,
        src_crs=told.crs,
        dst_transform=like.transform,
        dst_crs=like.crs,
        resampling=Resampling.bilinear,
    )
    return out


def size_classes(truth: Bytes, square_metres: float) -> Bytes:
    """The size class of each pixel's building, from 1; a pixel is so many square metres."""
    numbered, _ = ndimage.label(truth == 1)
    areas = np.bincount(numbered.ravel()) * square_metres
    classes = np.searchsorted(SIZES, areas, side="right").astype(np.uint8) + np.uint8(1)
    classes[0] = 0
    sized: Bytes = classes[numbered]
    return sized


def opened(coarse: Floats, gsd: float) -> Floats:
    """A coarse reading, on a grid of `gsd` metres a pixel, without what is smaller than a square.

    It is the largest value that holds for a whole square of `OPENED` metres round a pixel.
    """
    side = max(round(OPENED / gsd), 1)
    lowest: Floats = ndimage.minimum_filter(coarse, side, mode="constant")
    # An even filter lies half a pixel off; the second one is moved back by it.
    largest: Floats = ndimage.maximum_filter(lowest, side, origin=-1 if side % 2 == 0 else 0)
    return largest


def join(readings: Mapping[float, Floats], gsd: float) -> dict[str, Bytes]:
    """Levels of each reading and of each two joined, by name; `gsd` is that of their grid."""
    ways = {f"{gsd:g}": values for gsd, values in readings.items()}
    metres = sorted(readings)
    for index, fine in enumerate(metres):
        for coarse in metres[index + 1 :]:
            both = readings[fine], readings[coarse]
            ways[f"{fine:g}, {coarse:g} larger"] = np.maximum(*both)
            ways[f"{fine:g}, {coarse:g} large roofs"] = np.maximum(both[0], opened(both[1], gsd))
            ways[f"{fine:g}, {coarse:g} mean"] = np.mean(both, axis=0, dtype=np.float32)
    return {name: (values * LEVELS).round().astype(np.uint8) for name, values in ways.items()}


def see(model: Model, place: Place, gsd: float, metres: Sequence[float]) -> Seen:
    """A place read at every resolution that it can give."""
    with rasterio.open(place.labels) as labels:
        truth = labels.read(1)
        readings = {
            each: read(model, place, max(each, gsd / FINER_MAX), like=labels) for each in metres
        }
    return Seen(truth, size_classes(truth, gsd**2), join(readings, gsd))


def tell(seen: Mapping[str, Seen]) -> None:
    """Print both tables."""
    ways = list(dict.fromkeys(way for each in seen.values() for way in each.found))
    print(f"| reading | threshold | mean of those that choose | {' | '.join(seen)} |")
    print("|---" * (3 + len(seen)) + "|")
    levels = {}
    for way in ways:
        curves = {
            name: threshold_ious(histogram(each.truth, each.found[way]))
            for name, each in seen.items()
            if way in each.found
        }
        chosen = [curves[name] for name in CHOOSE if name in curves]
        mean = np.mean(chosen, axis=0)
        levels[way] = level = int(mean[1:].argmax()) + 1
        cells = [
            f"{curves[name][level]:.3f} {curves[name].max():.3f}" if name in curves else ""
            for name in seen
        ]
        whole = f"{mean[level]:.4f}" if len(chosen) == len(CHOOSE) else f"({mean[level]:.4f})"
        print(f"| {way} | {level / LEVELS:.2f} | {whole} | {' | '.join(cells)} |")
    names = [
        f"under {SIZES[0]:g} m2",
        *(f"{low:g} to {high:g}" for low, high in pairwise(SIZES)),
        f"from {SIZES[-1]:g}",
    ]
    print(f"\n| reading | place | {' | '.join(names)} | precision |")
    print("|---" * (3 + len(names)) + "|")
    for way in ways:
        for name, each in seen.items():
            if way not in each.found:
                continue
            positive = (each.found[way] >= levels[way]) & (each.truth != IGNORE)
            shares = [
                f"{positive[each.sizes == size].mean():.3f}" if (each.sizes == size).any() else ""
                for size in range(1, len(names) + 1)
            ]
            precision = (each.truth[positive] == 1).mean() if positive.any() else 0.0
            print(f"| {way} | {name} | {' | '.join(shares)} | {precision:.3f} |")


def main() -> None:
    """Print the tables of each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--work", type=Path, default=Path("build/validation"))
    parser.add_argument("--metres", default=",".join(f"{each:g}" for each in METRES))
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    metres = [float(each) for each in arguments.metres.split(",")]
    for name in arguments.models:
        model = resolve_model(name)
        print(f"\n{name}\n", flush=True)
        tell(
            {
                title: see(model, place, gsd, metres)
                for title, place, gsd in places(arguments.data, arguments.work)
            }
        )


if __name__ == "__main__":
    main()
