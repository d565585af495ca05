"""Outlines of straight walls, whose directions are multiples of one angle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from geohr.encoding import Bools, Floats, Geometries, Ints
from geohr.polygons.thin import kept_of_rings

_ROUNDS = 64
"""Most short walls taken out of one ring."""


@dataclass(frozen=True)
class Walls:
    """Lines of all rings, ring after ring: n . p = offset, n at `angle` + 90 degrees."""

    ring: Ints
    angle: Floats
    """Radians, of the wall."""
    offset: Floats
    weight: Floats
    """Length of outline that the wall stands for."""

    def take(self, kept: Bools) -> Walls:
        """The walls kept."""
        return Walls(self.ring[kept], self.angle[kept], self.offset[kept], self.weight[kept])


def straighten(level: Geometries, tolerance: Floats, detail: float, angle: float) -> Geometries:
    """Outlines of walls at multiples of an angle; None where fewer than four walls are left.

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


def _neighbours(walls: Walls) -> tuple[Ints, Ints]:
    """Index of the wall before and after each, round its ring."""
    count = len(walls.ring)
    begins = np.flatnonzero(np.concatenate([[True], walls.ring[1:] != walls.ring[:-1]]))
    ends = np.append(begins[1:], count) - 1
    before, after = np.arange(count) - 1, np.arange(count) + 1
    before[begins], after[ends] = ends, begins
    return before, after


def _corners(walls: Walls) -> Floats:
    """`(wall, 2)` where each wall meets the one before it; not finite for parallels."""
    if len(walls.ring) == 0:
        return np.zeros((0, 2))
    before, _ = _neighbours(walls)
    a, b = walls.angle[before], walls.angle
    c, d = walls.offset[before], walls.offset
    across = np.sin(b - a)
    across = np.where(np.abs(across) < 1e-9, np.nan, across)
    x = (c * np.cos(b) - d * np.cos(a)) / across
    y = (c * np.sin(b) - d * np.sin(a)) / across
    return np.column_stack([x, y])


def _shortest(walls: Walls, corners: Floats, limit: Floats) -> Ints:
    """In each ring of more than four walls, the shortest wall if it is below the limit."""
    if len(walls.ring) == 0:
        return np.zeros(0, np.int64)
    _, after = _neighbours(walls)
    along = corners[after] - corners
    length = np.nan_to_num(np.hypot(along[:, 0], along[:, 1]))
    many = np.bincount(walls.ring)[walls.ring] > 4
    short = np.flatnonzero(many & (length < limit[walls.ring]))
    order = short[np.lexsort((length[short], walls.ring[short]))]
    first = np.concatenate([[True], walls.ring[order][1:] != walls.ring[order][:-1]])
    return np.asarray(order[first[: len(order)]], np.int64)


def _without(walls: Walls, gone: Ints) -> Walls:
    """Take walls out, one a ring; the two beside it become one if they are parallel."""
    before, after = _neighbours(walls)
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
