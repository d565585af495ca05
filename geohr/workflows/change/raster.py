"""The probability of change, pixel by pixel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterWindow

from geohr import __version__
from geohr.encoding import NODATA, PROBABILITY_MAX, Bytes, Floats32
from geohr.geobox import GeoBox, Window
from geohr.geodesy import local_scale, parse_crs
from geohr.outputs.cog import probability_writer
from geohr.scene.files import open_raster
from geohr.workflows.change.shift import ShiftField

# Side in pixels of the squares in which the shift is taken as constant: at half a metre 256 m.
SQUARE = 512


def write_change_probability(
    before: str,
    after: str,
    out: Path,
    *,
    field: ShiftField,
    plane: pyproj.CRS,
    creation_options: Mapping[str, str] | None = None,
) -> None:
    """Write a COG of the probability that a pixel is built over on one date and not on the other.

    With p and q of the two dates, taken as independent, it is p (1 - q) + q (1 - p). The earlier
    date is brought to the grid of the later one, and moved by the shift between them.

    Args:
        before: Probabilities of the earlier date, as geohr writes them.
        after: Probabilities of the later date.
        out: The .tif to write; it appears when it is whole.
        field: The shift of the earlier date.
        plane: The metric CRS that the shift is measured in.
        creation_options: Options of GDAL's COG driver, such as COMPRESS=ZSTD.

    Raises:
        InputError: When a raster cannot be read.
        OutputError: When `out` cannot be written.
    """
    with open_raster(before) as old, open_raster(after) as new:
        geobox = GeoBox(new.crs, new.transform, new.height, new.width)
        tags = {"geohr_version": __version__}
        with probability_writer(
            out, geobox, ["change"], tags, creation_options=creation_options
        ) as writer:
            for row in range(0, geobox.height, SQUARE):
                squares = [
                    square_of(old, new, geobox, row, col, field, plane)
                    for col in range(0, geobox.width, SQUARE)
                ]
                writer.write(np.concatenate(squares, axis=1))


def square_of(
    old: Any, new: Any, geobox: GeoBox, row: int, col: int, field: ShiftField, plane: pyproj.CRS
) -> Bytes:
    """`(row, col)` probabilities of change of one square, probability x 254, 255 no data."""
    window = Window(row, col, SQUARE, SQUARE).clip(geobox.height, geobox.width)
    place = RasterWindow(window.col, window.row, window.width, window.height)
    late, seen = largest(new.read(window=place))
    target = geobox.window(window)
    with WarpedVRT(
        old,
        src_transform=moved_transform(old, target, field, plane),
        crs=target.crs,
        transform=target.transform,
        height=target.height,
        width=target.width,
        # Between two probabilities there may be any, between one and no data there is nothing.
        resampling=Resampling.nearest,
        src_nodata=NODATA,
        nodata=NODATA,
    ) as warped:
        early, known = largest(warped.read())
    change = early * (1 - late) + late * (1 - early)
    made: Bytes = np.rint(change * PROBABILITY_MAX).astype(np.uint8)
    made[~(seen & known)] = NODATA
    return made


def largest(values: Bytes) -> tuple[Floats32, Any]:
    """The largest probability of any class in [0, 1], and where there are data."""
    known = (values != NODATA).any(axis=0)
    best = np.where(values == NODATA, 0, values).max(axis=0)
    return (best / np.float32(PROBABILITY_MAX)).astype(np.float32), known


def moved_transform(old: Any, target: GeoBox, field: ShiftField, plane: pyproj.CRS) -> Affine:
    """The transform of the earlier raster, moved by the shift in the middle of a grid."""
    left, bottom, right, top = target.bounds
    x, y = (left + right) / 2, (bottom + top) / 2
    to_plane = pyproj.Transformer.from_crs(as_pyproj(target.crs), plane, always_xy=True)
    move = field.at(np.array([to_plane.transform(x, y)]))[0]
    own = as_pyproj(old.crs)
    there = pyproj.Transformer.from_crs(as_pyproj(target.crs), own, always_xy=True).transform(x, y)
    scale = local_scale(own, np.array([there[0]]), np.array([there[1]]))[0]
    east, north = np.linalg.solve(scale, move)
    transform: Affine = Affine.translation(east, north) @ old.transform
    return transform


def as_pyproj(crs: CRS | None) -> pyproj.CRS:
    """A raster's CRS as PROJ knows it."""
    assert crs is not None  # rasters without one were refused before
    return parse_crs(crs.to_wkt())
