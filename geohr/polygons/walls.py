"""Drawings of buildings to choose from: straight walls, rectangles, circles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from geohr.encoding import Bools, Floats, Geometries, Ints
from geohr.polygons.rings import round_rings
from geohr.polygons.simplify import kept_of_rings

CIRCLE_VERTICES = 16


def main_direction(polygons: Geometries) -> Floats:
    """The walls' mean direction, right angles taken as one.

    Long walls decide: edges count by the square of their length.

    Returns:
        `(n,)` radians from the x axis.
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
    return np.asarray(np.arctan2(sine, cosine) / 4, np.float64)


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
    """The centroids of polygons, `(n, 2)`."""
    centre = shapely.centroid(polygons)
    return np.column_stack([shapely.get_x(centre), shapely.get_y(centre)])


def assemble(rings: Geometries, owner: Ints) -> Geometries:
    """Make polygons from rings, each exterior followed by its holes.

    Owners are `(ring,)`, the polygon of each, ascending from 0.
    """
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    result = np.asarray(shapely.polygons(rings[starts]), object)
    stops = np.append(starts[1:], len(rings))
    for index in np.flatnonzero(stops - starts > 1).tolist():
        start, stop = starts[index], stops[index]
        result[index] = shapely.polygons(rings[start], rings[start + 1 : stop])
    return result


# The largest number of short walls that are removed from one ring.
_ROUNDS = 64


@dataclass(frozen=True)
class Walls:
    """Lines of all rings, ring after ring: n . p = offset, n at `angle` + 90 degrees."""

    ring: Ints
    angle: Floats
    """The direction of the wall, in radians."""
    offset: Floats
    weight: Floats
    """The length of the outline that the wall replaces."""

    @property
    def beside(self) -> tuple[Ints, Ints]:
        """`(wall,)` index of the wall before and after each, round its ring."""
        begins = np.flatnonzero(np.diff(self.ring, prepend=-1))
        return round_rings(np.append(begins, len(self.ring)))

    def take(self, kept: Bools) -> Walls:
        """Select walls."""
        return Walls(self.ring[kept], self.angle[kept], self.offset[kept], self.weight[kept])


def straighten(level: Geometries, tolerance: Floats, detail: float, angle: float) -> Geometries:
    """Draw outlines with walls at multiples of an angle; None where fewer than four walls are left.

    Args:
        level: Polygons without holes, turned so that their main direction is along an axis.
        tolerance: `(n,)`.
        detail: Tolerances by which outlines are simplified first, and below which walls go.
        angle: In degrees.
    """
    walls = _walls(level, detail * tolerance, np.radians(angle))
    shortest = detail * tolerance
    for _ in range(_ROUNDS):
        corners = _corners(walls)
        short = _shortest(walls, corners, shortest)
        if len(short) == 0:
            break
        walls = _without(walls, short)
    corners = _corners(walls)
    counts = np.bincount(walls.ring, minlength=len(level))
    fine = np.flatnonzero(counts >= 4)
    usable = np.isin(walls.ring, fine) & np.isfinite(corners).all(axis=1)
    result = np.full(len(level), None, object)
    whole = fine[np.bincount(walls.ring[usable], minlength=len(level))[fine] == counts[fine]]
    inside = np.isin(walls.ring, whole)
    if len(whole):
        rings = shapely.linearrings(
            corners[inside], indices=np.searchsorted(whole, walls.ring[inside])
        )
        result[whole] = shapely.polygons(rings)
    return result


