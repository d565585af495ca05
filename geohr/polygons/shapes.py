"""Drawings of buildings besides those of traced walls, and how drawings are turned and sized."""

from __future__ import annotations

import numpy as np
import shapely

from geohr.encoding import Floats, Geometries, Ints

CIRCLE_VERTICES = 16


def main_direction(polygons: Geometries) -> tuple[Floats, Floats]:
    """The walls' mean direction, right angles taken as one.

    Long walls decide: edges count by the square of their length.

    Returns:
        `(n,)` radians from the x axis, and `(n,)` the length of the sum, in square metres.
    """
    points, owner = shapely.get_coordinates(polygons, return_index=True)
    edge = np.diff(points, axis=0)
    inside = owner[1:] == owner[:-1]
    edge, of_edge = edge[inside], owner[:-1][inside]
    power = (edge[:, 0] ** 2 + edge[:, 1] ** 2) * np.exp(4j * np.arctan2(edge[:, 1], edge[:, 0]))
    sine, cosine = (
        np.bincount(of_edge, weights=part, minlength=len(polygons))
        for part in (power.imag, power.real)
    )
    return np.asarray(np.arctan2(sine, cosine) / 4, np.float64), np.hypot(sine, cosine)


def rectangles(level: Geometries) -> Geometries:
    """The rectangle along the axes with each polygon's centroid and second moments."""
    points, owner = shapely.get_coordinates(level, return_index=True)
    inside = owner[1:] == owner[:-1]
    one, two, ring = points[:-1][inside], points[1:][inside], owner[:-1][inside]
    cross = one[:, 0] * two[:, 1] - two[:, 0] * one[:, 1]

    def total(values: Floats) -> Floats:
        return np.bincount(ring, weights=values, minlength=len(level)).astype(np.float64)

    area = total(cross) / 2
    corners = np.empty((len(level), 4, 2))
    for axis in (0, 1):
        a, b = one[:, axis], two[:, axis]
        middle = total(cross * (a + b)) / (6 * area)
        spread = total(cross * (a * a + a * b + b * b)) / (12 * area) - middle**2
        half = np.sqrt(np.maximum(3 * spread, 0))
        sign = np.array([[-1, 1, 1, -1], [-1, -1, 1, 1]][axis])
        corners[:, :, axis] = middle[:, None] + sign * half[:, None]
    return np.asarray(shapely.polygons(corners), object)


def circles(centre: Floats, area: Floats) -> Geometries:
    """Regular polygons round the centres with the given areas."""
    turn = np.arange(CIRCLE_VERTICES) * 2 * np.pi / CIRCLE_VERTICES
    unit = np.column_stack([np.cos(turn), np.sin(turn)])
    radius = np.sqrt(area / (CIRCLE_VERTICES / 2 * np.sin(2 * np.pi / CIRCLE_VERTICES)))
    return np.asarray(shapely.polygons(centre[:, None, :] + radius[:, None, None] * unit), object)


def with_area(drawing: Geometries, area: Floats) -> Geometries:
    """Scaled about their centroids to the given areas; left as they are if that would be much."""
    now = shapely.area(drawing)
    scale = np.sqrt(np.divide(area, now, out=np.ones_like(area), where=now > 0))
    scale = np.where(np.abs(scale - 1) < 0.25, scale, 1.0)
    centre = np.nan_to_num(middles(drawing))
    points, owner = shapely.get_coordinates(drawing, return_index=True)
    moved = centre[owner] + (points - centre[owner]) * scale[owner, None]
    return np.asarray(shapely.set_coordinates(drawing.copy(), moved), object)


def turn(polygons: Geometries, angle: Floats, centre: Floats) -> Geometries:
    """Turned counterclockwise about the centres."""
    points, owner = shapely.get_coordinates(polygons, return_index=True)
    x, y = (points - centre[owner]).T
    sine, cosine = np.sin(angle)[owner], np.cos(angle)[owner]
    turned = np.column_stack([cosine * x - sine * y, sine * x + cosine * y]) + centre[owner]
    return np.asarray(shapely.set_coordinates(polygons.copy(), turned), object)


def middles(polygons: Geometries) -> Floats:
    """`(n, 2)` centroids."""
    centre = shapely.centroid(polygons)
    return np.column_stack([shapely.get_x(centre), shapely.get_y(centre)])


def assemble(rings: Geometries, owner: Ints) -> Geometries:
    """Polygons of rings, each exterior followed by its holes.

    Args:
        rings: Of all polygons.
        owner: `(ring,)` the polygon of each, ascending from 0.
    """
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    result = np.asarray(shapely.polygons(rings[starts]), object)
    stops = np.append(starts[1:], len(rings))
    for index in np.flatnonzero(stops - starts > 1).tolist():
        start, stop = starts[index], stops[index]
        result[index] = shapely.polygons(rings[start], rings[start + 1 : stop])
    return result
