"""Whether the intervals of `geohr check` hold the truth, and how long they are.

`python -m benchmarks.check --place MAP.gpkg PROBS.tif LABELS` draws samples of a map whose truth is
known, judges them by the truth, and counts how often the 95% intervals hold it; `--place` may be
repeated. LABELS are polygons, or a raster of classes on the scene's grid (0, 1, and 255 where
nothing is annotated). Beside each half width stands its ratio to that of as many judgements without
strata, objects and windows drawn at random, and beside the error of recall its ratio to that of as
many random points instead of windows.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import geopandas
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.features import shapes as traced

from geohr.evaluation.objects import match
from geohr.geodesy import areas
from geohr.scene.footprints import FootprintLayer, Footprints
from geohr.workflows.check.estimate import Judgements, Quality, Strata, quality
from geohr.workflows.check.sample import Drawn, draw_members, draw_objects, draw_windows, placed
from geohr.workflows.check.windows import MapWindows, read_windows

# Smaller true objects, in square metres, are specks of the labels.
OBJECT_M2 = 4.0
SIZES = (50, 100, 200, 400)
# Draws for each of a simple random sample.
PLAIN = 5


@dataclass(frozen=True)
class Truth:
    """A map with what there is to know of it.

    Attributes:
        objects: Of the map.
        size: `(n,)` their square metres.
        right: `(n,)` 1 where an object matches a true one, else 0.
        windows: Of the map.
        missed: `(m,)` true objects without a match, by window.
        missed_m2: Square metres of each of them.
    """

    objects: Footprints
    size: NDArray[np.float64]
    right: NDArray[np.float64]
    windows: MapWindows
    missed: NDArray[np.float64]
    missed_m2: NDArray[np.float64]

    @cached_property
    def scores(self) -> tuple[float, float, float]:
        """True precision, recall and count."""
        right, missed = self.right.sum(), self.missed.sum()
        return float(right / len(self.right)), float(right / (right + missed)), right + missed

    @classmethod
    def read(cls, result: Path, probabilities: Path, labels: Path) -> Truth:
        """Match a map with the truth."""
        layer = FootprintLayer(str(result))
        assert layer.bounds is not None
        objects = layer.read(layer.bounds, layer.crs)
        windows = read_windows(probabilities, layer)
        there = read_truth(labels, layer.crs)
        pairs = match(there, objects.shapes)
        right = np.zeros(len(objects))
        right[pairs.found] = 1
        lost = np.delete(there, pairs.truth)
        squares = placed(windows.shapes, windows.crs, layer.crs)
        at = shapely.STRtree(squares).query(shapely.centroid(lost), predicate="intersects")
        _, first = np.unique(at[0], return_index=True)
        missed = np.bincount(at[1][first], minlength=len(windows)).astype(np.float64)
        size = areas(objects.shapes, layer.crs)
        return cls(objects, size, right, windows, missed, areas(lost[at[0][first]], layer.crs))


def read_truth(labels: Path, crs: object) -> NDArray[np.object_]:
    """True objects in a CRS."""
    if labels.suffix == ".tif":
        with rasterio.open(labels) as raster:
            classes = raster.read(1)
            found = traced(classes, mask=classes == 1, transform=raster.transform, connectivity=4)
            table = geopandas.GeoSeries(
                [shapely.geometry.shape(each) for each, _ in found], crs=raster.crs
            )
    else:
        table = geopandas.read_file(labels).geometry
    shapes: NDArray[np.object_] = shapely.make_valid(table.to_crs(crs).to_numpy())
    return shapes[areas(shapes, crs) >= OBJECT_M2]


def at_random(count: int, judgements: int, random: np.random.Generator) -> Drawn:
    """A simple random sample."""
    one, number = np.zeros(count, np.int64), np.array([min(judgements, count)])
    return draw_members(one, np.array(["all"]), np.array([count]), number, random)


def strata(drawn: Drawn, expected: NDArray[np.float64] | None = None) -> Strata:
    """The strata of a sample that was judged whole."""
    names, first, of = np.unique(drawn.strata.astype(str), return_index=True, return_inverse=True)
    hoped = np.zeros(len(names)) if expected is None else expected[first]
    return Strata(of, drawn.members[first], hoped)


def judge(truth: Truth, judgements: int, random: np.random.Generator, *, plain: bool) -> Quality:
    """Draw a sample, half of it objects, and estimate from the truth's answers."""
    wanted = judgements // 2
    if plain:
        objects = at_random(len(truth.objects), wanted, random)
        places = at_random(len(truth.windows), judgements - wanted, random)
        expected = np.full(len(places.index), truth.windows.expected.mean())
    else:
        objects = draw_objects(truth.objects, truth.size, wanted, random)
        places, expected = draw_windows(truth.windows, judgements - wanted, random)
    answers = Judgements(
        truth.right[objects.index], strata(objects), truth.objects.confidence[objects.index],
        truth.size[objects.index], truth.objects.names[objects.index],
        truth.missed[places.index], strata(places, expected), np.zeros(0),
    )  # fmt: skip
    return quality(answers, random)


