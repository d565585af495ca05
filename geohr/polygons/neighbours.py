"""Redrawn buildings kept from overlapping their neighbours, also those handed out before."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely

from geohr.encoding import Bools, Geometries, Ints

# The largest share of a drawing that may go beside an overlap, so that the cut is along its walls.
SQUARE_SHARE = 0.05
# By how much such a cut exceeds the overlap, as a share of a wall, so that no sliver is left.
CLEARANCE = 1e-5
# The sine of the angle between two walls below which nothing is cut along them.
PARALLEL = 0.1
_POLYGON = int(shapely.GeometryType.POLYGON)


class OverlapResolver:
    """Removes overlaps between redrawn polygons: of two that overlap, the later one is cut.

    The cut is along the walls of the one that is cut, which keeps its right angles. The outlines
    that were traced do not overlap, so that a building yields little more than what redrawing
    added.
    """

    def __init__(self) -> None:
        self._kept = np.zeros(0, object)
        self._bottom = np.zeros(0, np.int64)

    def resolve(
        self,
        drawn: Geometries,
        traced: Geometries,
        bottom: Ints,
        *,
        needed_from: int,
        fixed: Bools | None = None,
    ) -> Geometries:
        """Cut from drawn polygons what lies in earlier ones.

        Args:
            drawn: Polygons as redrawn.
            traced: The polygons as traced or nearly so, used where nothing is left of a drawing.
            bottom: `(n,)` last row of each, with what redrawing may add.
            needed_from: Polygons that end above this row meet nothing that is still to come.
            fixed: `(n,)` True for those that stay as they are, as they have yielded before.

        Returns:
            `(n,)`, None where nothing is left.
        """
        before = len(self._kept)
        everything = np.concatenate([self._kept, drawn])
        plain = np.concatenate([self._kept, traced])
        later, earlier = _meeting(everything, plain, before)
        if fixed is not None:
            yields = ~fixed[later - before]
            later, earlier = later[yields], earlier[yields]
        # In one order, however the rows came: unions depend on it in their last bits.
        order = np.lexsort((earlier, later))
        later, earlier = later[order], earlier[order]
        yielding, starts = np.unique(later, return_index=True)
        stops = np.append(starts[1:], len(later)).tolist()
        for index, start, stop in zip(yielding.tolist(), starts.tolist(), stops, strict=False):
            shape, others = everything[index], everything[earlier[start:stop]]
            meets = shapely.intersects(shape, others) & ~shapely.touches(shape, others)
            if meets.any():
                meets |= shapely.intersects(plain[index], others)
                everything[index] = _rest(shape, plain[index], shapely.union_all(others[meets]))
        ends = np.concatenate([self._bottom, bottom])
        needed = (ends >= needed_from) & ~shapely.is_missing(everything)
        self._kept, self._bottom = everything[needed], ends[needed]
        return everything[before:]


def _meeting(drawn: Geometries, traced: Geometries, before: int) -> tuple[Ints, Ints]:
    """Pairs that may come to overlap: whatever a polygon becomes lies in one of its outlines.

    Returns:
        Places of the later ones, from `before` on, and of the earlier ones.
    """
    one, other = shapely.bounds(drawn).reshape(-1, 4), shapely.bounds(traced).reshape(-1, 4)
    boxes = shapely.box(
        *np.minimum(one[:, :2], other[:, :2]).T, *np.maximum(one[:, 2:], other[:, 2:]).T
    )
    later, earlier = shapely.STRtree(boxes).query(boxes[before:])
    later = later + before
    pairs = earlier < later
    later, earlier = later[pairs], earlier[pairs]
    meets = shapely.intersects(drawn[later], drawn[earlier])
    meets |= shapely.intersects(drawn[later], traced[earlier])
    meets |= shapely.intersects(traced[later], drawn[earlier])
    return later[meets], earlier[meets]


def _rest(drawn: Any, traced: Any, taken: Any) -> Any:
    """The part of a drawing outside occupied ground, or that of the traced outline if it splits."""
    cut = shapely.difference(drawn, taken)
    square = _pieces(shapely.difference(drawn, _along_walls(drawn, taken)))
    if len(square) == 1:
        more = (shapely.area(cut) - shapely.area(square[0])) / shapely.area(drawn)
        # Where it takes no more than the clearance, the overlap is along the walls already.
        if 2 * CLEARANCE < more <= SQUARE_SHARE:
            return square[0]
    largest = None
    for left in (cut, shapely.difference(traced, taken)):
        parts = _pieces(left)
        if len(parts) == 1:
            return parts[0]
        if len(parts):
            largest = parts[np.argmax(shapely.area(parts))]
    return largest


def _pieces(shape: Any) -> Geometries:
    """The valid polygons of a geometry."""
    parts = np.asarray(shapely.get_parts(shape), object)
    areas = np.where(shapely.get_type_id(parts) == _POLYGON, shapely.area(parts), 0)
    return np.asarray(parts[(areas > 0) & shapely.is_valid(parts)], object)


def _along_walls(drawn: Any, taken: Any) -> Any:
    """Boxes round what a drawing shares with occupied ground, along its walls.

    With the longest wall and the next one as units a box is upright, in a CRS of degrees, too.
    Occupied ground itself where these two are nearly parallel.
    """
    edges = np.diff(shapely.get_coordinates(shapely.get_exterior_ring(drawn)), axis=0)
    lengths = np.hypot(edges[:, 0], edges[:, 1])
    pair = np.argmax(lengths) - np.array([0, len(edges) - 1])
    walls = edges[pair]
    if abs(np.linalg.det(walls)) < PARALLEL * lengths[pair].prod():
        return taken
    to_walls = np.linalg.inv(walls)
    shared = shapely.get_parts(shapely.intersection(drawn, taken))
    shared = shared[shapely.get_type_id(shared) == _POLYGON]
    low, high = np.split(shapely.bounds(shapely.transform(shared, lambda at: at @ to_walls)), 2, 1)
    boxes = shapely.box(*(low - CLEARANCE).T, *(high + CLEARANCE).T)
    return shapely.union_all(shapely.transform(boxes, lambda at: at @ walls))
