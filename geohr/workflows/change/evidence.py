"""What the probabilities of a date say inside polygons, and where a date shows anything at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyproj
import shapely
from affine import Affine
from rasterio.enums import Resampling
from rasterio.features import rasterize
from rasterio.windows import Window as RasterWindow

from geohr.encoding import NODATA, PROBABILITY_MAX, Bools, Floats, Floats32, Geometries
from geohr.errors import InputError
from geohr.geodesy import local_scale, parse_crs
from geohr.scene.files import open_raster
from geohr.scene.footprints import box_in

# Pixels that polygons are drawn on at a time.
PIXELS = 2**24


@dataclass(frozen=True)
class Evidence:
    """Mean probabilities inside polygons.

    Attributes:
        probability: `(n,)` in [0, 1]; 0 where nothing was seen.
        seen: `(n,)` share of the polygon for which there are data.
    """

    probability: Floats
    seen: Floats


class ProbabilityRaster:
    """Probabilities of one date as geohr writes them, open; a context manager.

    Args:
        path: uint8, probability x 254, 255 = no data; of several classes the largest counts.
        plane: The metric CRS in which polygons come.

    Raises:
        InputError: When it cannot be read, is no such raster, or has no CRS.
    """

    def __init__(self, path: str, plane: pyproj.CRS) -> None:
        self.path = path
        self._raster: Any = open_raster(path)
        if self._raster.dtypes[0] != "uint8" or self._raster.crs is None:
            raise InputError(
                f"{path}: probabilities must be uint8 (probability x 254) with a CRS; got "
                f"{self._raster.dtypes[0]} and {self._raster.crs or 'no CRS'}"
            )
        self._crs = parse_crs(self._raster.crs.to_wkt())
        self._same = self._crs == plane
        self._to_raster = pyproj.Transformer.from_crs(plane, self._crs, always_xy=True)

    def __enter__(self) -> Self:
        """Return the object itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._raster.close()

    @property
    def pixel(self) -> float:
        """Metres a pixel in the middle."""
        raster = self._raster
        x, y = raster.transform @ (raster.width / 2, raster.height / 2)
        a, b, _, d, e, _ = raster.transform[:6]
        scale = local_scale(self._crs, np.array([x]), np.array([y]))[0]
        return float(np.sqrt(abs(np.linalg.det(scale @ np.array([[a, b], [d, e]])))))

    def bounds_in(self, plane: pyproj.CRS) -> tuple[float, float, float, float]:
        """West, south, east and north of the raster in the plane."""
        west, south, east, north = self._raster.bounds
        return box_in((west, south, east, north), self._crs, plane)

    def inside(self, shapes: Geometries) -> Evidence:
        """Mean probability and share of data inside polygons `(n,)` of the plane.

        Polygons are drawn by pixel centres; one that holds none takes the pixel under its middle.
        """
        probability, seen = np.zeros(len(shapes)), np.zeros(len(shapes))
        # Neighbours in the order of the file are read together.
        for part in batches(self._pixels(shapes), PIXELS):
            self._look(shapes, part, probability, seen)
        return Evidence(probability, seen)

    def _pixels(self, shapes: Geometries) -> Floats:
        """Bounds in columns and rows, `(n, 4)`: left, top, right, bottom."""
        placed = self._placed(shapes)
        return np.asarray(shapely.bounds(placed).reshape(-1, 4), np.float64)

    def _placed(self, shapes: Geometries) -> Geometries:
        """Polygons of the plane, in columns and rows of the raster."""
        a, b, c, d, e, f = (~self._raster.transform)[:6]

        def place(points: Floats) -> Floats:
            x, y = points.T if self._same else self._to_raster.transform(*points.T)
            return np.column_stack([a * x + b * y + c, d * x + e * y + f])

        return np.asarray(shapely.transform(shapes, place), object)

    def _look(self, shapes: Geometries, part: Any, probability: Floats, seen: Floats) -> None:
        """Fill in what one batch of polygons holds."""
        placed = self._placed(shapes[part])
        bounds = shapely.bounds(placed).reshape(-1, 4)
        if not len(bounds) or not np.isfinite(bounds).any():
            return
        left, top = np.floor(np.nanmin(bounds[:, :2], axis=0)).astype(int)
        right, bottom = np.ceil(np.nanmax(bounds[:, 2:], axis=0)).astype(int) + 1
        left, top = max(left, 0), max(top, 0)
        right, bottom = min(right, self._raster.width), min(bottom, self._raster.height)
        if left >= right or top >= bottom:
            return
        values = self._raster.read(window=RasterWindow(left, top, right - left, bottom - top))
        best = np.where(values == NODATA, 0, values).max(axis=0)
        known = (values != NODATA).any(axis=0)
        real = np.flatnonzero(~shapely.is_empty(placed))
        if len(real) == 0:
            return
        drawn = rasterize(
            [(placed[index], index + 1) for index in real],
            out_shape=known.shape,
            transform=Affine.translation(left, top),
            dtype=np.int32,
        )
        size = len(placed) + 1
        pixels = np.bincount(drawn.ravel(), minlength=size)[1:]
        valid = np.bincount(drawn[known], minlength=size)[1:]
        total = np.bincount(drawn[known], weights=best[known], minlength=size)[1:]
        # What lies beyond the raster was not seen.
        area = np.maximum(pixels, shapely.area(placed))
        probability[part] = total / np.maximum(valid, 1) / PROBABILITY_MAX
        seen[part] = valid / np.maximum(area, 1)
        for index in np.flatnonzero((pixels == 0) & ~shapely.is_empty(placed)):
            point = shapely.point_on_surface(placed[index])
            row, col = int(np.floor(point.y)) - top, int(np.floor(point.x)) - left
            if 0 <= row < known.shape[0] and 0 <= col < known.shape[1] and known[row, col]:
                probability[part[index]] = best[row, col] / PROBABILITY_MAX
                seen[part[index]] = 1.0

    def look(self, plane: pyproj.CRS) -> Any:
        """Read the raster around a point; a `geohr.workflows.change.shift.Look`."""
        return raster_look(self._raster, plane)


