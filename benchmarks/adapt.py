"""What a few labels of a place are worth: maps of the rest of it, before and after `geohr adapt`.

`python -m benchmarks.adapt --place SCENE LABELS --objects 5,10,20,40 --draws 2 --minutes 10` labels
random squares of 25 m with objects in them, as an analyst would, until they hold as many; fits a
model to them, the bundled one or that of `--model`; and scores the maps of both models on all that
was not labelled. LABELS is a raster on the scene's grid: 0, 1, and 255 where nothing is annotated.
With `--next`, the squares are those that `geohr check next` chooses, in its order.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize, shapes

from geohr import Model, segment, segment_to_files
from geohr.encoding import IGNORE
from geohr.errors import InputError
from geohr.evaluation.metrics import f1, iou
from geohr.evaluation.objects import match
from geohr.models.model import resolve_model
from geohr.options import SegmentOptions
from geohr.training.adapt import EVEN, try_fits
from geohr.training.gain import judge
from geohr.training.options import AdaptOptions
from geohr.workflows.check.candidates import next_windows
from geohr.workflows.check.options import NextOptions
from geohr.workflows.check.windows import WINDOW_M

# Smaller true objects are specks of the labels.
OBJECT_M2 = 4.0
# Larger ones are rows of houses, which are drawn as parcels of this side in metres.
BLOCK_M2, PARCEL = 400.0, 15.0
HEAD = (
    "| place | objects | squares | steps | seconds | IoU before | after | F1 before | after "
    "| gain on labels | taken |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Place:
    """A scene whose truth is known.

    Attributes:
        scene: Its file.
        labels: Raster of classes on its grid.
        model: Name or file of the model that is fitted to it; by default the bundled one.
    """

    scene: Path
    labels: Path
    model: str | None = None

    @cached_property
    def start(self) -> Model:
        """The model that is fitted."""
        return resolve_model(self.model)

    @cached_property
    def grid(self) -> tuple[NDArray[np.uint8], Any, Any]:
        """Classes `(row, col)`, transform and CRS."""
        with rasterio.open(self.labels) as raster:
            return raster.read(1), raster.transform, raster.crs

    @cached_property
    def objects(self) -> NDArray[np.object_]:
        """True objects, in the scene's CRS."""
        classes, transform, _ = self.grid
        found = shapes(classes, mask=classes == 1, transform=transform, connectivity=4)
        polygons = shapely.make_valid(
            np.array([shapely.geometry.shape(each) for each, _ in found], object)
        )
        return large(polygons)

    @cached_property
    def parcels(self) -> NDArray[np.object_]:
        """What is drawn as one object: a true object, or a parcel of a row of houses."""
        blocks = shapely.area(self.objects) > BLOCK_M2
        west, south, east, north = shapely.total_bounds(self.objects)
        cells = [
            shapely.box(x, y, x + PARCEL, y + PARCEL)
            for x in np.arange(west, east, PARCEL)
            for y in np.arange(south, north, PARCEL)
        ]
        parts = shapely.intersection(self.objects[blocks][:, None], np.array(cells, object)).ravel()
        return large(np.concatenate([self.objects[~blocks], parts]))

    @cached_property
    def ground(self) -> Any:
        """What is annotated."""
        classes, transform, _ = self.grid
        known = shapes(classes, mask=classes != IGNORE, transform=transform)
        return shapely.union_all(
            [shapely.make_valid(shapely.geometry.shape(each)) for each, _ in known]
        )

    @cached_property
    def former(self) -> NDArray[np.object_]:
        """The objects that the model finds before it is fitted."""
        return self.find(self.start)

    def find(self, model: Model) -> NDArray[np.object_]:
        """The objects that a model finds."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Compiling a network for one map takes longer than the map.
            found: NDArray[np.object_] = segment(
                self.scene, model=model, options=SegmentOptions(backend="torch"), progress=None
            ).geometry.to_numpy()
        return found

    def score(self, found: NDArray[np.object_], areas: NDArray[np.object_]) -> tuple[float, float]:
        """IoU and F1 of a map's objects outside of some areas."""
        classes, transform, _ = self.grid
        inside = drawn(areas, classes.shape, transform)
        counted = (classes != IGNORE) & ~inside
        here, there = drawn(found, classes.shape, transform) & counted, (classes == 1) & counted
        pixels = iou((here & there).sum(), (here & ~there).sum(), (there & ~here).sum())
        known = rest(found, areas), rest(self.objects, areas)
        pairs = len(match(known[1], known[0]).iou)
        return float(pixels), float(f1(pairs, len(known[0]) - pairs, len(known[1]) - pairs))


def large(polygons: NDArray[np.object_]) -> NDArray[np.object_]:
    """Those that count as objects."""
    kept: NDArray[np.object_] = polygons[shapely.area(polygons) >= OBJECT_M2]
    return kept


def drawn(
    polygons: NDArray[np.object_], shape: tuple[int, ...], transform: Any
) -> NDArray[np.bool_]:
    """`(row, col)` True where a polygon covers a pixel's centre."""
    if len(polygons) == 0:
        return np.zeros(shape, bool)
    mask: NDArray[np.uint8] = rasterize(polygons, out_shape=shape, transform=transform)
    return mask.astype(bool)


