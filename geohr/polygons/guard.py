"""The borders beside an outline, which a simplified outline must not cross."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geohr.encoding import Bools, Floats, Ints
from geohr.polygons.rings import DEPTH_MAX, SADDLE, SUBPIXEL, depth, round_rings, unpack

# Pixels that a border keeps to round the vertices of the pixel grid which it passes.
_HALF = 0.5


@dataclass(frozen=True)
class Side:
    """The next borders to the left, or to the right, of vertices on lines of the pixel grid."""

    bound: Floats
    """`(vertex,)` how far to that side, in columns, no border comes but the vertex's own."""
    reached: Floats
    """`(vertex,)` column of the vertex of a border that sets the bound."""
    own: Ints
    """`(vertex,)` that vertex if it belongs to the same polygon; else -1."""


@dataclass(frozen=True)
class Guard:
    """The borders beside an outline, which chords must not cross.

    Borders pass from square to square of the dual grid, those of a pixel's size round the vertices
    of the pixel grid. A chord that stays, in every row of squares, between the next squares with
    other borders, sweeps over no other border on its way from the outline to its place: a border
    that it met would have to turn round between the two.
    """

    x: Floats
    """`(vertex,)` column of the vertex, in pixels."""
    y: Floats
    on_grid: Bools
    """`(vertex,)` whether it is a vertex of the pixel grid, and says what lies beside it."""
    left: Side
    right: Side


def guard_of(flat: Ints, offsets: Ints, owner: Ints) -> Guard:
    """The next borders beside every vertex of the pixel grid that an outline passes.

    Along the outline's own side that is the end of the side; outside its object it is as far as
    the vertex says, inside as far as the object's next vertex on the line. All are known to
    `DEPTH_MAX` pixels, so that neighbours agree.
    """
    y, x = unpack(flat)
    nodes = np.flatnonzero((y % SUBPIXEL == 0) & (x % SUBPIXEL == 0))
    line, column = y[nodes] // SUBPIXEL, x[nodes] // SUBPIXEL
    before, after = round_rings(np.searchsorted(nodes, offsets))
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
