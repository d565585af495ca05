"""Walls near the edges of a rectangle: what can be drawn there, and what must wait for the rest.

Of two drawings that overlap, the later one yields. A rectangle knows the objects inside of it, and
not those beyond its edge, nor those that cross it. So an object waits that may come to meet one of
those, and each later one that may come to meet an object that waits. All others are settled. What
waits is drawn, too, which takes the most time of all, and cut when the rectangles are joined, among
those settled parts that it may have to yield to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import shapely

from geohr.encoding import Bools, Floats, Geometries, Ints
from geohr.geobox import Window
from geohr.polygons.attributes import AttributeBuilder
from geohr.polygons.neighbours import OverlapResolver
from geohr.polygons.objects import ClosedObjects, Statistics, concatenated
from geohr.polygons.regularize import Drawings
from geohr.polygons.table import Polygons, from_wkb_arrays, wkb_arrays

# How many times the margin of a drawing objects must be apart to meet in no case: once for each of
# two, and as much again for scales that differ.
APART = 4
# A row below all scenes.
_BELOW = 2**60


@dataclass(frozen=True)
class FixedParts:
    """Parts of settled objects, to which others may have to yield.

    Attributes:
        shapes: `(part,)` polygons.
        first: `(part,)` the first pixel of each one's object.
        bottom: `(part,)` the last row of each one's object.
        end: `(part,)` the last row that each may reach.
    """

    shapes: Geometries
    first: Ints
    bottom: Ints
    end: Ints

    @classmethod
    def none(cls) -> Self:
        """No part."""
        nothing = np.zeros(0, np.int64)
        return cls(np.zeros(0, object), nothing, nothing, nothing)

    def to_arrays(self) -> dict[str, Any]:
        """The fields as named arrays."""
        return {
            **wkb_arrays(self.shapes, "fixed_wkb"),
            "fixed_first": self.first,
            "fixed_bottom": self.bottom,
            "fixed_end": self.end,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Read what `to_arrays` made."""
        return cls(
            from_wkb_arrays(arrays, "fixed_wkb"),
            arrays["fixed_first"],
            arrays["fixed_bottom"],
            arrays["fixed_end"],
        )

    @classmethod
    def concatenated(cls, several: Sequence[FixedParts]) -> Self:
        """Several as one."""
        every: list[FixedParts] = [cls.none(), *several]
        return cls(
            np.concatenate([each.shapes for each in every]),
            np.concatenate([each.first for each in every]),
            np.concatenate([each.bottom for each in every]),
            np.concatenate([each.end for each in every]),
        )


