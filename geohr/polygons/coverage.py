"""Whole outlines thinned in metres, neighbours alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from geohr.polygons.rings import Floats
from geohr.polygons.runs import Ints
from geohr.polygons.thin import Guard, kept_of_rings
from geohr.polygons.vertices import (
    DEPTH_MAX,
    JUNCTION,
    RING_START,
    SUBPIXEL,
    Ragged,
    depth,
    place,
    unpack,
)

_LEEWAY = 0.5
"""Pixels that a contour may lie beside the pixels' sides, which the guard knows."""


def thin(
    shapes: Ragged,
    owner: Ints,
    *,
    tolerance: float,
    scale: Callable[[Ints, Ints], Floats],
    contour: bool,
) -> Ragged:
    """Shapes with fewer vertices; those that three outlines share stay.

    Args:
        shapes: Items of rings; ring starts and junctions are marked, and every unit of every
            upright side has a vertex.
        owner: `(item,)` the object of each.
        tolerance: In metres.
        scale: From a row and a column to `(n, 2, 2)` metres a pixel there.
        contour: Whether vertices lie between pixel centres.
    """
    flat = shapes.flat
    begins = np.flatnonzero(flat & RING_START)
    offsets = np.append(begins, len(flat))
    y, x = unpack(flat)
    guard = _guard(flat, owner[shapes.item_of], _LEEWAY if contour else 0.0)
    kept = kept_of_rings(
        np.column_stack([guard.x, guard.y]),
        offsets,
        np.full(len(begins), tolerance),
        fixed=flat & JUNCTION != 0,
        order=place(flat),
        scale=lambda vertex: scale(y[vertex] // SUBPIXEL, x[vertex] // SUBPIXEL),
        guard=guard,
    )
    ring = np.repeat(np.arange(len(begins)), np.diff(offsets))
    flattened = np.bincount(ring[kept], minlength=len(begins)) < 3
    kept |= flattened[ring] & (contour | ~guard.upright)
    places = np.flatnonzero(kept)
    marked = flat & ~RING_START
    marked[places[np.searchsorted(places, begins)]] |= RING_START
    return Ragged(marked[kept], np.concatenate([[0], np.cumsum(kept)])[shapes.offsets])


def _guard(flat: Ints, owner: Ints, leeway: float) -> Guard:
    """The next borders beside every upright side.

    Inside its object, the next border is the object's own next side in the row; outside, it is as
    far as the vertex says. Both are known to `DEPTH_MAX` pixels, so that neighbours agree.
    """
    y, x = unpack(flat)
    upright = (y % SUBPIXEL == SUBPIXEL // 2) & (flat & JUNCTION == 0)
    sides = np.flatnonzero(upright)
    column = np.rint(x[sides] / SUBPIXEL).astype(np.int64)
    order = np.lexsort((column, y[sides] // SUBPIXEL, owner[sides]))
    sides, column = sides[order], column[order]
    row, mine = y[sides] // SUBPIXEL, owner[sides]
    outside = depth(flat[sides])
    # In a row the sides of an object come in pairs: in, out, in, out.
    inside = np.diff(column)[0::2].repeat(2)
    enters = np.arange(len(sides)) % 2 == 0
    to_left = np.where(enters, outside, inside)
    to_right = np.where(enters, inside, outside)
    before = np.append(-1, sides[:-1])
    after = np.append(sides[1:], -1)
    linked = (row[1:] == row[:-1]) & (mine[1:] == mine[:-1])
    near_before = np.append(False, linked & (np.diff(column) == to_left[1:]))
    near_after = np.append(linked & (np.diff(column) == to_right[:-1]), False)
    known_left, known_right = to_left < DEPTH_MAX, to_right < DEPTH_MAX
    count = len(flat)
    left, right = np.full(count, -np.inf), np.full(count, np.inf)
    left[sides] = column - np.minimum(to_left, DEPTH_MAX) + leeway * (to_left > 0)
    right[sides] = column + np.minimum(to_right, DEPTH_MAX) - leeway * (to_right > 0)
    own_left, own_right = np.full(count, -1), np.full(count, -1)
    own_left[sides] = np.where(near_before & known_left, before, -1)
    own_right[sides] = np.where(near_after & known_right, after, -1)
    return Guard(x / SUBPIXEL, y / SUBPIXEL, upright, left, right, leeway, own_left, own_right)
