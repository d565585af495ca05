"""True ground metres in any CRS.

Around each object, the CRS is treated as an affine map of the ground: metres east and north per
unit, measured on the ellipsoid at the centre of the object. The relative error is about (size /
earth radius) squared, so objects larger than `LOCAL_EXTENT` are measured vertex by vertex instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
import shapely
from pyproj.crs import ProjectedCRS
from pyproj.crs.coordinate_operation import (
    PolarStereographicAConversion,
    TransverseMercatorConversion,
    UTMConversion,
)
from pyproj.exceptions import ProjError
from rasterio.crs import CRS

from geohr.encoding import Floats, Geometries
from geohr.errors import InputError
from geohr.geobox import GeoBox

# The largest size, in metres, of an object with one scale; the error is below one in a million.
LOCAL_EXTENT = 5_000.0
# Half the distance, in metres, over which the map is differentiated numerically.
_STEP = 10.0
_LATITUDE_MAX = 90.0
# The latitude, in degrees, beyond which longitudes change too fast to be differentiated: at a few
# metres from a pole they turn by a right angle within one step.
_POLAR = 89.9
# Size of an outline's small steps, as a share of the square root of its area: half a metre for a
# house of 100 square metres, which is more than the pixels of scenes that show houses.
_STEPS = 0.05


@lru_cache(maxsize=32)
def parse_crs(crs: Any) -> pyproj.CRS:
    """Make a pyproj CRS from a string, an EPSG number, or a rasterio CRS.

    Raises:
        InputError: When PROJ does not understand it.
    """
    try:
        return pyproj.CRS.from_user_input(crs)
    except ProjError as error:
        raise InputError(f"CRS {crs!r} is not understood by PROJ: {error}") from error


def plane_crs(metres: float, *, down: bool) -> str:
    """The CRS, as WKT, of a picture that has none but whose resolution is known.

    Areas and lengths can be measured in it; it has no way into any other CRS.

    Args:
        metres: The length on the ground of one unit of its coordinates.
        down: Whether y is counted downwards, as rows are.
    """
    y = "SOUTH" if down else "NORTH"
    return f'LOCAL_CS["picture",UNIT["pixel",{metres!r}],AXIS["x",EAST],AXIS["y",{y}]]'


def in_plane(geobox: GeoBox, gsd: float | None) -> GeoBox:
    """A grid in a plane of its own where it has no CRS, but its resolution is known.

    Args:
        geobox: The grid.
        gsd: The side of its pixels in metres on the ground, or None.
    """
    if geobox.crs is not None or gsd is None:
        return geobox
    shape = geobox.transform.determinant
    plane = plane_crs(gsd / math.sqrt(abs(shape)), down=shape > 0)
    return replace(geobox, crs=CRS.from_wkt(plane))


def local_scale(crs: Any, x: Floats, y: Floats) -> Floats:
    """Metres on the ground per unit of the CRS, around each point.

    Args:
        crs: Anything that `parse_crs` takes.
        x: `(n,)` eastings or longitudes, in the CRS's units.
        y: `(n,)` northings or latitudes.

    Returns:
        `(n, 2, 2)`: [[d east / dx, d east / dy], [d north / dx, d north / dy]]. The meridional and
        transverse radii of the ellipsoid are those of Snyder, "Map Projections: A Working Manual",
        1987, eq. 4-18 and 4-20.

    Raises:
        InputError: When a point lies outside the area that the CRS can map.
    """
    known = parse_crs(crs)
    unit = known.axis_info[0].unit_conversion_factor
    ellipsoid = known.ellipsoid
    if ellipsoid is None:  # a plane of its own, such as a drawing's
        up = -unit if known.axis_info[1].direction == "south" else unit
        return np.broadcast_to(np.diag([unit, up]), (len(x), 2, 2))
    a, f = ellipsoid.semi_major_metre, 1 / (ellipsoid.inverse_flattening or np.inf)
    # The unit's factor is radians for degrees, metres for feet.
    step = _STEP / (unit * a if known.is_geographic else unit)
    shifts = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]) * step
    lon, lat = _to_degrees(known, x + shifts[:, :1], y + shifts[:, 1:])
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        raise InputError(
            f"coordinates such as ({x[0]:g}, {y[0]:g}) lie outside what {known.name} can map; "
            "the scene's georeference is wrong"
        )
    lon, lat = np.radians(lon), np.radians(lat)
    eccentric = f * (2 - f)
    bend = 1 - eccentric * np.sin(lat.mean(axis=0)) ** 2
    meridional, transverse = a * (1 - eccentric) / bend**1.5, a / np.sqrt(bend)
    east = np.stack([_turn(lon[0] - lon[1]), _turn(lon[2] - lon[3])], axis=-1)
    north = np.stack([lat[0] - lat[1], lat[2] - lat[3]], axis=-1)
    east *= (transverse * np.cos(lat.mean(axis=0)))[:, None]
    north *= meridional[:, None]
    polar = np.abs(lat).mean(axis=0) > np.radians(_POLAR)
    if polar.any():
        shifted = _about_pole(lon[:, polar], lat[:, polar], meridional[polar])
        east[polar], north[polar] = shifted[..., 0], shifted[..., 1]
    return np.stack([east, north], axis=1) / (2 * step)


def _about_pole(lon: Floats, lat: Floats, meridional: Floats) -> Floats:
    """Metres east and north between points east and west, and north and south, of some near a pole.

    They are taken in the plane about the pole, azimuthal equidistant (Snyder, 1987, page 191).

    Args:
        lon: `(4, n)` longitudes in radians: shifted to the right, left, up and down.
        lat: `(4, n)` latitudes in radians.
        meridional: `(n,)` radii in metres.

    Returns:
        `(n, 2, 2)`: right minus left, then up minus down; of both, metres east and north.
    """
    distance = (np.pi / 2 - np.abs(lat)) * meridional
    x, y = distance * np.sin(lon), distance * np.cos(lon)
    middle = np.arctan2(x.mean(axis=0), y.mean(axis=0))[:, None]
    dx = np.stack([x[0] - x[1], x[2] - x[3]], axis=-1)
    dy = np.stack([y[0] - y[1], y[2] - y[3]], axis=-1)
    away = dx * np.sin(middle) + dy * np.cos(middle)
    east = dx * np.cos(middle) - dy * np.sin(middle)
    return np.stack([east, -np.sign(lat.mean(axis=0))[:, None] * away], axis=-1)


def ground_sampling_distance(geobox: GeoBox) -> float:
    """The side, in true metres, of a square with the area of the pixel in the middle of the grid.

    Raises:
        InputError: When the middle lies outside the area that the CRS can map, or the pixel has no
            area there.
    """
    x, y = geobox.to_world(np.array([geobox.width / 2]), np.array([geobox.height / 2]))
    scale = local_scale(geobox.crs, x, y)[0]
    gsd = float(np.sqrt(abs(np.linalg.det(scale) * geobox.transform.determinant)))
    if gsd == 0:
        name = parse_crs(geobox.crs).name
        raise InputError(f"pixels have no area on the ground in {name}; the georeference is wrong")
    return gsd


def local_metric_crs(crs: Any, x: float, y: float) -> pyproj.CRS:
    """A CRS in metres for the surroundings of a point, on the datum of the CRS of the point.

    It is the point's UTM zone, or universal polar stereographic beyond 84 degrees north and 80
    south (Snyder, 1987, pages 57 and 157). Keeping the datum avoids shifts between datums.

    Args:
        crs: Anything that `parse_crs` takes.
        x: Easting or longitude, in the CRS's units.
        y: Northing or latitude.

    Raises:
        InputError: When the point lies outside the area that the CRS can map.
    """
    known = parse_crs(crs)
    lon, lat = _to_degrees(known, x, y)
    if not (np.isfinite(lon) and np.isfinite(lat)) or abs(lat) > _LATITUDE_MAX:
        raise InputError(
            f"coordinates such as ({x:g}, {y:g}) lie outside what {known.name} can map; "
            "the scene's georeference is wrong"
        )
    if -80 <= lat <= 84:
        zone = int((lon + 180) // 6 % 60) + 1
        conversion: Any = UTMConversion(str(zone), "N" if lat >= 0 else "S")
        # PROJ knows UTM on ellipsoids only, and takes 0.9996 for it; the Moon is a sphere.
        if known.ellipsoid is not None and not known.ellipsoid.inverse_flattening:
            conversion = TransverseMercatorConversion(
                longitude_natural_origin=6.0 * zone - 183.0, false_easting=500_000.0
            )
    else:
        conversion = PolarStereographicAConversion(
            latitude_natural_origin=np.copysign(90.0, lat),
            false_easting=2_000_000.0,
            false_northing=2_000_000.0,
            scale_factor_natural_origin=0.994,
        )
    made = ProjectedCRS(conversion, name="local metric", geodetic_crs=known.geodetic_crs)
    # On a common datum it has a name that others know.
    code = made.to_epsg(min_confidence=70)
    return pyproj.CRS.from_epsg(code) if code and _same_datum(code, known) else made


def _same_datum(code: int, known: pyproj.CRS) -> bool:
    """Whether the CRS of an EPSG code has the datum of another CRS."""
    return bool(pyproj.CRS.from_epsg(code).geodetic_crs == known.geodetic_crs)


@dataclass(frozen=True)
class LocalFrames:
    """Local frames in metres, one per geometry: the origin at its centre, x east and y north."""

    scale: Floats
    """Metres per unit of the CRS, `(n, 2, 2)`; see `local_scale`."""
    middle: Floats
    """The origins in the CRS, `(n, 2)`."""
    extent: Floats
    """The diagonals of the bounding boxes in metres, `(n,)`."""

    def take(self, index: npt.NDArray[Any]) -> LocalFrames:
        """Those of the given geometries."""
        return LocalFrames(self.scale[index], self.middle[index], self.extent[index])

    def to_metres(self, geometries: Geometries) -> Geometries:
        """The geometries in their planes."""
        points, owner = shapely.get_coordinates(geometries, return_index=True)
        points = _apply(self.scale[owner], points - self.middle[owner])
        return np.asarray(shapely.set_coordinates(geometries.copy(), points), object)

    def edges(self, polygons: Geometries) -> tuple[Floats, npt.NDArray[np.int64]]:
        """`(edge, 2)` metres east and north from corner to corner, and each edge's polygon."""
        rings, owner = shapely.get_rings(polygons, return_index=True)
        points, ring = shapely.get_coordinates(rings, return_index=True)
        inside = np.flatnonzero(ring[1:] == ring[:-1])
        of_edge = owner[ring[inside]]
        return _apply(self.scale[of_edge], points[inside + 1] - points[inside]), of_edge

    def from_metres(self, geometries: Geometries) -> Geometries:
        """Transform geometries from metres back into the CRS."""
        points, owner = shapely.get_coordinates(geometries, return_index=True)
        points = _apply(np.linalg.inv(self.scale)[owner], points) + self.middle[owner]
        return np.asarray(shapely.set_coordinates(geometries.copy(), points), object)


