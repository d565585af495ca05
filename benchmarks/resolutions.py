"""The same place at several resolutions and in several CRSs: what `--gsd auto` keeps.

`python -m benchmarks.resolutions` resamples a labelled scene, segments each copy as it is and
with `--gsd auto` (or what `--read-at` names), and compares the polygons, which come back in the
copy's CRS, with the labels on the finest grid. The offset is the shift, in the copy's pixels, by
which what was found would have to be moved to overlap best with what is there.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import rasterio
import rasterio.warp
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.features import rasterize
from rasterio.transform import array_bounds, from_origin
from scipy.signal import fftconvolve

from geohr.api.memory import segment
from geohr.geodesy import local_metric_crs, parse_crs
from geohr.models.model import Model, resolve_model
from geohr.options import SegmentOptions
from geohr.scene import Scene

DATA = Path(__file__).parents[1] / "examples" / "data"
SAMPLE = (str(DATA / "kampala.tif"), str(DATA / "kampala_buildings.gpkg"))
RESOLUTIONS = (0.07, 0.15, 0.3, 0.6)
FINEST_SLACK = 1.1
"""A resolution this near the scene's own is the scene's own."""
IGNORED = 255
REACH = 2.0
"""Metres by which polygons are looked for beside the truth."""

Surface = NDArray[np.floating]


@dataclass(frozen=True)
class Truth:
    """What is there.

    Attributes:
        classes: `(row, col)` on the scene's own grid: 1 object, 0 none, 255 not known.
        scene: The scene's description.
    """

    classes: NDArray[np.uint8]
    scene: Scene


@dataclass(frozen=True)
class Score:
    """What was found.

    Attributes:
        both: Pixels found that are there.
        either: Pixels found or there.
        overlap: See `correlation`, on the finest grid.
    """

    both: int
    either: int
    overlap: Surface


def read_truth(image: str, labels: str) -> Truth:
    """Labels of a scene: a raster on its grid, or polygons."""
    scene = Scene.open(image)
    if labels.endswith(".tif"):
        with rasterio.open(labels) as raster:
            classes = raster.read(1)
        return Truth(classes, scene)
    outlines = geopandas.read_file(labels).to_crs(scene.crs).geometry
    size = (scene.height, scene.width)
    classes = rasterize(outlines, out_shape=size, transform=scene.transform, dtype=np.uint8)
    return Truth(classes, scene)


def resample(
    truth: Truth, crs: str, gsd: float, path: Path, shift: tuple[float, float] = (0, 0)
) -> Path:
    """A copy of the scene in another CRS, `gsd` true metres a pixel.

    Its first pixel begins `shift` pixels left of and above the scene.
    """
    scene = truth.scene
    bounds = array_bounds(scene.height, scene.width, scene.transform)
    west, south, east, north = rasterio.warp.transform_bounds(scene.crs, crs, *bounds)
    known = parse_crs(crs)
    pixel = gsd
    if known.is_geographic:
        pixel = gsd / 111_320
    elif known.to_epsg() == 3857:
        pixel = gsd * scene.transform.a / (scene.gsd or 1)
    west, north = west - shift[0] * pixel, north + shift[1] * pixel
    width, height = math.ceil((east - west) / pixel), math.ceil((north - south) / pixel)
    profile = {
        "driver": "GTiff", "dtype": scene.dtype, "count": len(scene.bands), "crs": crs,
        "height": height, "width": width, "transform": from_origin(west, north, pixel, pixel),
        "nodata": 0, "tiled": True, "compress": "deflate",
    }  # fmt: skip
    fine = scene.gsd is not None and gsd < scene.gsd * 1.5
    with rasterio.open(scene.path) as source, rasterio.open(path, "w", **profile) as target:
        for band in scene.bands:
            rasterio.warp.reproject(
                rasterio.band(source, band),
                rasterio.band(target, band),
                dst_nodata=0,
                resampling=Resampling.cubic if fine else Resampling.average,
            )
    return path


def measure(path: Path, truth: Truth, model: Model, gsd: str) -> Score:
    """Segment a copy and compare."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = segment(path, model=model, options=SegmentOptions(gsd=gsd), progress=None)
    drawn = found.to_crs(truth.scene.crs)
    size = truth.classes.shape
    mask = np.zeros(size, np.uint8)
    if len(drawn):
        mask = rasterize(drawn.geometry, out_shape=size, transform=truth.scene.transform)
    known, there = truth.classes != IGNORED, truth.classes == 1
    both = ((mask == 1) & there & known).sum()
    either = (((mask == 1) | there) & known).sum()
    reach = math.ceil(REACH / (truth.scene.gsd or 1))
    return Score(int(both), int(either), correlation((mask == 1) & known, there, reach))