def rest(polygons: NDArray[np.object_], areas: NDArray[np.object_]) -> NDArray[np.object_]:
    """Polygons whose middle lies outside of all areas."""
    tree = shapely.STRtree(areas)
    return np.delete(polygons, np.unique(tree.query(shapely.centroid(polygons))[0]))


def next_squares(place: Place, count: int) -> NDArray[np.object_]:
    """Squares of `geohr check next`, in its order."""
    with tempfile.TemporaryDirectory() as folder:
        found, probs, out = (Path(folder) / name for name in ("o.gpkg", "p.tif", "next.gpkg"))
        segment_to_files(place.scene, [found], model=place.start, probs=probs)
        next_windows(place.scene, found, probs, out, options=NextOptions(windows=count))
        squares = geopandas.read_file(out, layer="places").sort_values("turn")
    shapes: NDArray[np.object_] = squares.to_crs(place.grid[2]).geometry.to_numpy()
    return shapes


def random_squares(place: Place, random: np.random.Generator) -> NDArray[np.object_]:
    """Squares of the size of those of `geohr check next` that hold objects, in a random order."""
    west, south, east, north = place.ground.bounds
    squares = [
        shapely.box(x, y, x + WINDOW_M, y + WINDOW_M)
        for x in np.arange(west, east, WINDOW_M)
        for y in np.arange(south, north, WINDOW_M)
    ]
    held = np.unique(shapely.STRtree(squares).query(place.parcels, predicate="intersects")[1])
    shuffled: NDArray[np.object_] = np.array(squares, object)[random.permutation(held)]
    return shuffled


def first_of(place: Place, squares: NDArray[np.object_], wanted: int) -> NDArray[np.object_]:
    """The first squares, as far as they are annotated, until they hold `wanted` objects."""
    tree = shapely.STRtree(place.parcels)
    sites: list[Any] = []
    for site in shapely.intersection(squares, place.ground):
        if site.area > 0:
            sites.append(site)
        if len(np.unique(tree.query(sites, predicate="intersects")[1])) >= wanted:
            break
    return np.array(sites, object)


def write_labels(place: Place, areas: NDArray[np.object_], path: Path) -> int:
    """Write what an analyst would draw in some areas, and say how many objects that is."""
    crs = place.grid[2]
    known = shapely.union_all(areas)
    inside = shapely.intersection(place.parcels, known)
    inside = inside[shapely.area(inside) > 0]
    geopandas.GeoDataFrame(geometry=inside, crs=crs).to_file(path, layer="labels")
    geopandas.GeoDataFrame(geometry=areas, crs=crs).to_file(path, layer="labelled")
    return len(inside)


def compare(place: Place, areas: NDArray[np.object_], options: AdaptOptions) -> str:
    """A row of the table: scores outside of the labelled areas, before and after.

    Those after are of the fitted weights, also where labels that were left out refuse them.
    """
    start = place.start
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        known = Path(folder) / "labels.gpkg"
        count = write_labels(place, areas, known)
        try:
            trial = try_fits(str(place.scene), known, start, options)
        except InputError as error:
            return f"| {place.scene.stem} | {count} | {len(areas)} | {error} |"
    seconds = time.monotonic() - began
    gain = judge(trial.counts, start.card.threshold or EVEN, certainty=options.certainty)
    made = trial.mixed(start, replace(gain, high=max(gain.high, 0.0)), "fitted")
    before, after = place.score(place.former, areas), place.score(place.find(made), areas)
    return (
        f"| {place.scene.stem} | {count} | {len(areas)} | {trial.steps} | {seconds:.0f} "
        f"| {before[0]:.3f} | {after[0]:.3f} | {before[1]:.3f} | {after[1]:.3f} "
        f"| {gain.after - gain.before:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}) "
        f"| {'yes' if gain.taken else 'no'} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--place", nargs=2, type=Path, action="append", required=True)
    parser.add_argument("--model", help="Name or file; by default the bundled building model.")
    parser.add_argument("--objects", default="5,10,20,40")
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=AdaptOptions().minutes)
    parser.add_argument("--steps", type=int, default=AdaptOptions().steps)
    parser.add_argument("--rate", type=float, default=AdaptOptions().learning_rate)
    parser.add_argument("--precision", default=AdaptOptions().precision)
    parser.add_argument("--next", action="store_true")
    given = parser.parse_args()
    print(HEAD, flush=True)
    for scene, labels in given.place:
        place = Place(scene, labels, given.model)
        for wanted in map(int, given.objects.split(",")):
            for seed in range(given.seed, given.seed + given.draws):
                squares = (
                    next_squares(place, wanted)
                    if given.next
                    else random_squares(place, np.random.default_rng(seed))
                )
                areas = first_of(place, squares, wanted)
                options = AdaptOptions(
                    minutes=given.minutes,
                    steps=given.steps,
                    learning_rate=given.rate,
                    precision=given.precision,
                    seed=seed,
                )
                print(compare(place, areas, options), flush=True)


if __name__ == "__main__":
    main()
