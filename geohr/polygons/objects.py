"""Objects that are still open, and those that have become whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from geohr.encoding import Ints
from geohr.polygons.components import Step
from geohr.polygons.rings import gather, signed_area
from geohr.polygons.statistics import NOWHERE, Statistics, combine, concatenated
from geohr.polygons.vertices import Ragged, VertexQueue, join, place


@dataclass(frozen=True)
class ClosedObjects:
    """Objects to which nothing can be added, in canonical order: by last row, then first pixel."""

    shapes: Ragged
    """Items of rings, the exterior first; ring starts are marked."""
    owner: Ints
    """`(item,)` the object of each, ascending."""
    statistics: Statistics
    """Of the objects."""

    @classmethod
    def ordered(cls, shapes: Ragged, owner: Ints, statistics: Statistics) -> Self:
        """Those of the objects that own an item.

        Args:
            shapes: As above.
            owner: `(item,)` the object of each.
            statistics: Of all objects.
        """
        closed = np.unique(owner)
        order = closed[np.lexsort((statistics.first[closed], statistics.bottom[closed]))]
        rank = np.zeros(len(statistics), np.int64)
        rank[order] = np.arange(len(order))
        if len(shapes):
            arranged = np.lexsort((place(shapes.flat[shapes.offsets[:-1]]), rank[owner]))
            shapes, owner = shapes.take(arranged), owner[arranged]
        return cls(shapes, rank[owner], statistics.take(order))

    def __len__(self) -> int:
        """How many objects there are."""
        return len(self.statistics)

    def take(self, objects: slice) -> ClosedObjects:
        """Some that follow one another."""
        start, stop, _ = objects.indices(len(self))
        items = np.arange(*np.searchsorted(self.owner, [start, stop]))
        return ClosedObjects(
            self.shapes.take(items), self.owner[items] - start, self.statistics.take(objects)
        )


@dataclass
class OpenObjects:
    """What is held of objects that are still open.

    Attributes:
        statistics: Of each.
        rings: Closed rings of their parts. A part is what sides join.
        shapes: Their closed parts, where corners join parts too.
    """

    statistics: Statistics = field(default_factory=Statistics.none)
    rings: VertexQueue = field(default_factory=VertexQueue)
    shapes: VertexQueue = field(default_factory=VertexQueue)

    def take(
        self,
        rings: tuple[Ragged, Ints],
        statistics: Statistics,
        *,
        part: Step,
        group: Step | None,
        group_of_node: Ints,
        shapes: tuple[Ragged, Ints] | None = None,
    ) -> ClosedObjects:
        """Add what a step has found, and hand out the objects that it closes.

        Args:
            rings: Canonical rings, and for each the part.
            statistics: Of the nodes of `group`, or of `part` without it.
            part: What became of parts.
            group: What became of objects where these have several parts, else None.
            group_of_node: `(node of part,)` the object of each; read with `group`.
            shapes: Parts that were closed before, and for each the object; read with `group`.
        """
        objects = group or part
        total = combine(objects, statistics, self.statistics)
        self.statistics = total.take(objects.open)
        closed, owner = self._closed_parts(*rings, part)
        if group is not None:
            group_of_part = np.zeros(part.count, np.int64)
            group_of_part[part.of_run] = group_of_node
            self.shapes.renumber(group.of_old)
            self.shapes.add(closed, group_of_part[owner])
            if shapes is not None:
                self.shapes.add(*shapes)
            closed, owner = self.shapes.take(~group.open)
            self.shapes.renumber(np.where(group.open, group.renumber, -1))
        return ClosedObjects.ordered(closed, owner, total)

    @property
    def first(self) -> int:
        """The first pixel of all."""
        return int(self.statistics.first.min(initial=NOWHERE))

    def _closed_parts(self, rings: Ragged, part_of_ring: Ints, part: Step) -> tuple[Ragged, Ints]:
        """One item a part that closes, and the part."""
        self.rings.renumber(part.of_old)
        self.rings.add(rings, part_of_ring)
        whole, owner = self.rings.take(~part.open)
        closed = np.flatnonzero(~part.open)
        rank = np.cumsum(~part.open) - 1
        shapes = gather(whole, rank[owner], signed_area(whole) < 0, len(closed))
        self.rings.renumber(np.where(part.open, part.renumber, -1))
        return shapes, closed


def together(wholes: list[ClosedObjects]) -> ClosedObjects:
    """All of several, in canonical order."""
    before = np.cumsum([0, *(len(each.statistics) for each in wholes)])
    owners = [each.owner + start for each, start in zip(wholes, before, strict=False)]
    return ClosedObjects.ordered(
        join([each.shapes for each in wholes]),
        np.concatenate([np.zeros(0, np.int64), *owners]),
        concatenated([each.statistics for each in wholes]),
    )
