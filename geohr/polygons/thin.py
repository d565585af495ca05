"""Outlines thinned, so that neighbours that share a border still do, and none cross.

The outline between two junctions is thinned once and the same way for both neighbours: the same
direction, the same numbers, the same guard (Douglas and Peucker, "Algorithms for the reduction of
the number of points required to represent a digitized line", 1973; the guard after Saalfeld,
"Topologically consistent line simplification with the Douglas-Peucker algorithm", 1999).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from geohr.polygons.rings import Floats
from geohr.polygons.runs import Bools, Ints


@dataclass(frozen=True)
class Guard:
    """What chords must not reach: in each row of pixels, the next border beside an outline.

    A chord that leaves all upright sides under it with their next borders on their own sides has
    no other border between itself and the outline.
    """

    x: Floats
    """`(vertex,)` column of the vertex, in pixels."""
    y: Floats
    upright: Bools
    """`(vertex,)` whether the vertex lies on an upright side, which fills the row floor(y)."""
    left: Floats
    """`(vertex,)` column of the next border to the left of that side."""
    right: Floats
    leeway: float
    """Pixels by which borders may lie off the pixels' sides."""
    own_left: Ints
    """`(vertex,)` the vertex on that border if it belongs to the same polygon; else -1."""
    own_right: Ints


@dataclass(frozen=True)
class Paths:
    """Stretches of rings between vertices that stay; path i is index[offsets[i] : offsets[i+1]]."""

    index: Ints
    offsets: Ints


def kept_of_rings(
    points: Floats,
    offsets: Ints,
    tolerance: Floats,
    *,
    fixed: Bools | None = None,
    order: Ints | None = None,
    scale: Callable[[Ints], Floats] | None = None,
    guard: Guard | None = None,
) -> Bools:
    """Which vertices of rings stay: three at least, if the ring has area.

    Args:
        points: `(vertex, 2)` of all rings, the first vertex not repeated.
        offsets: `(ring + 1,)`.
        tolerance: `(ring,)` greatest distance of a dropped vertex from the chord over it.
        fixed: Vertices that stay in any case, such as junctions.
        order: Sorts the vertices; a path runs from its lower end, whichever way its ring does.
        scale: For vertices at which paths begin, `(path, 2, 2)` the matrices that bring points into
            the tolerance's unit; by default they are in it.
        guard: What chords must not cross.
    """
    if order is None:
        order = np.arange(len(points))
    fixed = np.zeros(len(points), np.bool_) if fixed is None else fixed
    pinned = _pinned(points, offsets, fixed, order)
    paths = _paths(pinned, offsets, order)
    ring = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    begin, end = paths.index[paths.offsets[:-1]], paths.index[paths.offsets[1:] - 1]
    matrix = np.broadcast_to(np.eye(2), (len(begin), 2, 2)) if scale is None else scale(begin)
    kept = pinned.copy()
    # Two borders between the same two junctions must not both become the straight line.
    bent = fixed[begin] & fixed[end]
    kept[_kept_of_paths(points, paths, tolerance[ring[begin]], matrix, bent, guard)] = True
    return kept


def _pinned(points: Floats, offsets: Ints, fixed: Bools, order: Ints) -> Bools:
    """The fixed vertices and, in rings with fewer than two, three that span the ring."""
    pinned = fixed.copy()
    sizes = np.diff(offsets)
    ring = np.repeat(np.arange(len(sizes)), sizes)
    few = np.flatnonzero(np.bincount(ring[fixed], minlength=len(sizes)) < 2)
    if len(few) == 0:
        return pinned
    inside = np.flatnonzero(np.isin(ring, few))
    rank = np.where(fixed, -1, order)[inside]
    start = inside[_first(ring[inside], rank, order[inside])]
    start_of = np.zeros(len(sizes), np.int64)
    start_of[few] = start
    away = points[inside] - points[start_of[ring[inside]]]
    opposite = inside[_first(ring[inside], -np.hypot(*away.T), order[inside])]
    end_of = np.zeros(len(sizes), np.int64)
    end_of[few] = opposite
    along = points[end_of[ring[inside]]] - points[start_of[ring[inside]]]
    beside = np.abs(along[:, 0] * away[:, 1] - along[:, 1] * away[:, 0])
    third = inside[_first(ring[inside], -beside, order[inside])]
    for chosen in (start, opposite, third):
        pinned[chosen] = True
    return pinned


def _first(group: Ints, value: Floats | Ints, order: Ints) -> Ints:
    """In each stretch of one group, where the value is least, and the order among equals."""
    starts = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    sizes = np.diff(np.append(starts, len(group)))
    least = value == np.repeat(np.minimum.reduceat(value, starts), sizes)
    rank = np.where(least, order, np.iinfo(np.int64).max)
    at = np.flatnonzero(rank == np.repeat(np.minimum.reduceat(rank, starts), sizes))
    return np.asarray(at[np.searchsorted(at, starts)], np.int64)


