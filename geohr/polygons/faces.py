"""Drawings of touching buildings made a coverage: no overlap, no sliver, walls of both one.

All drawn outlines are noded on a fine grid and cut the ground into faces. A face that several
drawings claim goes to the one that was traced there; a sliver that none claims goes to its
neighbour. What a building has won is dissolved, so that neighbours have the same vertices.
"""

from __future__ import annotations

import numpy as np
import shapely

from geohr.encoding import Bools, Floats, Geometries, Ints
from geohr.polygons.components import connected
from geohr.polygons.shapes import assemble

GRID = 1e-4
"""Metres of the grid on which outlines are noded."""
SLIVER = 0.5
"""Widest sliver that is filled, in tolerances."""
FILLED = 0.5
"""Share of a face that must have been traced for it to go to someone who did not draw it."""
STRAIGHT = 0.05
"""Tolerances from the line between its neighbours within which a vertex is none."""


def resolve(drawn: Geometries, traced: Geometries, tolerance: float) -> Geometries:
    """Polygons without overlap, of which close neighbours share their walls.

    Args:
        drawn: Polygons in metres of one plane.
        traced: As traced; they do not overlap.
        tolerance: The scale of drawing, in metres.

    Returns:
        One polygon each; None where nothing is left.
    """
    lines = shapely.union_all(shapely.boundary(drawn), grid_size=GRID)
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(lines)))
    owner = _owners(faces, drawn, traced, tolerance)
    owner = _in_one_piece(faces, owner, traced)
    result = np.full(len(drawn), None, object)
    for index in np.unique(owner[owner >= 0]).tolist():
        result[index] = shapely.union_all(faces[owner == index])
    there = np.flatnonzero(~shapely.is_missing(result))
    if len(there) == 0:
        return result
    for width in (STRAIGHT * tolerance, GRID):
        fewer = without_straight(result[there], width)
        # Beside a spike a vertex may not even go by that little.
        if shapely.is_valid(fewer).all():
            result[there] = fewer
            break
    return result


def _owners(faces: Geometries, drawn: Geometries, traced: Geometries, tolerance: float) -> Ints:
    """`(face,)` the building that each belongs to; -1 for the ground between."""
    inside = shapely.point_on_surface(faces)
    face, claim = shapely.STRtree(drawn).query(inside, predicate="within")
    owner = _best(faces, face, claim, traced)
    free = np.flatnonzero(owner < 0)
    filled = _was_traced(faces[free], traced)
    face, claim = shapely.STRtree(traced).query(faces[free[filled]], predicate="intersects")
    owner[free[filled]] = _best(faces[free[filled]], face, claim, traced)
    free = free[~filled]
    free = free[shapely.is_empty(shapely.buffer(faces[free], -SLIVER * tolerance / 2))]
    face, claim = shapely.STRtree(drawn).query(faces[free], predicate="dwithin", distance=2 * GRID)
    owner[free] = _best(faces[free], face, claim, traced)
    return owner


def _was_traced(faces: Geometries, traced: Geometries) -> Bools:
    """Whether half of each face or more lies in traced outlines."""
    face, claim = shapely.STRtree(traced).query(faces, predicate="intersects")
    share = shapely.area(shapely.intersection(faces[face], traced[claim]))
    total = np.bincount(face, weights=share, minlength=len(faces))
    return np.asarray(total >= FILLED * shapely.area(faces), np.bool_)


def _best(faces: Geometries, face: Ints, claim: Ints, traced: Geometries) -> Ints:
    """Of those that claim each face the one that was traced on most of it, or nearest to it."""
    owner = np.full(len(faces), -1)
    several = np.bincount(face, minlength=len(faces))[face] > 1
    share, away = np.zeros(len(face)), np.zeros(len(face))
    pairs = faces[face[several]], traced[claim[several]]
    share[several] = shapely.area(shapely.intersection(*pairs))
    away[several] = shapely.distance(shapely.point_on_surface(pairs[0]), pairs[1])
    order = np.lexsort((claim, away, -share, face))
    first = order[np.flatnonzero(np.diff(face[order], prepend=-1))]
    owner[face[first]] = claim[first]
    return owner