def batches(bounds: Floats, pixels: int) -> list[Any]:
    """Indices of boxes, gathered along rows so that each batch spans few pixels."""
    if len(bounds) == 0:
        return []
    order = np.lexsort((bounds[:, 0], np.floor(bounds[:, 1] / 2048)))
    made, start = [], 0
    box = bounds[order[0]].copy()
    for place, index in enumerate(order):
        grown = np.concatenate(
            [np.fmin(box[:2], bounds[index, :2]), np.fmax(box[2:], bounds[index, 2:])]
        )
        if place > start and (grown[2] - grown[0]) * (grown[3] - grown[1]) > pixels:
            made.append(order[start:place])
            start, grown = place, bounds[index].copy()
        box = grown
    made.append(order[start:])
    return made


def raster_look(raster: Any, plane: pyproj.CRS) -> Any:
    """Read grey values of an open raster around points of a plane, as a `Look` does."""
    from rasterio.vrt import WarpedVRT

    from geohr.workflows.change.shift import SIDE

    def look(x: float, y: float, pixel: float) -> tuple[Floats32, Bools] | None:
        half = SIDE * pixel / 2
        transform = Affine(pixel, 0, x - half, 0, -pixel, y + half)
        with WarpedVRT(
            raster,
            crs=plane.to_wkt(),
            transform=transform,
            height=SIDE,
            width=SIDE,
            resampling=Resampling.bilinear,
            add_alpha=False,
        ) as seen:
            bands = list(raster.indexes)[:3]
            values = seen.read(bands, out_dtype="float32")
            valid = seen.dataset_mask() > 0
        if valid.mean() < 0.5:
            return None
        return values.mean(axis=0), valid

    return look
