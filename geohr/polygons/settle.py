"""Redrawn polygons kept from overlapping, with memory of those handed out before."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely

from geohr.polygons.polygons import Geometries
from geohr.polygons.runs import Ints

_POLYGON = int(shapely.GeometryType.POLYGON)


class Settler:
    """Takes redrawn polygons in the order in which they are handed out; the later one yields.

    The outlines that were traced do not overlap, so that what one has to yield is never more than
    the redrawing added.
    """

    def __init__(self) -> None:
        self._kept = np.zeros(0, object)
        self._bottom = np.zeros(0, np.int64)

    def settle(
        self, drawn: Geometries, traced: Geometries, bottom: Ints, *, needed_from: int
    ) -> Geometries:
        """The drawn polygons without what lies in earlier ones.

        Args:
            drawn: Polygons as redrawn.
            traced: The same as traced, for where nothing usable is left of the drawing.
            bottom: `(n,)` last row of each, with what redrawing may add.
            needed_from: Polygons that end above this row meet nothing that is still to come.
        """
        before = len(self._kept)
        everything = np.concatenate([self._kept, drawn])
        tree = shapely.STRtree(everything)
        later, earlier = tree.query(drawn, predicate="intersects")
        later = later + before
        pairs = earlier < later
        later, earlier = later[pairs], earlier[pairs]
        crossing = ~shapely.touches(everything[later], everything[earlier])
        later, earlier = later[crossing], earlier[crossing]
        order = np.argsort(later, kind="stable")
        later, earlier = later[order], earlier[order]
        yielding, starts = np.unique(later, return_index=True)
        stops = np.append(starts[1:], len(later)).tolist()
        for index, start, stop in zip(yielding.tolist(), starts.tolist(), stops, strict=False):
            near = np.concatenate(
                [earlier[start:stop], self._near(tree, traced[index - before], index)]
            )
            taken = shapely.union_all(everything[np.unique(near)])
            everything[index] = _rest(everything[index], traced[index - before], taken)
        ends = np.concatenate([self._bottom, bottom])
        needed = ends >= needed_from
        self._kept, self._bottom = everything[needed], ends[needed]
        return everything[before:]

    @staticmethod
    def _near(tree: shapely.STRtree, traced: Any, index: int) -> Ints:
        """Earlier polygons that the traced outline reaches."""
        found = np.asarray(tree.query(traced), np.int64)
        return found[found < index]


def _rest(drawn: Any, traced: Any, taken: Any) -> Any:
    """What is left of a drawing outside the ground taken; of the traced outline if it splits."""
    for shape in (drawn, traced):
        parts = shapely.get_parts(shapely.difference(shape, taken))
        parts = parts[(shapely.get_type_id(parts) == _POLYGON) & shapely.is_valid(parts)]
        if len(parts) == 1:
            return parts[0]
    return parts[np.argmax(shapely.area(parts))] if len(parts) else traced