def local_frames(geometries: Geometries, crs: Any) -> LocalFrames:
    """A local plane for each geometry; see `local_scale` for what can go wrong."""
    bounds = shapely.bounds(geometries).reshape(-1, 4)
    middle = np.column_stack([bounds[:, [0, 2]].mean(axis=1), bounds[:, [1, 3]].mean(axis=1)])
    scale = local_scale(crs, middle[:, 0], middle[:, 1])
    span = _apply(np.abs(scale), bounds[:, 2:] - bounds[:, :2])
    return LocalFrames(scale, middle, np.hypot(span[:, 0], span[:, 1]))


@dataclass(frozen=True)
class Measures:
    """Areas and perimeters of polygons on the ground."""

    area: Floats
    """The areas in square metres, `(n,)`."""
    perimeter: Floats
    """The lengths of all rings in metres, `(n,)`."""
    orientation: Floats
    """`(n,)` direction of the walls, degrees clockwise from north, in [0, 90)."""


def measure(geometries: Geometries, crs: Any) -> Measures:
    """Area, perimeter and orientation of polygons.

    The orientation is that of the outline without its small steps; see `_orientation`.
    """
    frames = local_frames(geometries, crs)
    edge, owner = frames.edges(geometries)
    length = np.hypot(edge[:, 0], edge[:, 1])
    perimeter = np.bincount(owner, weights=length, minlength=len(geometries)).astype(np.float64)
    area = np.abs(np.linalg.det(frames.scale)) * shapely.area(geometries)
    for index in np.flatnonzero(frames.extent > LOCAL_EXTENT):
        area[index] = _equal_area(geometries[index], crs)
        perimeter[index] = _edge_by_edge(geometries[index], crs)
    return Measures(area, perimeter, _orientation(frames.to_metres(geometries)))