def point_errors(
    truth: Truth, judgements: int, draws: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Errors of recall where half of the judgements are random points instead of windows."""
    wanted = min(judgements // 2, len(truth.objects))
    points = judgements - judgements // 2
    shares = truth.missed_m2 / truth.windows.ground
    hits = random.multinomial(points, np.append(shares, max(1 - shares.sum(), 0)), draws)[:, :-1]
    missed: NDArray[np.float64] = (hits / np.maximum(shares, 1e-12) / points).sum(axis=1)
    right = random.hypergeometric(
        int(truth.right.sum()), int((1 - truth.right).sum()), wanted, draws
    )
    found = right / wanted * len(truth.objects)
    return found / np.maximum(found + missed, 1e-9) - truth.scores[1]


def row(truth: Truth, judgements: int, draws: int) -> str:
    """Coverage, half widths and their ratios, of one size of the sample."""
    random = np.random.default_rng(judgements)
    held, half, errors = np.zeros((2, 3)), np.zeros((2, 2)), np.zeros(2)
    # The simple random sample is there for its half width alone.
    for plain, number in ((0, draws), (1, max(draws // PLAIN, 1))):
        for _ in range(number):
            told = judge(truth, judgements, random, plain=bool(plain))
            for place, interval in enumerate((told.precision, told.recall, told.count)):
                inside = interval.low - 1e-9 <= truth.scores[place] <= interval.high + 1e-9
                held[plain, place] += inside / number
            half[plain] += np.array([told.precision.half_width, told.recall.half_width]) / number
            errors[plain] += (told.recall.value - truth.scores[1]) ** 2 / number
    errors = np.sqrt(errors)
    points = float(np.sqrt((point_errors(truth, judgements, draws, random) ** 2).mean()))
    cells = [
        *(f"{each:.1%}" for each in held[0]),
        *(f"{each:.3f}" for each in half[0]),
        *(f"{mine / plain:.2f}" if plain > 1e-9 else "-" for mine, plain in half.T),
        f"{errors[0] / points:.2f}" if points else "-",
    ]
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--place", nargs=3, type=Path, action="append", required=True)
    parser.add_argument("--draws", type=int, default=1000)
    given = parser.parse_args()
    print(
        "| map | objects, windows | judged | precision held | recall held | count held "
        "| half width precision | recall | of random objects | of random windows "
        "| error of recall, of random points |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    for result, probabilities, labels in given.place:
        truth = Truth.read(result, probabilities, labels)
        precision, recall, _ = truth.scores
        known = f"{len(truth.objects)}, {len(truth.windows)}"
        for judgements in SIZES:
            print(
                f"| {result.stem} ({precision:.0%} right, {recall:.0%} found) | {known} "
                f"| {judgements} | {row(truth, judgements, given.draws)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
