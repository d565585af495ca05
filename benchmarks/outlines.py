"""What each way to draw outlines costs in truth: area, objects, vertices, distance.

    python -m benchmarks.outlines --truth labels.geojson --probs probs.tif [--simplify 0.3]
        [--threshold 0.5] [--parted 0.9] [--instances 0.7,0.8]
    python -m benchmarks.outlines --truth labels.geojson --like image.tif

Both `--truth` and `--probs` may be repeated, in pairs. Probabilities come from
`geohr segment image.tif --probs probs.tif`. Without a model, `--like` takes a raster's grid and
makes a stand-in: the truth, blurred, with smooth noise; the noise's seed is fixed.

By row: IoU of all area in per cent; F1 of objects at IoU 0.5; mean vertices of the buildings that
were matched, beside the truth's; median Hausdorff distance and mean PoLiS distance (Avbelj et al.,
"A metric for polygon comparison and building extraction evaluation", 2015) of the matches, in
metres. buildingregulariser is run where it is installed. With `--parted`, touching objects are
parted at that level in every row; with `--instances`, pixel outlines are parted at each of these.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize

from geohr.ground import local_frames
from geohr.options import PolygonOptions
from geohr.polygons import Polygons, Tracer, Tracing, concatenate

Geometries = NDArray[np.object_]
BLUR, NOISE, NOISE_SCALE = 4.0, 0.12, 6.0


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
        return Case(truth.stem, rows, shapes, raster.transform, raster.crs.to_wkt(), threshold)


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
        Tracing(
            rows.shape[1],
            transform=case.transform,
            crs=case.crs,
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


def score(name: str, case: Case, found: Geometries, seconds: float) -> None:
    """Print one row."""
    truth = case.truth
    ours, theirs = shapely.union_all(found), shapely.union_all(truth)
    iou = ours.intersection(theirs).area / ours.union(theirs).area
    real, drawn = shapely.STRtree(found).query(truth)
    shared = shapely.area(shapely.intersection(truth[real], found[drawn]))
    ratio = shared / (shapely.area(truth)[real] + shapely.area(found)[drawn] - shared)
    real, drawn = real[ratio >= 0.5], drawn[ratio >= 0.5]
    f1 = 2 * len(set(real)) / (len(truth) + len(found))
    vertices = (shapely.get_num_coordinates(found[drawn]) - 1).mean()
    true_vertices = (shapely.get_num_coordinates(truth[real]) - 1).mean()
    frames = local_frames(truth[real], case.crs)
    pairs = list(zip(frames.to_metres(truth[real]), found[drawn], strict=True))
    matched = [
        (one, frames.take(np.array([row])).to_metres(np.array([other], object))[0])
        for row, (one, other) in enumerate(pairs)
    ]
    far = np.median(
        [shapely.hausdorff_distance(one.boundary, other.boundary) for one, other in matched]
    )
    mean = np.mean([polis(one, other) for one, other in matched])
    print(
        f"{name:22}{100 * iou:8.2f}{100 * f1:8.2f}{vertices:10.2f}"
        f"{true_vertices:8.2f}{vertices / true_vertices:8.2f}{far:8.2f}{mean:8.2f}{seconds:8.2f}"
    )


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
    for truth, raster in zip(chosen.truth, given, strict=True):
        case = load(
            truth,
            raster if chosen.probs else None,
            None if chosen.probs else raster,
            chosen.threshold,
        )
        print(f"{case.name}{'' if chosen.probs else ' (stand-in)'}: {len(case.truth)} buildings")
        print(
            f"{'':22}{'IoU':>8}{'F1':>8}{'vertices':>10}{'truth':>8}{'ratio':>8}"
            f"{'Hausd.':>8}{'PoLiS':>8}{'s':>8}"
        )
        for name, options in ways.items():
            begun = time.perf_counter()
            found = trace(case, options).geometry
            score(name, case, found, time.perf_counter() - begun)
        begun = time.perf_counter()
        other = by_buildingregulariser(case, contour)
        if other is not None:
            score("buildingregulariser", case, other, time.perf_counter() - begun)


if __name__ == "__main__":
    main()