def _orientation(metres: Geometries) -> Floats:
    """`(n,)` the walls' direction, degrees clockwise from north, right angles taken as one.

    Steps below `_STEPS` of the outline's size are taken out first: the sides of pixels say nothing
    of the walls that they follow. Long walls decide: a quarter of the angle of the sum of
    length^2 * exp(4i * direction) over the edges that are left.
    """
    tolerance = _STEPS * np.sqrt(shapely.area(metres))
    plain = shapely.simplify(metres, tolerance, preserve_topology=False)
    plain = np.where(shapely.is_empty(plain), metres, plain)
    parts, owner = shapely.get_parts(plain, return_index=True)
    points, part = shapely.get_coordinates(shapely.get_exterior_ring(parts), return_index=True)
    inside = np.flatnonzero(part[1:] == part[:-1])
    east, north = (points[inside + 1] - points[inside]).T
    turn = 4 * np.arctan2(east, north)
    sine, cosine = (
        np.bincount(owner[part[inside]], weights=(east**2 + north**2) * each, minlength=len(metres))
        for each in (np.sin(turn), np.cos(turn))
    )
    degrees = np.degrees(np.arctan2(sine, cosine) / 4) % 90
    # Tables hold float32, in which what is a hair below 90 would be 90.
    return (degrees.astype(np.float32) % 90).astype(np.float64)


