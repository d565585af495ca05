"""What each way to draw outlines costs in truth: area, objects, vertices, distance.

    python -m benchmarks.outlines --truth labels.geojson --probs probs.tif [--simplify 0.3]
        [--threshold 0.5] [--parted 0.9] [--instances 0.7,0.8]
    python -m benchmarks.outlines --truth labels.geojson --like image.tif

Both `--truth` and `--probs` may be repeated, in pairs; several places are also counted as one.
Probabilities come from `geohr segment image.tif --probs probs.tif`. Without a model, `--like` takes
a raster's grid and makes a stand-in: the truth, blurred, with smooth noise; its seed is fixed.

By row: IoU of all area in per cent; F1 of objects at IoU 0.5; mean vertices of the buildings that
were matched, beside the truth's; median Hausdorff distance and mean PoLiS distance (Avbelj et al.,
"A metric for polygon comparison and building extraction evaluation", 2015) of the matches, in
metres; of all that was drawn, the corners at multiples of 45 degrees and the buildings with right
angles only, both in per cent and to within `NEAR` degrees. buildingregulariser is run where it is
installed. With `--parted`, touching objects are parted at that level in every row; with
`--instances`, pixel outlines are parted at each of these.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize

from geohr.geobox import GeoBox
from geohr.geodesy import local_frames
from geohr.options import PolygonOptions
from geohr.polygons import Polygons, Tracer, TraceSettings, concatenate

Geometries = NDArray[np.object_]
BLUR, NOISE, NOISE_SCALE = 4.0, 0.12, 6.0
PEER = "buildingregulariser"
# Degrees by which a corner may differ from a multiple of 45.
NEAR = 5.0


@dataclass(frozen=True)
class Case:
    """Probabilities and truth of one place, the truth clipped to the raster."""

    name: str
    probabilities: NDArray[np.uint8]
    truth: Geometries
    transform: Any
    crs: Any
    threshold: float


def load(truth: Path, probs: Path | None, like: Path | None, threshold: float = 0.5) -> Case:
    """Read a case, or make its stand-in."""
    with rasterio.open(probs or like) as raster:
        table = geopandas.read_file(truth).to_crs(raster.crs)
        table.geometry = table.geometry.make_valid()
        table = geopandas.clip(table, raster.bounds).explode(ignore_index=True)
        shapes = np.asarray(table.geometry[table.geom_type == "Polygon"].values, object)
        rows = stand_in(shapes, raster) if probs is None else raster.read(1)
        name = truth.stem if probs else f"{truth.stem} (stand-in)"
        return Case(name, rows, shapes, raster.transform, raster.crs, threshold)


def stand_in(truth: Geometries, raster: Any) -> NDArray[np.uint8]:
    """Probabilities as a network with soft, slightly wrong edges would give them."""
    from scipy.ndimage import gaussian_filter

    mask = rasterize(truth, out_shape=raster.shape, transform=raster.transform).astype(float)
    noise = gaussian_filter(np.random.default_rng(0).normal(size=raster.shape), NOISE_SCALE)
    soft = gaussian_filter(mask, BLUR) + NOISE * noise / noise.std()
    rows: NDArray[np.uint8] = np.clip(np.rint(soft * 254), 0, 254).astype(np.uint8)
    return rows


def trace(case: Case, options: PolygonOptions) -> Polygons:
    """All polygons of a case."""
    rows = case.probabilities
    tracer = Tracer(
        TraceSettings(
            GeoBox(case.crs, case.transform, *rows.shape),
            options=options,
            threshold=case.threshold,
        )
    )
    classes = np.where(rows == 255, 255, rows >= case.threshold * 254).astype(np.uint8)
    return concatenate([tracer.push(classes, rows[None]), tracer.finish()])


def by_buildingregulariser(case: Case, options: PolygonOptions) -> Geometries | None:
    """Contours through that package at its tolerance of half a metre, if it is there."""
    try:
        from buildingregulariser import regularize_geodataframe
    except ImportError:
        return None
    traced = trace(case, options)
    metre = 1 / local_frames(traced.geometry, case.crs).scale[0, 0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drawn = regularize_geodataframe(
            traced.to_geodataframe(case.crs), simplify_tolerance=0.5 * metre, num_cores=1
        )
    return np.asarray(drawn.geometry.values, object)


def polis(one: Any, other: Any) -> float:
    """Mean distance of each polygon's corners from the other's outline, both ways."""
    ways = [
        shapely.distance(shapely.points(shapely.get_coordinates(a)[:-1]), b.boundary).mean()
        for a, b in ((one, other), (other, one))
    ]
    return float(np.mean(ways))


def corners(polygon: Any) -> tuple[int, int, bool]:
    """How many corners a polygon in metres has, how many at 45, 90 or 135 degrees; all at 90?"""
    turns = []
    for ring in shapely.get_rings(polygon):
        edge = np.diff(shapely.get_coordinates(ring), axis=0)
        along = np.degrees(np.arctan2(edge[:, 1], edge[:, 0]))
        turns.append(np.abs((along - np.roll(along, 1) + 180) % 360 - 180))
    turn = np.concatenate(turns)
    near = np.abs(turn[:, None] - [45, 90, 135]) <= NEAR
    return len(turn), int(near.any(axis=1).sum()), bool(near[:, 1].all())


@dataclass(frozen=True)
class Tally:
    """What is counted where one way was drawn, or several places together."""

    shared: float
    """Area of drawing and truth, in square metres."""
    either: float
    real: int
    """Buildings of the truth."""
    drawn: int
    matched: int
    """Buildings of the truth that were found."""
    vertices: NDArray[np.float64]
    """`(match, 2)` of the drawing, of the truth."""
    away: NDArray[np.float64]
    """`(match, 2)` Hausdorff and PoLiS distance in metres."""
    corners: NDArray[np.float64]
    """`(drawn, 3)`: see `corners`."""
    seconds: float

    def __add__(self, other: Tally) -> Tally:
        """Two places as one."""
        return Tally(
            self.shared + other.shared,
            self.either + other.either,
            self.real + other.real,
            self.drawn + other.drawn,
            self.matched + other.matched,
            np.concatenate([self.vertices, other.vertices]),
            np.concatenate([self.away, other.away]),
            np.concatenate([self.corners, other.corners]),
            self.seconds + other.seconds,
        )

    def row(self, name: str) -> str:
        """As a line of the table."""
        vertices, true_vertices = self.vertices.mean(axis=0)
        every, near, right = self.corners.sum(axis=0)
        return (
            f"{name:22}{100 * self.shared / self.either:8.2f}"
            f"{200 * self.matched / (self.real + self.drawn):8.2f}{vertices:10.2f}"
            f"{true_vertices:8.2f}{vertices / true_vertices:8.2f}"
            f"{np.median(self.away[:, 0]):8.2f}{self.away[:, 1].mean():8.2f}"
            f"{100 * near / every:8.1f}{100 * right / self.drawn:8.1f}{self.seconds:8.2f}"
        )


HEAD = (
    f"{'':22}{'IoU':>8}{'F1':>8}{'vertices':>10}{'truth':>8}{'ratio':>8}"
    f"{'Hausd.':>8}{'PoLiS':>8}{'45 deg':>8}{'right':>8}{'s':>8}"
)


def score(case: Case, found: Geometries, seconds: float) -> Tally:
    """Compare drawings with the truth."""
    truth = case.truth
    ours, theirs = shapely.union_all(found), shapely.union_all(truth)
    metre = float(np.abs(np.linalg.det(local_frames(np.array([theirs]), case.crs).scale[0])))
    real, drawn = shapely.STRtree(found).query(truth)
    shared = shapely.area(shapely.intersection(truth[real], found[drawn]))
    ratio = shared / (shapely.area(truth)[real] + shapely.area(found)[drawn] - shared)
    real, drawn = real[ratio >= 0.5], drawn[ratio >= 0.5]
    frames = local_frames(truth[real], case.crs)
    pairs = list(zip(frames.to_metres(truth[real]), found[drawn], strict=True))
    matched = [
        (one, frames.take(np.array([row])).to_metres(np.array([other], object))[0])
        for row, (one, other) in enumerate(pairs)
    ]
    far = [shapely.hausdorff_distance(one.boundary, other.boundary) for one, other in matched]
    counts = [shapely.get_num_coordinates(each) - 1 for each in (found[drawn], truth[real])]
    return Tally(
        metre * ours.intersection(theirs).area,
        metre * ours.union(theirs).area,
        len(truth),
        len(found),
        len(set(real.tolist())),
        np.column_stack(counts).astype(float),
        np.column_stack([far, [polis(one, other) for one, other in matched]]),
        np.array([corners(each) for each in local_frames(found, case.crs).to_metres(found)], float),
        seconds,
    )


def measure(case: Case, ways: dict[str, PolygonOptions]) -> dict[str, Tally]:
    """Every way in one place, with a table."""
    print(f"{case.name}: {len(case.truth)} buildings")
    print(HEAD)
    tallies = {}
    for name, options in ways.items():
        begun = time.perf_counter()
        found = trace(case, options).geometry
        tallies[name] = score(case, found, time.perf_counter() - begun)
        print(tallies[name].row(name))
    begun = time.perf_counter()
    other = by_buildingregulariser(case, ways["contour"])
    if other is not None:
        tallies[PEER] = score(case, other, time.perf_counter() - begun)
        print(tallies[PEER].row(PEER))
    tallies["truth"] = score(case, case.truth, 0.0)
    print(tallies["truth"].row("truth"))
    return tallies


def main() -> None:
    """Print a table for each place."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--truth", type=Path, action="append", required=True)
    parser.add_argument("--probs", type=Path, action="append", default=[])
    parser.add_argument("--like", type=Path, action="append", default=[])
    parser.add_argument("--simplify", type=float, default=0.3)
    parser.add_argument("--min-area", type=float, default=2.0)
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--parted", type=float, help="Level at which every row is parted.")
    parser.add_argument("--instances", default="", help="Levels, with commas between.")
    chosen = parser.parse_args()
    base = PolygonOptions(min_area=chosen.min_area, instances=chosen.parted)
    contour = replace(base, outline="contour")
    ways = {
        "pixel": base,
        "contour": contour,
        "pixel + simplify": replace(base, simplify=chosen.simplify),
        "contour + simplify": replace(contour, simplify=chosen.simplify),
        "pixel + regularize": replace(base, regularize=True),
        "contour + regularize": replace(contour, regularize=True),
    }
    for level in filter(None, chosen.instances.split(",")):
        ways[f"pixel, parted at {level}"] = replace(base, instances=float(level))
    given = chosen.probs or chosen.like
    places = []
    for truth, raster in zip(chosen.truth, given, strict=True):
        probs, like = (raster, None) if chosen.probs else (None, raster)
        places.append(measure(load(truth, probs, like, chosen.threshold), ways))
    if len(places) > 1:
        print("together")
        print(HEAD)
        for name in places[0]:
            print(reduce(add, [place[name] for place in places]).row(name))


if __name__ == "__main__":
    main()
