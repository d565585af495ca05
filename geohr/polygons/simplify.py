"""Outlines simplified in metres, so that neighbours still share their borders and none cross.

The outline between two junctions is thinned once and the same way for both neighbours: the same
direction, the same numbers, the same guard (Douglas and Peucker, "Algorithms for the reduction of
the number of points required to represent a digitized line", 1973; the guard after Saalfeld,
"Topologically consistent line simplification with the Douglas-Peucker algorithm", 1999).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from geohr.encoding import Bools, Floats, Ints
from geohr.polygons.guard import Guard, guard_of
from geohr.polygons.rings import (
    HINT,
    JUNCTION,
    RING_START,
    SUBPIXEL,
    RaggedArray,
    place,
    round_rings,
    unpack,
)

# Pixels by which a chord's end may be missed by rounding.
_SLACK = 1e-6


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
    hint: Bools | None = None,
) -> Bools:
    """The vertices of rings that are kept: at least three, if the ring has area.

    Args:
        points: `(vertex, 2)` of all rings, the first vertex not repeated.
        offsets: `(ring + 1,)`.
        tolerance: `(ring,)` greatest distance of a dropped vertex from the chord over it.
        fixed: Vertices that stay in any case, such as junctions.
        order: Sorts the vertices; a path runs from its lower end, whichever way its ring does.
        scale: For vertices at which paths begin, `(path, 2, 2)` the matrices that bring points into
            the tolerance's unit; by default they are in it.
        guard: The borders that chords must not cross.
        hint: Vertices that are only there for the guard, and never stay.
    """
    if order is None:
        order = np.arange(len(points))
    fixed = np.zeros(len(points), np.bool_) if fixed is None else fixed
    hint = np.zeros(len(points), np.bool_) if hint is None else hint
    pinned = _pinned(points, offsets, fixed, order=order, hint=hint)
    paths = _paths(pinned, offsets, order)
    ring = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    begin, end = paths.index[paths.offsets[:-1]], paths.index[paths.offsets[1:] - 1]
    matrix = np.broadcast_to(np.eye(2), (len(begin), 2, 2)) if scale is None else scale(begin)
    kept = pinned.copy()
    # Two borders between the same two junctions must not both become the straight line.
    bent = fixed[begin] & fixed[end]
    chords = _Chords(
        paths.offsets[:-1], paths.offsets[1:] - 1, tolerance[ring[begin]], matrix, bent
    )
    kept[_kept_of_paths(points, paths, chords, guard=guard, hint=hint)] = True
    return kept


def _pinned(points: Floats, offsets: Ints, fixed: Bools, *, order: Ints, hint: Bools) -> Bools:
    """The fixed vertices and, in rings with fewer than two, three that span the ring."""
    pinned = fixed.copy()
    sizes = np.diff(offsets)
    ring = np.repeat(np.arange(len(sizes)), sizes)
    few = np.flatnonzero(np.bincount(ring[fixed], minlength=len(sizes)) < 2)
    if len(few) == 0:
        return pinned
    inside = np.flatnonzero(np.isin(ring, few) & ~hint)
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
    """The index of the least value in each group, the first in `order` among equal ones."""
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


@dataclass(frozen=True)
class _Chords:
    """Chords over stretches of paths."""

    first: Ints
    """`(chord,)` place in the paths' index where it begins."""
    last: Ints
    tolerance: Floats
    matrix: Floats
    """`(chord, 2, 2)` into the tolerance's unit."""
    bent: Bools
    """Whether a vertex between must stay."""

    def take(self, chosen: Bools) -> _Chords:
        """Select chords."""
        return _Chords(
            self.first[chosen],
            self.last[chosen],
            self.tolerance[chosen],
            self.matrix[chosen],
            self.bent[chosen],
        )

    def split(self, at: Ints) -> _Chords:
        """Split each chord in two at the given places."""
        return _Chords(
            np.concatenate([self.first, at]),
            np.concatenate([at, self.last]),
            np.tile(self.tolerance, 2),
            np.tile(self.matrix, (2, 1, 1)),
            np.zeros(2 * len(at), np.bool_),
        )

    def spread(self, margin: int) -> tuple[Ints, Ints, Ints]:
        """Places from first + margin to last - margin of all chords.

        Returns:
            The places, the chord of each, and where each chord's places start.
        """
        sizes = self.last - self.first + 1 - 2 * margin
        starts = np.cumsum(sizes) - sizes
        chord = np.repeat(np.arange(len(sizes)), sizes)
        return np.arange(len(chord)) + np.repeat(self.first + margin - starts, sizes), chord, starts


def _kept_of_paths(
    points: Floats, paths: Paths, chords: _Chords, *, guard: Guard | None, hint: Bools
) -> Ints:
    """The vertices inside paths that stay; where a path is to stay bent, one of them at least."""
    kept: list[Ints] = [np.zeros(0, np.int64)]
    place = np.full(len(points), -1)
    place[paths.index] = np.arange(len(paths.index))
    while True:
        chords = chords.take(chords.last - chords.first > 1)
        if len(chords.first) == 0:
            return np.concatenate(kept)
        inner, chord, starts = chords.spread(1)
        one, other = paths.index[chords.first], paths.index[chords.last]
        vertex = paths.index[inner]
        along = _apply(chords.matrix, points[other] - points[one])[chord]
        off = points[vertex] - points[one][chord]
        far = np.where(hint[vertex], -1.0, _distance(_apply(chords.matrix[chord], off), along))
        farthest = np.maximum.reduceat(far, starts)
        over = farthest > np.where(chords.bent, 0, chords.tolerance)
        if guard is not None:
            over |= _crossing(guard, paths, chords, place) & (farthest > 0)
        at_most = np.flatnonzero(far == farthest[chord])
        leading = at_most[np.concatenate([[True], chord[at_most][1:] != chord[at_most][:-1]])]
        split = inner[leading][over]
        kept.append(paths.index[split])
        chords = chords.take(over).split(split)


