"""Walls near the edges of a rectangle: what can be drawn there, and what must wait for the rest.

Of two drawings that overlap, the later one yields. A rectangle knows the objects inside of it, and
not those beyond its edge, nor those that cross it. So an object waits that may come to meet one of
those, and each later one that may come to meet an object that waits. All others are settled. What
waits is drawn when the rectangles are joined, among those settled parts that it may have to yield
to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import shapely

from geohr.encoding import Bools, Floats, Geometries, Ints
from geohr.geobox import GeoBox, Window
from geohr.polygons.attributes import AttributeBuilder
from geohr.polygons.neighbours import OverlapResolver
from geohr.polygons.objects import ClosedObjects
from geohr.polygons.patches import Patch
from geohr.polygons.regularize import Drawings
from geohr.polygons.rings import SUBPIXEL, RaggedArray, unpack
from geohr.polygons.table import Polygons

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
        written = [bytes(each) for each in shapely.to_wkb(self.shapes)]
        return {
            "fixed_wkb": np.frombuffer(b"".join(written), np.uint8),
            "fixed_sizes": np.array([len(each) for each in written], np.int64),
            "fixed_first": self.first,
            "fixed_bottom": self.bottom,
            "fixed_end": self.end,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Read what `to_arrays` made."""
        written, stops = arrays["fixed_wkb"].tobytes(), np.cumsum(arrays["fixed_sizes"]).tolist()
        pieces = [written[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]
        shapes = np.asarray(shapely.from_wkb(np.array(pieces, object)), object)
        return cls(shapes, arrays["fixed_first"], arrays["fixed_bottom"], arrays["fixed_end"])

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
class SettledWalls:
    """The objects of a rectangle, drawn as far as that can be.

    Attributes:
        polygons: The settled objects.
        waiting: The objects that wait.
        fixed: Parts of the settled ones that these may have to yield to.
    """

    polygons: Polygons
    waiting: ClosedObjects
    fixed: FixedParts


def settle(
    whole: ClosedObjects, rest: Patch, place: Window, attributes: AttributeBuilder
) -> SettledWalls:
    """Draw the objects of a rectangle, but for those that must wait.

    Args:
        whole: All closed objects of the rectangle, in canonical order.
        rest: Its open objects.
        place: The rectangle in the scene.
        attributes: Of the scene, with walls.
    """
    whole = attributes.large(whole)
    if len(whole) == 0:
        return SettledWalls(Polygons.none(), whole, FixedParts.none())
    made = attributes.regularizer.drawings(attributes.outlines(whole))
    boxes = _pixel_boxes(made, attributes)
    later, earlier = _pairs(boxes, made.owner)
    waits = _waiting(made, boxes, rest, place, attributes, (later, earlier), len(whole))
    settled = np.flatnonzero(~waits[made.owner])
    number = np.cumsum(~waits) - 1
    kept = Drawings(
        made.drawn[settled], made.plain[settled], number[made.owner[settled]], made.margin[settled]
    )
    statistics = whole.statistics
    ends = statistics.bottom[made.owner] + made.margin
    polygons, parts = Polygons.none(), np.full(len(made.owner), None, object)
    if len(settled):
        left = OverlapResolver().resolve(kept.drawn, kept.plain, ends[settled], needed_from=_BELOW)
        parts[settled] = left
        polygons, _ = attributes.measured(kept.united(left), statistics.take(~waits), True)
    near = np.unique(earlier[waits[made.owner[later]] & ~waits[made.owner[earlier]]])
    near = near[~shapely.is_missing(parts[near])]
    of = made.owner[near]
    fixed = FixedParts(parts[near], statistics.first[of], statistics.bottom[of], ends[near])
    return SettledWalls(polygons, whole.select(waits), fixed)


def _waiting(
    made: Drawings,
    boxes: Floats,
    rest: Patch,
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
    outlines = [_boxes_of(rest.rings[0]), _boxes_of(rest.shapes[0]), _strand_boxes(rest, scene)]
    around = np.concatenate(outlines) + np.array([-margin, -margin, margin, margin])
    if len(around):
        tree = shapely.STRtree(shapely.box(*around.T))
        near[np.unique(tree.query(shapely.box(*boxes.T))[0])] = True
    waits = np.zeros(count, np.bool_)
    waits[made.owner[near]] = True
    later, earlier = made.owner[pairs[0]], made.owner[pairs[1]]
    while True:
        more = later[waits[earlier] & ~waits[later]]
        if len(more) == 0:
            return waits
        waits[more] = True


def _boxes_of(items: RaggedArray) -> Floats:
    """`(item, 4)` left, top, right, bottom of vertices in pixels; infinite where there is none."""
    boxes = np.tile([np.inf, np.inf, -np.inf, -np.inf], (len(items), 1))
    filled = np.flatnonzero(items.lengths)
    if len(filled):
        y, x = unpack(items.flat)
        starts = items.offsets[:-1][filled]
        for column, each in enumerate((x, y)):
            boxes[filled, column] = np.minimum.reduceat(each, starts) / SUBPIXEL
            boxes[filled, column + 2] = np.maximum.reduceat(each, starts) / SUBPIXEL
    return boxes


def _strand_boxes(rest: Patch, scene: GeoBox) -> Floats:
    """Likewise for strands, which go straight from their ends to their vertices."""
    boxes = _boxes_of(rest.strands)
    for number in (rest.begin, rest.end):
        row, col = np.divmod(number // 4, scene.width + 1)
        boxes[:, :2] = np.minimum(boxes[:, :2], np.stack([col, row], axis=1) - 1)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], np.stack([col, row], axis=1) + 1)
    return boxes


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
    """Draws what has waited, and objects that cross edges, from top to bottom.

    Args:
        attributes: Of the scene, with walls.
    """

    def __init__(self, attributes: AttributeBuilder) -> None:
        self._attributes = attributes
        self._overlaps = OverlapResolver()

    def draw(self, whole: ClosedObjects, fixed: FixedParts, *, open_from: int) -> Polygons:
        """Draw the next objects.

        Args:
            whole: Those that are now whole, in canonical order.
            fixed: The settled parts that these may have to yield to.
            open_from: The first row of what is still to come.
        """
        whole = self._attributes.large(whole)
        if len(whole) == 0:
            return Polygons.none()
        statistics = whole.statistics
        made = self._attributes.regularizer.drawings(self._attributes.outlines(whole))
        ends = statistics.bottom[made.owner] + made.margin
        first = np.concatenate([fixed.first, statistics.first[made.owner]])
        bottom = np.concatenate([fixed.bottom, statistics.bottom[made.owner]])
        order = np.lexsort((first, bottom))
        is_fixed = np.arange(len(first)) < len(fixed.shapes)
        rest = self._overlaps.resolve(
            np.concatenate([fixed.shapes, made.drawn])[order],
            np.concatenate([fixed.shapes, made.plain])[order],
            np.concatenate([fixed.end, ends])[order],
            needed_from=open_from - int(made.margin.max()),
            fixed=is_fixed[order],
        )
        drawn = rest[~is_fixed[order]]
        polygons, _ = self._attributes.measured(made.united(drawn), statistics, True)
        return polygons
