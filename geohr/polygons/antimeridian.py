"""Polygons into another CRS, cut where longitude jumps from 180 to -180 degrees.

RFC 7946, section 3.1.9, asks for such a cut. A reader that draws straight lines between corners on
both sides would span the globe.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pyproj
import shapely
from shapely.geometry.polygon import orient

from geohr.encoding import Floats, Geometries
from geohr.geobox import Bounds
from geohr.geodesy import parse_crs

# Shares of the size of an outline between points that find the way that its sides take: straight
# sides in the plane of a scene are bent in longitude and latitude, most of all around a pole.
PIECES = 64
# Parts narrower than this share of a turn are noise of numbers: 40 micrometres at the equator.
NARROW = 1e-12


def transform_polygons(geometry: Geometries, crs: Any, target: Any) -> Geometries:
    """Transform `(n,)` Polygon or MultiPolygon from one CRS into another.

    In longitude and latitude, a polygon that crosses the antimeridian becomes a multipolygon with
    parts on both sides, and one around a pole reaches the pole; exteriors are counterclockwise.
    """
    known = parse_crs(target)
    convert = _transformer(parse_crs(crs), known)

    def move(points: Floats) -> Floats:
        return np.column_stack(convert.transform(points[:, 0], points[:, 1]))

    moved = np.asarray(shapely.transform(geometry, move), object)
    if not known.is_geographic:
        return moved
    turn = full_turn(known)
    bounds = shapely.bounds(moved)
    # A crossing polygon has points at both ends; only one at a pole may seem narrower than half
    # a turn.
    with np.errstate(invalid="ignore"):
        suspect = bounds[:, 2] - bounds[:, 0] > turn / 4
    suspect |= (bounds[:, 2] > turn / 2) | (bounds[:, 0] < -turn / 2)
    for index in np.flatnonzero(suspect & np.isfinite(bounds).all(axis=1)):
        west, south, east, north = shapely.bounds(geometry[index])
        fine = shapely.segmentize(geometry[index], max(east - west, north - south) / PIECES)
        moved[index] = _cut(shapely.transform(fine, move), turn) or moved[index]
    return moved


@lru_cache(maxsize=32)
def _transformer(crs: pyproj.CRS, target: pyproj.CRS) -> pyproj.Transformer:
    """The way from one CRS to another, x first; PROJ takes milliseconds to find it."""
    return pyproj.Transformer.from_crs(crs, target, always_xy=True)


def is_cut(bounds: Bounds, crs: Any, target: Any) -> bool:
    """Whether `transform_polygons` may cut polygons that lie within some bounds in `crs`."""
    if crs is None or target is None or crs == target or not parse_crs(target).is_geographic:
        return False
    frame = transform_polygons(np.array([shapely.box(*bounds)]), crs, target)[0]
    west, _, east, _ = shapely.bounds(frame)
    return bool(east - west > full_turn(parse_crs(target)) * (1 - NARROW))


def full_turn(crs: pyproj.CRS) -> float:
    """A turn in the unit of longitude: 360 degrees, or 400 grads."""
    return round(2 * np.pi / crs.axis_info[0].unit_conversion_factor, 9)


def _cut(geometry: Any, turn: float) -> Any:
    """The parts of a polygon in [-turn / 2, turn / 2]; None where it lies there whole."""
    west, _, east, _ = shapely.bounds(geometry)
    rings = [shapely.get_coordinates(ring)[:, 0] for ring in shapely.get_rings(geometry)]
    jumps = any(np.abs(np.diff(longitude)).max() > turn / 2 for longitude in rings)
    if not jumps and -turn / 2 <= west and east <= turn / 2:
        return None
    shapes = []
    for polygon in shapely.get_parts(geometry):
        holes = [_fold(ring, turn) for ring in polygon.interiors]
        shapes.append(shapely.difference(_fold(polygon.exterior, turn), shapely.union_all(holes)))
    together = shapely.simplify(shapely.union_all(shapes), NARROW * turn)
    parts = [
        orient(part)
        for part in shapely.get_parts(together)
        if part.geom_type == "Polygon" and min(np.ptp(part.exterior.coords, axis=0)) > NARROW * turn
    ]
    return shapely.MultiPolygon(parts) if len(parts) > 1 else parts[0] if parts else None


def _fold(ring: Any, turn: float) -> Any:
    """What a ring encloses, in [-turn / 2, turn / 2].

    The ring is unrolled, so that longitude does not jump, and cut into turns that are laid on each
    other. A ring around a pole ends a turn from its start: it is unrolled three times, so that it
    has points beyond both ends of the one turn that is kept, and closed by way of the pole.
    """
    points = shapely.get_coordinates(ring)
    turns = -np.cumsum(np.round(np.diff(points[:, 0], prepend=points[0, 0]) / turn))
    points[:, 0] += turns * turn
    if turns[-1]:
        once, step = points, [turns[-1] * turn, 0.0]
        pole = np.copysign(turn / 4, points[:, 1].mean())
        points = np.vstack([once - step, once, once + step])
        points = np.vstack([points, [points[-1, 0], pole], [points[0, 0], pole]])
    shape = shapely.make_valid(shapely.Polygon(points))
    west, _, east, _ = shapely.bounds(shape)
    first, last = np.floor(west / turn + 0.5), np.ceil(east / turn + 0.5)
    slices = []
    for number in [0] if turns[-1] else range(int(first), int(last)):
        side = number * turn
        box = shapely.box(side - turn / 2, -turn / 4, side + turn / 2, turn / 4)
        inside = shapely.intersection(shape, box)
        slices.append(shapely.transform(inside, lambda each, by=side: each - [by, 0.0]))
    return shapely.union_all(slices)