def _crossing(guard: Guard, paths: Paths, chords: _Chords, place: Ints) -> Bools:
    """`(chord,)` whether it may meet another border than those it stands for."""
    at, chord, starts = chords.spread(0)
    vertex = paths.index[at]
    one, other = paths.index[chords.first][chord], paths.index[chords.last][chord]
    x, line = guard.x[vertex], guard.y[vertex]
    meets = np.zeros(len(at), np.bool_)
    extents = _extent(guard, one, other, line)
    for side, extent, sign in zip((guard.left, guard.right), extents, (-1, 1), strict=True):
        reached = side.reached[vertex]
        own = np.where(side.own[vertex] >= 0, place[side.own[vertex]], -1)
        mine = (own >= chords.first[chord]) & (own <= chords.last[chord])
        for end in (one, other):
            # A path's end belongs to several paths, so that it is known by where it lies.
            away = np.abs(guard.y[end] - line)
            mine |= (away == 0) & (guard.x[end] == reached)
            # A contour may end on the way there, and the chord with it.
            between = (sign * (guard.x[end] - x) >= 0) & (sign * (reached - guard.x[end]) >= 0)
            mine |= (away < 0.5) & between & (sign * (extent - guard.x[end]) <= _SLACK)
        meets |= (sign * (extent - side.bound[vertex]) > 0) & ~mine
    return np.asarray(np.logical_or.reduceat(meets & guard.on_grid[vertex], starts), np.bool_)


def _extent(guard: Guard, one: Ints, other: Ints, line: Floats) -> tuple[Floats, Floats]:
    """Least and greatest column of each chord, from one to other, in the squares round a line.

    Infinite the wrong way round where it does not come there.
    """
    low, high = np.minimum(guard.y[one], guard.y[other]), np.maximum(guard.y[one], guard.y[other])
    rise, run = guard.y[other] - guard.y[one], guard.x[other] - guard.x[one]
    level = rise == 0
    slope = np.divide(run, rise, out=np.zeros(len(rise)), where=~level)
    ends = [
        guard.x[one] + (np.clip(line + off, low, high) - guard.y[one]) * slope
        for off in (-0.5, 0.5)
    ]
    ends[1] = np.where(level, guard.x[other], ends[1])
    away = np.where(level, np.abs(line - low) > 0.5, (line + 0.5 <= low) | (line - 0.5 >= high))
    return (
        np.where(away, np.inf, np.minimum(*ends)),
        np.where(away, -np.inf, np.maximum(*ends)),
    )


def _distance(off: Floats, along: Floats) -> Floats:
    """Distance of points from segments that begin at the origin."""
    square = (along**2).sum(axis=1)
    part = np.divide((off * along).sum(axis=1), square, out=np.zeros(len(off)), where=square > 0)
    rest = off - np.clip(part, 0, 1)[:, None] * along
    return np.asarray(np.hypot(rest[:, 0], rest[:, 1]), np.float64)


def _apply(matrix: Floats, vector: Floats) -> Floats:
    """Multiply each matrix with its vector."""
    return np.asarray((matrix * vector[:, None, :]).sum(axis=2), np.float64)


def thin(
    shapes: RaggedArray, owner: Ints, *, tolerance: float, scale: Callable[[Ints, Ints], Floats]
) -> RaggedArray:
    """Simplify shapes; vertices at which several outlines meet are kept.

    Args:
        shapes: Items of rings; ring starts, junctions and hints are marked.
        owner: `(item,)` the object of each.
        tolerance: The largest distance that an outline may move, in metres.
        scale: From a row and a column to `(n, 2, 2)` metres a pixel there.
    """
    flat = shapes.flat
    begins = np.flatnonzero(flat & RING_START)
    offsets = np.append(begins, len(flat))
    y, x = unpack(flat)
    hint = flat & HINT != 0
    before, after = round_rings(offsets)
    # Where two outlines of two classes pass between the same four pixels, both stay as they are.
    fixed = (flat & JUNCTION != 0) & ~hint
    saddle = np.flatnonzero(hint & (flat & JUNCTION != 0))
    fixed[before[saddle]] = fixed[after[saddle]] = True
    kept = kept_of_rings(
        np.column_stack([x / SUBPIXEL, y / SUBPIXEL]),
        offsets,
        np.full(len(begins), tolerance),
        fixed=fixed,
        order=place(flat),
        scale=lambda vertex: scale(y[vertex] // SUBPIXEL, x[vertex] // SUBPIXEL),
        guard=guard_of(flat, offsets, owner[shapes.item_of]),
        hint=hint,
    )
    return _only(shapes, kept)


def without_hints(shapes: RaggedArray) -> RaggedArray:
    """The outlines as they were traced."""
    return _only(shapes, shapes.flat & HINT == 0)


def _only(shapes: RaggedArray, kept: Bools) -> RaggedArray:
    """Shapes of the vertices kept; each ring begins with its first."""
    if kept.all():
        return shapes
    begins = np.flatnonzero(shapes.flat & RING_START)
    places = np.flatnonzero(kept)
    marked = shapes.flat & ~RING_START
    marked[places[np.searchsorted(places, begins)]] |= RING_START
    return RaggedArray(marked[kept], np.concatenate([[0], np.cumsum(kept)])[shapes.offsets])
