"""One direction for buildings that stand close together and nearly the same way."""

from __future__ import annotations

import numpy as np
import shapely

from geohr.encoding import Floats, Geometries, Ints

ALIGNED = 10.0
"""Degrees by which a building may be turned, at most, to stand as its neighbours do."""
SWING = 0.5
"""Tolerances by which turning may move the point of a building farthest from its middle."""


def turns(polygons: Geometries, tolerance: Floats) -> Floats:
    """`(n,)` radians by which each polygon may be turned: large ones less than small ones."""
    swing = SWING * tolerance / shapely.minimum_bounding_radius(polygons)
    return np.asarray(np.minimum(np.radians(ALIGNED), swing), np.float64)


def aligned(direction: Floats, strength: Floats, turn: Floats, pairs: Ints) -> Floats:
    """Directions of which near and nearly equal ones are made equal.

    Neighbours are joined, those that differ least first, as long as no member of what they make is
    turned too far from its own direction to the mean. Right angles are taken as one.

    Args:
        direction: `(n,)` main directions in radians.
        strength: `(n,)` what each counts in a mean.
        turn: `(n,)` the farthest that each may be turned, in radians.
        pairs: `(2, pair)` those that stand close together.
    """
    one, other = pairs
    differ = np.abs(_turn(direction[one] - direction[other]))
    order = np.lexsort((other, one, differ))
    order = order[(differ <= turn[one] + turn[other])[order]]
    vector = strength * np.exp(4j * direction)
    root = np.arange(len(direction))
    members = {index: np.array([index]) for index in np.union1d(one, other).tolist()}
    for a, b in zip(one[order].tolist(), other[order].tolist(), strict=True):
        first, second = sorted((int(root[a]), int(root[b])))
        if first == second:
            continue
        both = np.concatenate([members[first], members[second]])
        mean = np.angle(vector[both].sum()) / 4
        if (np.abs(_turn(direction[both] - mean)) <= turn[both]).all():
            root[both] = first
            members[first] = both
            del members[second]
    common = direction.copy()
    for both in members.values():
        if len(both) > 1:
            common[both] = np.angle(vector[both].sum()) / 4
    return common


def _turn(angle: Floats) -> Floats:
    """Differences of directions, brought to [-pi/4, pi/4)."""
    return np.asarray((angle + np.pi / 4) % (np.pi / 2) - np.pi / 4, np.float64)