def _paths(pinned: Bools, offsets: Ints, order: Ints) -> Paths:
    """The stretches between pinned vertices, both ends included, from the lower end."""
    begin = np.flatnonzero(pinned)
    sizes = np.diff(offsets)
    ring = np.searchsorted(offsets, begin, side="right") - 1
    first = np.searchsorted(begin, offsets[:-1])
    last = np.searchsorted(begin, offsets[1:]) - 1
    end = np.append(begin[1:], 0)
    end[last] = begin[first]
    count = (end - begin) % sizes[ring] + 1
    path_offsets = np.concatenate([[0], np.cumsum(count)])
    step = np.arange(path_offsets[-1]) - np.repeat(path_offsets[:-1], count)
    backward = np.repeat(order[begin] > order[end], count)
    step = np.where(backward, np.repeat(count, count) - 1 - step, step)
    base = np.repeat(offsets[ring], count)
    index = base + (np.repeat(begin, count) - base + step) % np.repeat(sizes[ring], count)
    return Paths(index, path_offsets)


def _kept_of_paths(
    points: Floats,
    paths: Paths,
    tolerance: Floats,
    matrix: Floats,
    bent: Bools,
    guard: Guard | None,
) -> Ints:
    """The vertices inside paths that stay; where a path is to stay bent, one of them at least."""
    kept: list[Ints] = [np.zeros(0, np.int64)]
    first, last = paths.offsets[:-1], paths.offsets[1:] - 1
    place = np.full(len(points), -1)
    path = np.repeat(np.arange(len(first)), np.diff(paths.offsets))
    place[paths.index] = np.arange(len(path))
    while True:
        long = last - first > 1
        first, last, bent = first[long], last[long], bent[long]
        tolerance, matrix = tolerance[long], matrix[long]
        if len(first) == 0:
            return np.concatenate(kept)
        sizes = last - first - 1
        starts = np.cumsum(sizes) - sizes
        chord = np.repeat(np.arange(len(sizes)), sizes)
        inner = np.arange(len(chord)) + np.repeat(first + 1 - starts, sizes)
        one, other, vertex = paths.index[first], paths.index[last], paths.index[inner]
        along = _apply(matrix, points[other] - points[one])[chord]
        far = _distance(_apply(matrix[chord], points[vertex] - points[one][chord]), along)
        farthest = np.maximum.reduceat(far, starts)
        over = farthest > np.where(bent, 0, tolerance)
        if guard is not None:
            crossed = _crosses(guard, one[chord], other[chord], vertex)
            for own, reached in zip((guard.own_left, guard.own_right), crossed, strict=True):
                at = np.where(own[vertex] >= 0, place[own[vertex]], -1)
                reached &= ~((at >= first[chord]) & (at <= last[chord]))
            over |= np.logical_or.reduceat(crossed[0] | crossed[1], starts) & (farthest > 0)
        at_most = np.flatnonzero(far == farthest[chord])
        leading = at_most[np.concatenate([[True], chord[at_most][1:] != chord[at_most][:-1]])]
        split = inner[leading][over]
        kept.append(paths.index[split])
        bent = np.zeros(2 * len(split), np.bool_)
        first = np.concatenate([first[over], split])
        last = np.concatenate([split, last[over]])
        tolerance, matrix = np.tile(tolerance[over], 2), np.tile(matrix[over], (2, 1, 1))


def _crosses(guard: Guard, one: Ints, other: Ints, vertex: Ints) -> tuple[Bools, Bools]:
    """Whether the chord leaves the free stretch beside each upright side, left and right.

    To reach the next border is to leave the stretch, except with the chord's own ends.
    """
    row = np.floor(guard.y[vertex])
    low, high = np.minimum(guard.y[one], guard.y[other]), np.maximum(guard.y[one], guard.y[other])
    rise, run = guard.y[other] - guard.y[one], guard.x[other] - guard.x[one]
    slope = np.divide(run, rise, out=np.zeros(len(rise)), where=rise != 0)
    left, right = np.zeros(len(row), np.bool_), np.zeros(len(row), np.bool_)
    for edge in (row - guard.leeway, row + 1 + guard.leeway):
        y = np.clip(edge, low, high)
        level = rise == 0
        x = guard.x[one] + (y - guard.y[one]) * slope
        at_end = (y == low) | (y == high)
        x = np.where(at_end & (y == guard.y[other]), guard.x[other], x)
        leftmost = np.where(level, np.minimum(guard.x[one], guard.x[other]), x)
        rightmost = np.where(level, np.maximum(guard.x[one], guard.x[other]), x)
        left |= (leftmost < guard.left[vertex]) | ((leftmost == guard.left[vertex]) & ~at_end)
        right |= (rightmost > guard.right[vertex]) | ((rightmost == guard.right[vertex]) & ~at_end)
    upright = guard.upright[vertex]
    upright &= (row + 1 + guard.leeway > low) & (row - guard.leeway < high)
    return upright & left, upright & right


def _distance(off: Floats, along: Floats) -> Floats:
    """Distance of points from segments that begin at the origin."""
    square = (along**2).sum(axis=1)
    part = np.divide((off * along).sum(axis=1), square, out=np.zeros(len(off)), where=square > 0)
    rest = off - np.clip(part, 0, 1)[:, None] * along
    return np.asarray(np.hypot(rest[:, 0], rest[:, 1]), np.float64)


def _apply(matrix: Floats, vector: Floats) -> Floats:
    """Each matrix times its vector."""
    return np.asarray((matrix * vector[:, None, :]).sum(axis=2), np.float64)
