"""The part of a scene that is asked for: polygons or a box."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from affine import Affine
from rasterio.features import rasterize

from geohr.encoding import Mask
from geohr.errors import InputError
from geohr.geobox import GeoBox, Window
from geohr.geodesy import parse_crs

# Share of a pixel by which a border on a pixel's edge may miss it, as numbers are rounded.
HAIR = 1e-6


@dataclass(frozen=True)
class Area:
    """Polygons on a scene's pixel grid.

    Attributes:
        wkb: One polygon or multipolygon, x counted in columns and y in rows of the scene.
    """

    wkb: bytes

    @cached_property
    def shape(self) -> Any:
        """The geometry, with an index for what is asked of it many times."""
        shape = shapely.from_wkb(self.wkb)
        shapely.prepare(shape)
        return shape

    def touches(self, window: Window) -> bool:
        """Whether any of the area lies in a window."""
        box = shapely.box(window.col, window.row, window.col_stop, window.row_stop)
        # A line in common is no area in common.
        return bool(shapely.intersects(self.shape, box) and not shapely.touches(self.shape, box))

    def bounds(self, height: int, width: int) -> Window | None:
        """The smallest window of a scene with every pixel that the area touches; or None."""
        west, north, east, south = shapely.bounds(self.shape)
        row, col = max(int(np.floor(north + HAIR)), 0), max(int(np.floor(west + HAIR)), 0)
        row_stop = min(int(np.ceil(south - HAIR)), height)
        col_stop = min(int(np.ceil(east - HAIR)), width)
        if row >= row_stop or col >= col_stop:
            return None
        return Window(row, col, row_stop - row, col_stop - col)

    def mask(self, window: Window) -> Mask:
        """`(row, col)` of a window: whether the area covers the pixel's centre."""
        near = shapely.clip_by_rect(
            self.shape, window.col - 1, window.row - 1, window.col_stop + 1, window.row_stop + 1
        )
        size = (window.height, window.width)
        if shapely.is_empty(near):
            return np.zeros(size, bool)
        drawn = rasterize(
            [(near, 1)],
            out_shape=size,
            transform=Affine.translation(window.col, window.row),
            dtype=np.uint8,
        )
        return np.asarray(drawn, bool)

    def shifted(self, row: int, col: int) -> Area:
        """The same area on a grid whose first pixel is at `(row, col)` of this one."""

        def shift(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            moved: npt.NDArray[np.float64] = points - np.array([col, row])
            return moved

        return Area(shapely.to_wkb(shapely.transform(self.shape, shift)))


# Straight lines are cut into this many before they are brought into another CRS.
PIECES = 100
# Longitude and latitude.
DEGREES = "OGC:CRS84"


def area_of(geobox: GeoBox, name: str, *, aoi: str | None, bbox: tuple[float, ...] | None) -> Area:
    """The part of a scene inside polygons (`aoi`, a file), or a `bbox` in degrees, or both.

    `name` is what messages call the scene.

    Raises:
        InputError: When the scene has no CRS, the file holds no polygons or has no CRS, or none of
            the area lies in the scene.
    """
    if geobox.crs is None:
        raise InputError(
            f"{name}: has no CRS, so an area cannot be placed on it; "
            "set it with gdal_edit.py -a_srs"
        )
    shapes = [] if aoi is None else [on_grid(*read_polygons(aoi), geobox)]
    if bbox is not None:
        shapes.append(on_grid(shapely.box(*bbox), pyproj.CRS(DEGREES), geobox))
    frame = shapely.box(0, 0, geobox.width, geobox.height)
    shape = shapely.intersection_all([*shapes, frame])
    if shapely.area(shape) == 0:
        named = "the box" if aoi is None else aoi if bbox is None else f"{aoi} with the box"
        raise InputError(
            f"{named}: lies outside the scene {name}; "
            f"the scene is at {place_of(geobox)} (west, south, east, north)"
        )
    polygons = [each for each in shapely.get_parts(shape) if shapely.area(each) > 0]
    return Area(shapely.to_wkb(shapely.multipolygons(polygons)))


def degrees_around(aoi: str | None, bbox: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """West, south, east and north of an area of interest in degrees; None where there is none.

    Raises:
        InputError: When the file cannot be read, holds no polygons or has no CRS.
    """
    if aoi is None:
        return bbox
    shape, crs = read_polygons(aoi)
    convert = pyproj.Transformer.from_crs(crs, DEGREES, always_xy=True)
    around = convert.transform_bounds(*shapely.bounds(shape))
    if bbox is None:
        return tuple(map(float, around))
    low, high = np.maximum(around[:2], bbox[:2]), np.minimum(around[2:], bbox[2:])
    return (*low.tolist(), *high.tolist())


def read_polygons(path: str) -> tuple[Any, pyproj.CRS]:
    """The union of a file's polygons, and their CRS.

    Raises:
        InputError: When it cannot be read, holds no polygons, or has no CRS.
    """
    from pyogrio.errors import DataLayerError, DataSourceError
    from pyogrio.raw import read

    from geohr.scene.vectors import LABELLED, first_layer

    try:
        meta, _, wkb, _ = read(path, columns=[], layer=first_layer(path, prefer=LABELLED))
    except (DataSourceError, DataLayerError, ValueError, OSError) as error:
        raise InputError(f"{path}: cannot be read as an area ({error})") from error
    if meta["crs"] is None:
        raise InputError(f"{path}: the area has no CRS; set it with ogr2ogr -a_srs")
    shapes = shapely.make_valid(shapely.from_wkb(wkb[[each is not None for each in wkb]]))
    parts = shapely.get_parts(shapely.get_parts(shapes))
    polygons = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
    if len(polygons) == 0:
        raise InputError(f"{path}: holds no polygon; an area is given by polygons")
    return shapely.union_all(polygons), parse_crs(meta["crs"])


def on_grid(shape: Any, crs: pyproj.CRS, geobox: GeoBox) -> Any:
    """A geometry with x in columns and y in rows of a grid."""
    west, south, east, north = shapely.bounds(shape)
    fine = shapely.segmentize(shape, max(east - west, north - south) / PIECES)
    convert = pyproj.Transformer.from_crs(crs, parse_crs(geobox.crs), always_xy=True)

    def to_pixels(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x, y = convert.transform(points[:, 0], points[:, 1])
        return np.column_stack(geobox.to_pixels(x, y))

    placed = shapely.transform(fine, to_pixels)
    if not np.isfinite(shapely.get_coordinates(placed)).all():
        # The scene's CRS cannot map all of it, such as the poles: what lies far off is left out.
        kept = [each for each in shapely.get_parts(placed) if finite(each)]
        placed = shapely.multipolygons(kept)
    return shapely.make_valid(placed)


def finite(shape: Any) -> bool:
    """Whether all coordinates are numbers."""
    return bool(np.isfinite(shapely.get_coordinates(shape)).all())


def place_of(geobox: GeoBox) -> str:
    """Where a grid lies, in degrees, for a message."""
    cols = np.array([0, geobox.width, 0, geobox.width])
    rows = np.array([0, 0, geobox.height, geobox.height])
    x, y = geobox.to_world(cols, rows)
    convert = pyproj.Transformer.from_crs(parse_crs(geobox.crs), DEGREES, always_xy=True)
    lon, lat = convert.transform(x, y)
    return ",".join(f"{each:.5f}" for each in (min(lon), min(lat), max(lon), max(lat)))