def correlation(found: NDArray[np.bool_], there: NDArray[np.bool_], reach: int) -> Surface:
    """How many pixels overlap when what was found is moved by up to `reach` pixels.

    Args:
        found: `(row, col)`.
        there: `(row, col)`.
        reach: Largest shift, each way.

    Returns:
        `(2 reach + 1, 2 reach + 1)`, no shift in the middle; less where it is larger than chance.
    """
    one, other = (each.astype(np.float32) - each.mean(dtype=np.float64) for each in (found, there))
    whole = fftconvolve(other, one[::-1, ::-1], mode="full")
    row, col = found.shape[0] - 1, found.shape[1] - 1
    part: Surface = whole[row - reach : row + reach + 1, col - reach : col + reach + 1]
    return part


def peak(surface: Surface) -> Surface:
    """Rows and columns from the middle to the highest place, between pixels by a parabola."""
    row, col = np.unravel_index(surface.argmax(), surface.shape)
    shift = []
    for axis, place in ((0, row), (1, col)):
        line = surface[:, col] if axis == 0 else surface[row]
        middle = len(line) // 2
        if not 0 < place < len(line) - 1:
            return np.array([math.inf, math.inf])
        before, at, after = line[place - 1 : place + 2]
        shift.append(place - middle + (before - after) / (2 * (before - 2 * at + after)))
    return np.array(shift)


def summed(scores: list[Score], truth: Truth) -> tuple[float, Surface]:
    """IoU of all places; metres down and right by which what was found must be moved."""
    iou = sum(each.both for each in scores) / max(sum(each.either for each in scores), 1)
    pixel = truth.scene.gsd or math.nan
    return iou, peak(np.sum([each.overlap for each in scores], axis=0)) * pixel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=None, help="a bundled name or a .safetensors file")
    parser.add_argument(
        "--place", nargs=2, action="append", metavar=("IMAGE", "LABELS"), help="by default the "
        "sample scene; repeatable, the scores are of all together",
    )  # fmt: skip
    parser.add_argument("--read-at", default="native,auto", help="what --gsd is set to")
    parser.add_argument("--crs", default="EPSG:3857,utm,EPSG:4326")
    parser.add_argument("--resolutions", default=",".join(map(str, RESOLUTIONS)))
    args = parser.parse_args()
    model = resolve_model(args.model)
    truths = [read_truth(*place) for place in args.place or [SAMPLE]]
    ways = args.read_at.split(",")
    print(f"model {model.card.name} {model.digest[:12]}, trained on {model.card.gsd} m")
    print(f"{'metres':>7} {'CRS':<11}" + "".join(f"{each:>9} IoU offset px" for each in ways))
    with tempfile.TemporaryDirectory() as folder:
        for text in args.resolutions.split(","):
            for crs in args.crs.split(","):
                row = f"{text:>7} {crs:<11}"
                gsd = float(text)
                copies = []
                for number, truth in enumerate(truths):
                    own = truth.scene.gsd or gsd
                    wanted = own if gsd < own * FINEST_SLACK else gsd
                    known = crs
                    if crs == "utm":
                        corner = truth.scene.transform @ (0, 0)
                        known = local_metric_crs(truth.scene.crs, *corner).to_string()
                    copies.append(resample(truth, known, wanted, Path(folder) / f"{number}.tif"))
                for way in ways:
                    scores = [
                        measure(copy, truth, model, way)
                        for copy, truth in zip(copies, truths, strict=True)
                    ]
                    iou, offset = summed(scores, truths[0])
                    row += f"{iou:>13.4f}{np.hypot(*offset) / wanted:>10.2f}"
                print(row, flush=True)


if __name__ == "__main__":
    main()