@dataclass(frozen=True)
class WallDrawings:
    """Objects that are drawn, each for itself, before they yield to each other.

    Attributes:
        statistics: The statistics of the objects.
        made: Their drawings.
    """

    statistics: Statistics
    made: Drawings

    @classmethod
    def none(cls) -> Self:
        """No object."""
        nothing = np.zeros(0, np.int64)
        shapes = np.zeros(0, object)
        return cls(Statistics.none(), Drawings(shapes, shapes, nothing, nothing))

    @classmethod
    def of(cls, whole: ClosedObjects, attributes: AttributeBuilder) -> Self:
        """Draw those of the closed objects that are large enough."""
        whole = attributes.large(whole)
        if len(whole) == 0:
            return cls.none()
        made = attributes.regularizer.drawings(attributes.outlines(whole))
        return cls(whole.statistics, made)

    def __len__(self) -> int:
        """The number of objects."""
        return len(self.statistics)

    @property
    def ends(self) -> Ints:
        """`(part,)` the last row that each may reach."""
        return self.statistics.bottom[self.made.owner] + self.made.margin

    def select(self, chosen: Bools) -> WallDrawings:
        """Some of the objects, `(object,)` True for those."""
        parts = np.flatnonzero(chosen[self.made.owner])
        owner = (np.cumsum(chosen) - 1)[self.made.owner[parts]]
        return WallDrawings(self.statistics.take(chosen), self.made.take(parts, owner))

    def to_arrays(self) -> dict[str, Any]:
        """The fields as named arrays."""
        return {
            **self.statistics.to_arrays("waiting_"),
            **wkb_arrays(self.made.drawn, "waiting_drawn"),
            **wkb_arrays(self.made.plain, "waiting_plain"),
            "waiting_owner": self.made.owner,
            "waiting_margin": self.made.margin,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Read what `to_arrays` made."""
        made = Drawings(
            from_wkb_arrays(arrays, "waiting_drawn"),
            from_wkb_arrays(arrays, "waiting_plain"),
            arrays["waiting_owner"],
            arrays["waiting_margin"],
        )
        return cls(Statistics.from_arrays(arrays, "waiting_"), made)

    @classmethod
    def together(cls, several: Sequence[WallDrawings]) -> Self:
        """Several as one, in canonical order."""
        every: list[WallDrawings] = [cls.none(), *several]
        statistics = concatenated([each.statistics for each in every])
        before = np.cumsum([0, *map(len, every)])
        made = [each.made for each in every]
        joined = Drawings(
            np.concatenate([each.drawn for each in made]),
            np.concatenate([each.plain for each in made]),
            np.concatenate([each.owner + by for each, by in zip(made, before, strict=False)]),
            np.concatenate([each.margin for each in made]),
        )
        order = np.lexsort((statistics.first, statistics.bottom))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        parts = np.argsort(rank[joined.owner], kind="stable")
        return cls(statistics.take(order), joined.take(parts, rank[joined.owner[parts]]))


@dataclass(frozen=True)
class SettledWalls:
    """The objects of a rectangle, drawn and cut as far as that can be.

    Attributes:
        polygons: The settled objects.
        statistics: Their statistics.
        waiting: The objects that wait.
        fixed: Parts of the settled ones that these may have to yield to.
    """

    polygons: Polygons
    statistics: Statistics
    waiting: WallDrawings
    fixed: FixedParts

    @classmethod
    def none(cls) -> Self:
        """No object."""
        return cls(Polygons.none(), Statistics.none(), WallDrawings.none(), FixedParts.none())


def settle(
    whole: ClosedObjects, around: Floats, place: Window, attributes: AttributeBuilder
) -> SettledWalls:
    """Draw the closed objects of a rectangle, and cut all but those that must wait.

    They are in canonical order; `around` is `(n, 4)` left, top, right and bottom of its open ones,
    in pixels of the scene.
    """
    walls = WallDrawings.of(whole, attributes)
    if len(walls) == 0:
        return SettledWalls.none()
    made, ends = walls.made, walls.ends
    boxes = _pixel_boxes(made, attributes)
    later, earlier = _pairs(boxes, made.owner)
    waits = _waiting(made, boxes, around, place, attributes, (later, earlier), len(walls))
    parts = np.full(len(made.owner), None, object)
    polygons, statistics = Polygons.none(), Statistics.none()
    kept = walls.select(~waits)
    if len(kept):
        left = OverlapResolver().resolve(
            kept.made.drawn, kept.made.plain, kept.ends, needed_from=_BELOW
        )
        parts[~waits[made.owner]] = left
        polygons, statistics = attributes.measured(kept.made.united(left), kept.statistics, True)
    near = np.unique(earlier[waits[made.owner[later]] & ~waits[made.owner[earlier]]])
    near = near[~shapely.is_missing(parts[near])]
    of = made.owner[near]
    fixed = FixedParts(
        parts[near], walls.statistics.first[of], walls.statistics.bottom[of], ends[near]
    )
    return SettledWalls(polygons, statistics, walls.select(waits), fixed)


def _waiting(
    made: Drawings,
    boxes: Floats,
    around: Floats,
    place: Window,
    attributes: AttributeBuilder,
    pairs: tuple[Ints, Ints],
    count: int,
) -> Bools:
    """`(object,)` whether each may meet what is not known, or a later one that waits itself."""
    margin = APART * int(made.margin.max())
    scene = attributes.geobox
    low_row = place.row + margin if place.row > 0 else -np.inf
    low_col = place.col + margin if place.col > 0 else -np.inf
    high_row = place.row_stop - margin if place.row_stop < scene.height else np.inf
    high_col = place.col_stop - margin if place.col_stop < scene.width else np.inf
    inside = (boxes[:, 0] >= low_col) & (boxes[:, 1] >= low_row)
    inside &= (boxes[:, 2] <= high_col) & (boxes[:, 3] <= high_row)
    near = ~inside
    if len(around):
        tree = shapely.STRtree(shapely.box(*(around + margin * np.array([-1, -1, 1, 1])).T))
        near[np.unique(tree.query(shapely.box(*boxes.T))[0])] = True
    waits = np.zeros(count, np.bool_)
    waits[made.owner[near]] = True
    later, earlier = made.owner[pairs[0]], made.owner[pairs[1]]
    while True:
        more = later[waits[earlier] & ~waits[later]]
        if len(more) == 0:
            return waits
        waits[more] = True


def _pixel_boxes(made: Drawings, attributes: AttributeBuilder) -> Floats:
    """`(part, 4)` left, top, right and bottom in pixels of all that a part may become."""
    one, other = shapely.bounds(made.drawn), shapely.bounds(made.plain)
    west, south = np.minimum(one[:, :2], other[:, :2]).T
    east, north = np.maximum(one[:, 2:], other[:, 2:]).T
    corners = [(x, y) for x in (west, east) for y in (south, north)]
    placed = np.array([attributes.geobox.to_pixels(x, y) for x, y in corners])
    return np.concatenate([placed.min(axis=0), placed.max(axis=0)]).T


def _pairs(boxes: Floats, owner: Ints) -> tuple[Ints, Ints]:
    """Parts of two objects that may come to meet: those of the later ones, and the earlier ones."""
    shapes = shapely.box(*boxes.T)
    later, earlier = shapely.STRtree(shapes).query(shapes)
    apart = owner[earlier] < owner[later]
    return later[apart], earlier[apart]


class WallJoiner:
    """Draws what has waited, and objects that cross edges, from top to bottom."""

    def __init__(self, attributes: AttributeBuilder) -> None:
        self._attributes = attributes
        self._overlaps = OverlapResolver()

    def draw(
        self, whole: ClosedObjects, waiting: WallDrawings, fixed: FixedParts, *, open_from: int
    ) -> tuple[Polygons, Statistics]:
        """Draw and cut the next objects.

        Args:
            whole: Those that are now whole, and not drawn yet.
            waiting: Those that have waited.
            fixed: The settled parts that these may have to yield to.
            open_from: The first row of what is still to come.

        Returns:
            Polygons in canonical order, and their statistics.
        """
        every = WallDrawings.together([WallDrawings.of(whole, self._attributes), waiting])
        if len(every) == 0:
            return Polygons.none(), Statistics.none()
        made, statistics = every.made, every.statistics
        first = np.concatenate([fixed.first, statistics.first[made.owner]])
        bottom = np.concatenate([fixed.bottom, statistics.bottom[made.owner]])
        order = np.lexsort((first, bottom))
        is_fixed = np.arange(len(first)) < len(fixed.shapes)
        rest = self._overlaps.resolve(
            np.concatenate([fixed.shapes, made.drawn])[order],
            np.concatenate([fixed.shapes, made.plain])[order],
            np.concatenate([fixed.end, every.ends])[order],
            needed_from=open_from - int(made.margin.max()),
            fixed=is_fixed[order],
        )
        drawn = rest[~is_fixed[order]]
        return self._attributes.measured(made.united(drawn), statistics, True)
