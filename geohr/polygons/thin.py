"""Outlines thinned: which vertices stay (Douglas and Peucker, 1973), all outlines at a time."""

from __future__ import annotations

import numpy as np

from geohr.polygons.rings import Floats
from geohr.polygons.runs import Bools, Ints


def kept_of_paths(points: Floats, offsets: Ints, tolerance: Floats) -> Bools:
    """Which vertices of open paths stay; the ends always do.

    Args:
        points: `(vertex, 2)` of all paths.
        offsets: `(path + 1,)` path i is [offsets[i], offsets[i + 1]), two vertices at least.
        tolerance: `(path,)` greatest distance of a dropped vertex from the chord over it.
    """
    kept = np.zeros(len(points), np.bool_)
    first, last = offsets[:-1], offsets[1:] - 1
    kept[first] = kept[last] = True
    while True:
        long = last - first > 1
        first, last, tolerance = first[long], last[long], tolerance[long]
        if len(first) == 0:
            return kept
        sizes = last - first - 1
        starts = np.cumsum(sizes) - sizes
        stretch = np.repeat(np.arange(len(sizes)), sizes)
        inner = np.arange(len(stretch)) + np.repeat(first + 1 - starts, sizes)
        far = _distance(points[inner], points[first][stretch], points[last][stretch])
        farthest = np.maximum.reduceat(far, starts)
        at_most = np.flatnonzero(far == farthest[stretch])
        _, leading = np.unique(stretch[at_most], return_index=True)
        split = inner[at_most[leading]]
        over = farthest > tolerance
        split = split[over]
        kept[split] = True
        first = np.concatenate([first[over], split])
        last = np.concatenate([split, last[over]])
        tolerance = np.tile(tolerance[over], 2)


def kept_of_rings(points: Floats, offsets: Ints, tolerance: Floats) -> Bools:
    """Which vertices of rings stay: three at least.

    A ring is cut where it begins and at the vertex farthest from there; where it begins is itself
    dropped in the end if the vertices that stay beside it do not need it.

    Args:
        points: `(vertex, 2)` of all rings, the first vertex not repeated.
        offsets: `(ring + 1,)`.
        tolerance: `(ring,)`.
    """
    sizes = np.diff(offsets)
    # Every ring with its first vertex again at the end.
    closed_offsets = offsets + np.arange(len(offsets))
    source = np.arange(closed_offsets[-1]) - np.repeat(np.arange(len(sizes)), sizes + 1)
    source[closed_offsets[1:] - 1] = offsets[:-1]
    closed = points[source]
    far = np.hypot(*(closed - np.repeat(points[offsets[:-1]], sizes + 1, axis=0)).T)
    ring = np.repeat(np.arange(len(sizes)), sizes + 1)
    order = np.lexsort((-far, ring))
    opposite = order[closed_offsets[:-1]]
    # Paths share their end points, which are therefore given twice.
    cut = np.sort(np.concatenate([np.arange(len(closed)), opposite]))
    halves = np.sort(np.concatenate([closed_offsets, opposite + 1]))
    halves = halves + np.searchsorted(np.sort(opposite), halves, side="left")
    kept_cut = kept_of_paths(closed[cut], halves, np.repeat(tolerance, 2))
    kept = np.zeros(len(points), np.bool_)
    kept[source[cut[kept_cut]]] = True
    return _without_needless_start(points, offsets, tolerance, kept)


def _without_needless_start(points: Floats, offsets: Ints, tolerance: Floats, kept: Bools) -> Bools:
    """Drop the first vertex of rings of four and more where the outline is straight there."""
    places = np.flatnonzero(kept)
    begins = np.searchsorted(places, offsets[:-1])
    ends = np.searchsorted(places, offsets[1:])
    many = np.flatnonzero(ends - begins > 3)
    start = offsets[:-1][many]
    after, before = places[begins[many] + 1], places[ends[many] - 1]
    straight = _distance(points[start], points[before], points[after]) <= tolerance[many] / 2
    kept = kept.copy()
    kept[start[straight]] = False
    return kept


def _distance(points: Floats, one: Floats, other: Floats) -> Floats:
    """Distance of points from segments."""
    along, off = other - one, points - one
    square = (along**2).sum(axis=1)
    part = np.divide((off * along).sum(axis=1), square, out=np.zeros(len(off)), where=square > 0)
    rest = off - np.clip(part, 0, 1)[:, None] * along
    return np.asarray(np.hypot(rest[:, 0], rest[:, 1]), np.float64)