def _in_one_piece(faces: Geometries, owner: Ints, traced: Geometries) -> Ints:
    """Owners of faces, where what does not hang together with a building's largest piece is lost.

    If it was traced, it goes to the neighbour with which it has the longest side in common.
    """
    one, other, length = _sides_in_common(faces)
    owner = owner.copy()
    area = shapely.area(faces)
    piece = _pieces(owner, one, other)
    total = np.bincount(piece, weights=area, minlength=len(faces))
    largest = np.zeros(len(faces), np.bool_)
    order = np.lexsort((piece, -total[piece], owner))
    first = order[np.flatnonzero(np.diff(owner[order], prepend=-2))]
    largest[np.isin(piece, piece[first])] = True
    lost = ~largest & (owner >= 0)
    owner[lost] = -1
    lost[lost] = _was_traced(faces[lost], traced)
    one, other = np.concatenate([one, other]), np.concatenate([other, one])
    order = np.lexsort((other, -np.tile(length, 2), one))
    one, other = one[order], other[order]
    while True:
        # A face that is lost may lie beside another that has just been taken.
        takes = lost[one] & (owner[one] < 0) & (owner[other] >= 0)
        face, first = np.unique(one[takes], return_index=True)
        if len(face) == 0:
            return owner
        owner[face] = owner[other[takes][first]]


def _sides_in_common(faces: Geometries) -> tuple[Ints, Ints, Floats]:
    """Pairs of faces that share sides, and how long these are."""
    one, other = shapely.STRtree(faces).query(faces, predicate="intersects")
    one, other = one[one < other], other[one < other]
    length = shapely.length(
        shapely.intersection(shapely.boundary(faces[one]), shapely.boundary(faces[other]))
    )
    beside = length > 0
    return one[beside], other[beside], length[beside]


def _pieces(owner: Ints, one: Ints, other: Ints) -> Ints:
    """`(face,)` the smallest face of the piece of one owner that it lies in."""
    same = (owner[one] == owner[other]) & (owner[one] >= 0)
    return connected(len(owner), one[same], other[same])


def without_straight(polygons: Geometries, tolerance: float) -> Geometries:
    """Polygons of a coverage without vertices on straight lines, where no other outline ends."""
    while True:
        rings, owner = shapely.get_rings(polygons, return_index=True)
        points, ring = shapely.get_coordinates(rings, return_index=True)
        is_open = np.flatnonzero(ring[1:] == ring[:-1])
        before, after = _neighbours(ring[is_open])
        points, ring = points[is_open], ring[is_open]
        gone = _straight(points, ring, before, after, tolerance)
        if not gone.any():
            return polygons
        kept = shapely.linearrings(points[~gone], indices=ring[~gone])
        polygons = assemble(kept, owner)


def _straight(points: Floats, ring: Ints, before: Ints, after: Ints, tolerance: float) -> Bools:
    """Which vertices can go at once: straight in every ring, and none beside another."""
    place = np.unique(points, axis=0, return_inverse=True)[1].reshape(-1)
    low = np.minimum(place[before], place[after])
    high = np.maximum(place[before], place[after])
    count = int(place.max()) + 1
    plain = np.ones(count, np.bool_)
    for side in (low, high):
        least = np.full(count, count)
        np.minimum.at(least, place, side)
        plain[place[side != least[place]]] = False
    chord = points[after] - points[before]
    off = points - points[before]
    length = np.hypot(chord[:, 0], chord[:, 1])
    part = (off * chord).sum(axis=1)
    cross = np.abs(chord[:, 0] * off[:, 1] - chord[:, 1] * off[:, 0])
    level = (cross <= tolerance * length) & (part >= 0) & (part <= length**2)
    plain[place[~level]] = False
    plain[place[np.bincount(ring)[ring] <= 4]] = False
    # Of vertices side by side the one that comes first goes in this round.
    beside = plain[low] & (low < place) | plain[high] & (high < place)
    plain[place[beside]] = False
    return np.asarray(plain[place], np.bool_)


def _neighbours(ring: Ints) -> tuple[Ints, Ints]:
    """The vertex before and after each, round its ring."""
    begins = np.flatnonzero(np.diff(ring, prepend=-1))
    ends = np.append(begins[1:], len(ring)) - 1
    before, after = np.arange(len(ring)) - 1, np.arange(len(ring)) + 1
    before[begins], after[ends] = ends, begins
    return before, after
