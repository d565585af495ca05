"""Closed rings: made simple, measured, and turned into polygons."""

from __future__ import annotations

import numpy as np

from geohr.encoding import Bools, Floats, Ints
from geohr.polygons.chains import cycles
from geohr.polygons.vertices import RING_START, SADDLE, SUBPIXEL, Ragged, join, place, unpack


def split_touching(rings: Ragged) -> tuple[Ragged, Ints]:
    """Cut rings that pass twice through a vertex into rings that do not.

    With objects of 4-connected pixels, the two passes of one ring through a saddle always belong
    to one object, so exchanging what follows them separates the background on both sides: a valid
    polygon whose rings meet in points.

    Returns:
        Simple rings, and for each the ring that it was part of.
    """
    marked = np.flatnonzero(rings.flat & SADDLE)
    ring_of = np.searchsorted(rings.offsets, marked, side="right") - 1
    order = np.lexsort((place(rings.flat[marked]), ring_of))
    marked, ring_of = marked[order], ring_of[order]
    here = place(rings.flat[marked])
    twice = np.flatnonzero((here[1:] == here[:-1]) & (ring_of[1:] == ring_of[:-1]))
    if len(twice) == 0:
        return rings, np.arange(len(rings))
    first, second = marked[twice], marked[twice + 1]
    affected = np.unique(ring_of[twice])
    untouched = np.setdiff1d(np.arange(len(rings)), affected)
    some = rings.take(affected)
    back = np.zeros(len(rings), np.int64)
    back[affected] = some.offsets[:-1] - rings.offsets[affected]
    first, second = first + back[ring_of[twice]], second + back[ring_of[twice]]
    successor = np.arange(1, len(some.flat) + 1)
    successor[some.offsets[1:] - 1] = some.offsets[:-1]
    successor[first], successor[second] = successor[second], successor[first]
    nodes, offsets = cycles(successor, np.arange(len(successor)))
    origin = affected[some.item_of[nodes[offsets[:-1]]]]
    return (
        join([rings.take(untouched), Ragged(some.flat[nodes], offsets)]),
        np.concatenate([untouched, origin]),
    )


def canonical(rings: Ragged) -> Ragged:
    """Rotate each ring to begin at its first vertex in raster order, and mark it there."""
    plain = place(rings.flat)
    least = np.minimum.reduceat(plain, rings.offsets[:-1]) if len(rings) else plain
    sizes = rings.lengths
    at = np.flatnonzero(plain == np.repeat(least, sizes))
    shift = np.repeat(at - rings.offsets[:-1], sizes)
    base = np.repeat(rings.offsets[:-1], sizes)
    turned = rings.flat[base + (np.arange(len(plain)) - base + shift) % np.repeat(sizes, sizes)]
    turned[rings.offsets[:-1]] |= RING_START
    return Ragged(turned, rings.offsets)


def signed_area(rings: Ragged) -> Floats:
    """`(ring,)` area in square pixels: positive for an exterior, negative for a hole."""
    if len(rings) == 0:
        return np.zeros(0)
    y, x = unpack(rings.flat)
    y = y - np.repeat(y[rings.offsets[:-1]], rings.lengths)
    x = x - np.repeat(x[rings.offsets[:-1]], rings.lengths)
    after = np.arange(1, len(y) + 1)
    after[rings.offsets[1:] - 1] = rings.offsets[:-1]
    # y points down, so the usual sign is turned round.
    twice = np.add.reduceat(x[after] * y - x * y[after], rings.offsets[:-1])
    return twice / (2.0 * SUBPIXEL * SUBPIXEL)


def gather(rings: Ragged, owner: Ints, hole: Bools, owners: int) -> Ragged:
    """Join each owner's rings into one item: its exterior first, then holes in raster order.

    Args:
        rings: Canonical rings.
        owner: `(ring,)` in [0, owners); every owner has an exterior.
        hole: `(ring,)` True for holes.
        owners: How many there are.
    """
    order = np.lexsort((place(rings.flat[rings.offsets[:-1]]), hole, owner))
    sorted_rings = rings.take(order)
    counts = np.bincount(owner, minlength=owners)
    ends = np.concatenate([[0], np.cumsum(counts)])
    return Ragged(sorted_rings.flat, sorted_rings.offsets[ends])
