"""Whole outlines thinned in metres, neighbours alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from geohr.encoding import Bools, Floats, Ints
from geohr.polygons.thin import Guard, Side, kept_of_rings
from geohr.polygons.vertices import (
    DEPTH_MAX,
    HINT,
    JUNCTION,
    RING_START,
    SADDLE,
    SUBPIXEL,
    Ragged,
    depth,
    place,
    unpack,
)

_HALF = 0.5
"""Pixels that a border keeps to round the vertices of the pixel grid which it passes."""


def thin(
    shapes: Ragged, owner: Ints, *, tolerance: float, scale: Callable[[Ints, Ints], Floats]
) -> Ragged:
    """Shapes with fewer vertices; those that several outlines share stay.

    Args:
        shapes: Items of rings; ring starts, junctions and hints are marked.
        owner: `(item,)` the object of each.
        tolerance: In metres.
        scale: From a row and a column to `(n, 2, 2)` metres a pixel there.
    """
    flat = shapes.flat
    begins = np.flatnonzero(flat & RING_START)
    offsets = np.append(begins, len(flat))
    y, x = unpack(flat)
    hint = flat & HINT != 0
    before, after = _round_rings(offsets)
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
        guard=_guard(flat, offsets, owner[shapes.item_of]),
        hint=hint,
    )
    return _only(shapes, kept)


def without_hints(shapes: Ragged) -> Ragged:
    """The outlines as they were traced."""
    return _only(shapes, shapes.flat & HINT == 0)


def _only(shapes: Ragged, kept: Bools) -> Ragged:
    """Shapes of the vertices kept; each ring begins with its first."""
    if kept.all():
        return shapes
    begins = np.flatnonzero(shapes.flat & RING_START)
    places = np.flatnonzero(kept)
    marked = shapes.flat & ~RING_START
    marked[places[np.searchsorted(places, begins)]] |= RING_START
    return Ragged(marked[kept], np.concatenate([[0], np.cumsum(kept)])[shapes.offsets])


def _round_rings(offsets: Ints) -> tuple[Ints, Ints]:
    """`(vertex,)` the vertex before and after each in its ring."""
    count = int(offsets[-1])
    before, after = np.arange(count) - 1, np.arange(count) + 1
    before[offsets[:-1]], after[offsets[1:] - 1] = offsets[1:] - 1, offsets[:-1]
    return before, after


def _guard(flat: Ints, offsets: Ints, owner: Ints) -> Guard:
    """The next borders beside every vertex of the pixel grid that an outline passes.

    Along the outline's own side that is the end of the side; outside its object it is as far as
    the vertex says, inside as far as the object's next vertex on the line. All are known to
    `DEPTH_MAX` pixels, so that neighbours agree.
    """
    y, x = unpack(flat)
    nodes = np.flatnonzero((y % SUBPIXEL == 0) & (x % SUBPIXEL == 0))
    line, column = y[nodes] // SUBPIXEL, x[nodes] // SUBPIXEL
    before, after = _round_rings(np.searchsorted(nodes, offsets))
    come_right, come_down = np.sign(column - column[before]), np.sign(line - line[before])
    go_right = np.sign(column[after] - column)
    outside = depth(flat[nodes])
    # Where two outlines of the object touch, borders leave to all sides.
    saddle = flat[nodes] & SADDLE != 0
    # Where the outline goes straight on or turns round its own pixel, its outside is ahead.
    outside_right = (come_right > 0) | (come_down < 0)
    beside = _next_on_line(owner[nodes], line, column)
    sides = []
    for sign, following in zip((-1, 1), beside, strict=True):
        along = np.where(go_right == sign, after, np.where(come_right == -sign, before, -1))
        is_outside = (outside > 0) & (outside_right == (sign > 0))
        gap = np.where(following >= 0, np.abs(column[following] - column), DEPTH_MAX)
        far = np.where(is_outside, outside, np.minimum(gap, DEPTH_MAX))
        far[saddle] = 1
        own = np.where((gap == far) & (far < DEPTH_MAX), following, -1)
        own = np.where(along >= 0, along, own)
        reached = np.where(along >= 0, column[along], column + sign * far).astype(np.float64)
        reached[(along < 0) & (far == DEPTH_MAX)] = -sign * np.inf
        side = Side(np.zeros(len(flat)), np.zeros(len(flat)), np.full(len(flat), -1))
        side.bound[nodes] = column + sign * (np.where(along >= 0, 1, far) - _HALF)
        side.reached[nodes] = reached
        side.own[nodes] = np.where(own >= 0, nodes[own], -1)
        sides.append(side)
    on_grid = np.zeros(len(flat), np.bool_)
    on_grid[nodes] = True
    return Guard(x / SUBPIXEL, y / SUBPIXEL, on_grid, *sides)


def _next_on_line(owner: Ints, line: Ints, column: Ints) -> tuple[Ints, Ints]:
    """`(vertex,)` each object's next vertex to the left and to the right on a line; -1 for none.

    Of several in one place it is the first.
    """
    order = np.lexsort((column, line, owner))
    new_line = np.concatenate(
        [[True], (np.diff(line[order]) != 0) | (np.diff(owner[order]) != 0), [True]]
    )
    new_place = new_line.copy()
    new_place[1:-1] |= np.diff(column[order]) != 0
    starts = np.flatnonzero(new_place)
    group = np.cumsum(new_place)[:-1] - 1
    first = order[starts[:-1]]
    left, right = np.full(len(order), -1), np.full(len(order), -1)
    left[order] = np.where(new_line[starts[group]], -1, first[group - 1])
    right[order] = np.where(new_line[starts[group + 1]], -1, np.append(first, -1)[group + 1])
    return left, right