def areas(geometries: Geometries, crs: Any) -> Floats:
    """`(n,)` true ground areas in square metres."""
    frames = local_frames(geometries, crs)
    area = np.abs(np.linalg.det(frames.scale)) * shapely.area(geometries)
    for index in np.flatnonzero(frames.extent > LOCAL_EXTENT):
        area[index] = _equal_area(geometries[index], crs)
    return np.asarray(area, np.float64)


def _apply(scale: Floats, edge: Floats) -> Floats:
    """Multiply each matrix with its vector."""
    x, y = edge[:, 0], edge[:, 1]
    return np.column_stack(
        [scale[:, 0, 0] * x + scale[:, 0, 1] * y, scale[:, 1, 0] * x + scale[:, 1, 1] * y]
    )


def _edge_by_edge(geometry: Any, crs: Any) -> float:
    """The perimeter of a large geometry, each edge measured where it lies."""
    points, ring = shapely.get_coordinates(shapely.get_rings(geometry), return_index=True)
    middle = (points[1:] + points[:-1]) / 2
    scale = local_scale(crs, middle[:, 0], middle[:, 1])
    edge = _apply(scale, np.diff(points, axis=0))[ring[1:] == ring[:-1]]
    return float(np.hypot(edge[:, 0], edge[:, 1]).sum())


def _equal_area(geometry: Any, crs: Any) -> float:
    """The area of a large geometry, in the equal-area projection about its middle."""
    known = parse_crs(crs)
    ellipsoid = known.ellipsoid
    if ellipsoid is None:
        return float(shapely.area(geometry)) * known.axis_info[0].unit_conversion_factor ** 2
    west, south, east, north = shapely.bounds(geometry)
    lon, lat = _to_degrees(known, (west + east) / 2, (south + north) / 2)
    flat = pyproj.CRS.from_dict(
        {
            "proj": "laea",
            "lon_0": lon,
            "lat_0": lat,
            "a": ellipsoid.semi_major_metre,
            "b": ellipsoid.semi_minor_metre,
        }
    )
    fine = shapely.segmentize(geometry, max(east - west, north - south) / 500)
    to_flat = pyproj.Transformer.from_crs(known, flat, always_xy=True)

    def unroll(points: Floats) -> Floats:
        return np.column_stack(to_flat.transform(points[:, 0], points[:, 1]))

    return float(shapely.area(shapely.transform(fine, unroll)))


def _to_degrees(known: pyproj.CRS, x: Any, y: Any) -> tuple[Any, Any]:
    """Longitude and latitude in degrees, on the CRS's own datum; its own unit may be grads."""
    to_geodetic, unit = _geodetic(known)
    lon, lat = to_geodetic.transform(x, y)
    return np.multiply(lon, unit), np.multiply(lat, unit)


@lru_cache(maxsize=32)
def _geodetic(known: pyproj.CRS) -> tuple[pyproj.Transformer, float]:
    """A transformer to longitude and latitude on the CRS's own datum, and degrees per unit.

    Raises:
        InputError: When PROJ does not know how its projection is computed.
    """
    geodetic = known.geodetic_crs
    assert geodetic is not None  # every CRS on an ellipsoid has one
    unit = float(np.degrees(geodetic.axis_info[0].unit_conversion_factor))
    try:
        transformer = pyproj.Transformer.from_crs(known, geodetic, always_xy=True)
    except ProjError as error:
        raise InputError(
            f"PROJ cannot compute longitudes and latitudes from {known.name}, the scene's CRS; "
            "bring the scene into another one with gdalwarp -t_srs"
        ) from error
    return transformer, round(unit, 12)


def _turn(angle: Floats) -> Floats:
    """Differences of longitude across the antimeridian, brought back to (-pi, pi]."""
    turned: Floats = (angle + np.pi) % (2 * np.pi) - np.pi
    return turned