def _walls(polygons: Geometries, tolerance: Floats, step: float) -> Walls:
    """The outline between vertices that simplifying keeps, snapped to multiples of an angle.

    A wall's direction is that of the chord, its place the mean of the outline that it stands for.
    """
    points, ring = shapely.get_coordinates(polygons, return_index=True)
    offsets = np.searchsorted(ring, np.arange(len(polygons) + 1))
    sizes = np.diff(offsets) - 1
    is_open = np.ones(len(points), np.bool_)
    is_open[offsets[1:] - 1] = False
    edge = np.diff(points, axis=0, append=points[:1])[is_open]
    points, ring = points[is_open], ring[is_open]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    kept = np.flatnonzero(kept_of_rings(points, offsets, tolerance))
    # Edges before a ring's first kept vertex belong to the chord that closes the ring.
    chord = np.searchsorted(kept, np.arange(len(points)), side="right") - 1
    begins = np.searchsorted(kept, offsets)
    early = np.arange(len(points)) < kept[begins[:-1]][ring]
    chord[early] = begins[1:][ring[early]] - 1
    follows = np.arange(1, len(kept) + 1)
    follows[begins[1:] - 1] = begins[:-1]
    along = points[kept[follows]] - points[kept]
    kind = np.rint(np.arctan2(along[:, 1], along[:, 0]) / step) % round(np.pi / step)
    angle = (kind * step)[chord]
    middle = points + edge / 2
    across = -np.sin(angle) * middle[:, 0] + np.cos(angle) * middle[:, 1]
    # Edges count by how far they go along the wall; back and forth adds nothing.
    length = np.abs(np.cos(angle) * edge[:, 0] + np.sin(angle) * edge[:, 1])
    weight = np.bincount(chord, weights=length, minlength=len(kept)).astype(np.float64)
    total = np.bincount(chord, weights=length * across, minlength=len(kept))
    there = weight > 0
    return _joined(
        Walls(
            ring[kept][there],
            (kind * step)[there],
            (total / np.maximum(weight, 1e-12))[there],
            weight[there],
        )
    )


def _joined(walls: Walls) -> Walls:
    """Walls with neighbours of the same direction made one, round each ring."""
    if len(walls.ring) == 0:
        return walls
    begins = np.concatenate([[True], walls.ring[1:] != walls.ring[:-1]])
    starts = np.flatnonzero(begins)
    last = np.append(starts[1:], len(begins)) - 1
    new = begins.copy()
    new[1:] |= walls.angle[1:] != walls.angle[:-1]
    group = np.cumsum(new) - 1
    # The end of a ring may go on at its start.
    closes = (walls.angle[last] == walls.angle[starts]) & (group[last] != group[starts])
    to = np.arange(group[-1] + 1)
    to[group[last[closes]]] = group[starts[closes]]
    group = to[group]
    weight = np.bincount(group, weights=walls.weight, minlength=len(to)).astype(np.float64)
    offset = np.bincount(group, weights=walls.weight * walls.offset, minlength=len(to))
    kept = np.flatnonzero(weight > 0)
    first = np.flatnonzero(new)[kept]
    return Walls(walls.ring[first], walls.angle[first], offset[kept] / weight[kept], weight[kept])


def _corners(walls: Walls) -> Floats:
    """`(wall, 2)` where each wall meets the one before it; not finite for parallels."""
    if len(walls.ring) == 0:
        return np.zeros((0, 2))
    before, _ = walls.beside
    a, b = walls.angle[before], walls.angle
    c, d = walls.offset[before], walls.offset
    across = np.sin(b - a)
    across = np.where(np.abs(across) < 1e-9, np.nan, across)
    x = (c * np.cos(b) - d * np.cos(a)) / across
    y = (c * np.sin(b) - d * np.sin(a)) / across
    return np.column_stack([x, y])


def _shortest(walls: Walls, corners: Floats, limit: Floats) -> Ints:
    """The shortest wall of each ring with more than four walls, if it is below the limit."""
    if len(walls.ring) == 0:
        return np.zeros(0, np.int64)
    _, after = walls.beside
    along = corners[after] - corners
    length = np.nan_to_num(np.hypot(along[:, 0], along[:, 1]))
    many = np.bincount(walls.ring)[walls.ring] > 4
    short = np.flatnonzero(many & (length < limit[walls.ring]))
    order = short[np.lexsort((length[short], walls.ring[short]))]
    first = np.concatenate([[True], walls.ring[order][1:] != walls.ring[order][:-1]])
    return np.asarray(order[first[: len(order)]], np.int64)


def _without(walls: Walls, gone: Ints) -> Walls:
    """Take walls out, one a ring; the two beside it become one if they are parallel."""
    before, after = walls.beside
    kept = np.ones(len(walls.ring), np.bool_)
    kept[gone] = False
    parallel = gone[walls.angle[before[gone]] == walls.angle[after[gone]]]
    one, two = before[parallel], after[parallel]
    offset, weight = walls.offset.copy(), walls.weight.copy()
    weight[one] += walls.weight[two]
    offset[one] = (
        walls.offset[one] * walls.weight[one] + walls.offset[two] * walls.weight[two]
    ) / weight[one]
    kept[two] = False
    return Walls(walls.ring, walls.angle, offset, weight).take(kept)
