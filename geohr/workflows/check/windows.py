"""Square windows of a map, and how many objects it can be expected to miss in each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from affine import Affine
from rasterio.features import rasterize
from rasterio.windows import Window as RasterWindow

from geohr.encoding import NODATA, PROBABILITY_MAX, Floats, Geometries, Ints
from geohr.errors import InputError
from geohr.geodesy import areas, local_scale, parse_crs
from geohr.scene.files import open_raster
from geohr.scene.footprints import FootprintLayer, Footprints

# Side in metres: what fits on a screen at a zoom at which a shed can be told from a car.
WINDOW_M = 25.0
BAND_PIXELS = 2**23
# Missed objects to expect for each object of the map: one that is outlined badly is a missed one.
MISSED_AN_OBJECT = 0.25
# No window is expected to miss more, whatever the probabilities say.
EXPECTED_MAX = 6.0
# Area taken for an object where nothing is known of any: a small house.
USUAL_M2 = 100.0


@dataclass(frozen=True)
class MapWindows:
    """The windows of a map with a valid pixel.

    Attributes:
        shapes: `(n,)` squares, in `crs`.
        expected: `(n,)` missed objects to expect.
        doubt: `(n,)` mean over the pixels of how near a probability is to a half, in [0, 1].
        ground: Square metres of valid ground in all of them.
        crs: The raster's CRS.
    """

    shapes: Geometries
    expected: Floats
    doubt: Floats
    ground: float
    crs: pyproj.CRS

    def __len__(self) -> int:
        """The number of windows."""
        return len(self.shapes)


def read_windows(probabilities: Path, layer: FootprintLayer) -> MapWindows:
    """Cut a raster of probabilities into windows; it is read once, downwards.

    Args:
        probabilities: Raster that was written with the map: uint8, 255 = no data.
        layer: The objects of the map.

    Raises:
        InputError: When it is no such raster.
    """
    with open_raster(str(probabilities)) as raster:
        if raster.dtypes[0] != "uint8" or raster.crs is None:
            raise InputError(
                f"{probabilities}: probabilities must be uint8 (probability x 254) with a CRS; "
                f"got {raster.dtypes[0]} and {raster.crs or 'no CRS'}"
            )
        crs = parse_crs(raster.crs.to_wkt())
        rows, cols = window_pixels(crs, raster.transform, raster.shape)
        band = max(BAND_PIXELS // raster.width // rows, 1) * rows
        parts = []
        for start in range(0, raster.height, band):
            part = RasterWindow(0, start, raster.width, min(band, raster.height - start))
            parts.append(read_band(raster, part, (rows, cols), layer, crs))
        squares = np.concatenate([each[0] for each in parts])
        corners = np.stack(
            [squares[:, 1], squares[:, 0], squares[:, 1] + cols, squares[:, 0] + rows]
        )
        west, south, east, north = corners.astype(np.float64)
        shapes = shapely.transform(
            shapely.box(west, south, east, north),
            lambda at: np.stack(raster.transform @ (at[:, 0], at[:, 1]), axis=1),
        )
        return MapWindows(
            shapes,
            np.concatenate([each[1] for each in parts]),
            np.concatenate([each[2] for each in parts]),
            sum(each[3] for each in parts),
            crs,
        )


def window_pixels(crs: pyproj.CRS, transform: Affine, shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a window, in the middle of a raster."""
    x, y = transform @ (shape[1] / 2, shape[0] / 2)
    scale = local_scale(crs, np.array([x]), np.array([y]))[0]
    step = scale @ np.array([[transform.a, transform.b], [transform.d, transform.e]])
    across, down = (float(np.hypot(*step[:, axis])) for axis in (0, 1))
    return max(round(WINDOW_M / down), 1), max(round(WINDOW_M / across), 1)


def read_band(
    raster: Any,
    part: RasterWindow,
    side: tuple[int, int],
    layer: FootprintLayer,
    crs: pyproj.CRS,
) -> tuple[Ints, Floats, Floats, float]:
    """First pixels `(n, 2)` of the windows of some rows, and what `MapWindows` says of them."""
    values = raster.read(window=part)
    known = (values != NODATA).any(axis=0)
    likely = np.where(values == NODATA, 0, values).max(axis=0) / np.float32(PROBABILITY_MAX)
    transform = raster.transform @ Affine.translation(0, part.row_off)
    objects = objects_within(layer, crs, transform, known.shape)
    usual = USUAL_M2 if len(objects) == 0 else float(np.median(areas(objects.shapes, crs)))
    outside = known.copy()
    if len(objects):
        outside &= ~rasterize(
            objects.shapes, out_shape=known.shape, transform=transform, dtype=np.uint8
        ).astype(bool)
    x, y = transform @ (known.shape[1] / 2, known.shape[0] / 2)
    scale = local_scale(crs, np.array([x]), np.array([y]))[0]
    pixel = float(abs(np.linalg.det(scale)) * abs(transform.determinant))
    valid = sums(known, side)
    expected = sums(np.where(outside, likely, 0), side) * pixel / usual
    col, row = ~transform @ (
        shapely.get_x(shapely.centroid(objects.shapes)),
        shapely.get_y(shapely.centroid(objects.shapes)),
    )
    at_row, at_col = np.floor(row / side[0]).astype(int), np.floor(col / side[1]).astype(int)
    here = (at_row >= 0) & (at_row < len(valid)) & (at_col >= 0) & (at_col < valid.shape[1])
    np.add.at(expected, (at_row[here], at_col[here]), MISSED_AN_OBJECT)
    doubt = sums(np.where(known, 1 - np.abs(2 * likely - 1), 0), side) / np.maximum(valid, 1)
    index = np.argwhere(valid > 0)
    rows, cols = index.T
    first = index * side + [part.row_off, 0]
    within = np.minimum(expected[rows, cols], EXPECTED_MAX)
    return first, within, doubt[rows, cols], float(valid.sum()) * pixel


def objects_within(
    layer: FootprintLayer, crs: pyproj.CRS, transform: Affine, shape: tuple[int, ...]
) -> Footprints:
    """The objects of a layer that touch a raster, in its CRS."""
    corners = [transform @ (col, row) for col in (0, shape[1]) for row in (0, shape[0])]
    x, y = np.array(corners).T
    return layer.read((float(x.min()), float(y.min()), float(x.max()), float(y.max())), crs)


def sums(values: Any, side: tuple[int, int]) -> Floats:
    """Sums over windows `(row, col)`; those at the far edges may be smaller."""
    tall = np.add.reduceat(values, np.arange(0, values.shape[0], side[0]), axis=0, dtype=np.float64)
    wide: Floats = np.add.reduceat(tall, np.arange(0, values.shape[1], side[1]), axis=1)
    return wide
