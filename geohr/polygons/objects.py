"""Objects, open and closed: what is counted over their pixels, and the rings that they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from geohr.encoding import Bools, Bytes, Ints
from geohr.polygons.rings import RaggedArray, gather, join, place, signed_area
from geohr.polygons.runs import Runs, Step

# The first pixel of an object that has no pixel yet.
NOWHERE = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Statistics:
    """The statistics of objects, one row per object."""

    label: Bytes
    """The class id."""
    first: Ints
    """The first pixel in raster order, as row * width + column of the scene."""
    bottom: Ints
    """The last row."""
    pixels: Ints
    score_sum: Ints
    """The sum of the probabilities of the class over the pixels, in 1/254."""
    at_nodata: Bools
    """Whether a pixel of the object shares a side with nodata or the edge of the scene."""

    @classmethod
    def none(cls) -> Statistics:
        """An empty table."""
        whole, small = np.zeros(0, np.int64), np.zeros(0, np.uint8)
        return cls(small, whole, whole, whole, whole, np.zeros(0, np.bool_))

    def __len__(self) -> int:
        """The number of objects."""
        return len(self.label)

    def take(self, objects: Ints | Bools | slice) -> Statistics:
        """The given objects, in the given order."""
        return Statistics(
            self.label[objects],
            self.first[objects],
            self.bottom[objects],
            self.pixels[objects],
            self.score_sum[objects],
            self.at_nodata[objects],
        )

    def to_arrays(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        """The columns as arrays, with a prefix before each name."""
        return {prefix + each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> Self:
        """Read what `to_arrays` made."""
        return cls(*(arrays[prefix + each.name] for each in fields(cls)))


def concatenated(parts: Sequence[Statistics]) -> Statistics:
    """Concatenate tables in order."""
    columns = [[getattr(part, each.name) for part in parts] for each in fields(Statistics)]
    return Statistics(*map(np.concatenate, columns)) if parts else Statistics.none()


def run_scores(runs: Runs, probabilities: Bytes) -> Ints:
    """`(run,)` the sum of the own class's probability over each run; 0 for the carried row.

    Args:
        runs: Runs of the frame; row 0 is the carried row, already counted.
        probabilities: `(class, row, col)` of the frame's rows from 1 on.
    """
    classes, _, width = probabilities.shape
    total = np.zeros(len(runs.start), np.int64)
    for channel in range(classes):
        own = np.flatnonzero((runs.label == channel + 1) & (runs.row > 0))
        if len(own) == 0:
            continue
        # From vertices (row of the frame, width + 1 a row) to pixels of the probabilities.
        back = runs.row[own] + width
        spans = np.stack([runs.start[own] - back, runs.stop[own] - back], axis=1).reshape(-1)
        flat = probabilities[channel].reshape(-1)
        if spans[-1] == len(flat):
            spans = spans[:-1]
        total[own] = np.add.reduceat(flat, spans, dtype=np.uint32)[::2]
    return total


def of_runs(runs: Runs, *, scores: Ints, at_nodata: Bools, top: int, width: int) -> Statistics:
    """What each run of a frame adds to its object.

    Args:
        runs: The frame's runs; those of row 0, the carried row, have been counted.
        scores: `(run,)` the sum of probabilities that each adds.
        at_nodata: `(run,)` whether it lies beside a pixel without data.
        top: The scene's row that is row 0 of the frame.
        width: Columns of the scene.
    """
    fresh = runs.row > 0
    return Statistics(
        label=runs.label,
        first=np.where(fresh, runs.start - runs.row + top * width, NOWHERE),
        bottom=runs.row + top,
        pixels=np.where(fresh, runs.stop - runs.start, 0),
        score_sum=scores,
        at_nodata=at_nodata,
    )


def combine(step: Step, new: Statistics, old: Statistics) -> Statistics:
    """Merge the statistics of all nodes and open objects that a step joins.

    Args:
        step: Which objects are one.
        new: The statistics of the step's nodes.
        old: The statistics of the objects that were open before.
    """
    label = np.zeros(step.count, np.uint8)
    first = np.full(step.count, NOWHERE)
    bottom = np.full(step.count, -1)
    beside = np.zeros(step.count, np.bool_)
    for of_each, each in ((step.of_old, old), (step.of_run, new)):
        label[of_each] = each.label
        np.minimum.at(first, of_each, each.first)
        np.maximum.at(bottom, of_each, each.bottom)
        beside[of_each[each.at_nodata]] = True
    pixels = _add(step, new.pixels, old.pixels)
    score_sum = _add(step, new.score_sum, old.score_sum)
    return Statistics(label, first, bottom, pixels, score_sum, beside)


def _add(step: Step, new: Ints, old: Ints) -> Ints:
    """Totals by object. The sums stay below 2**53, so that counting in floats is exact."""
    total = np.bincount(step.of_run, weights=new, minlength=step.count)
    return (total + np.bincount(step.of_old, weights=old, minlength=step.count)).astype(np.int64)


@dataclass(frozen=True)
class ClosedObjects:
    """Objects to which nothing can be added, in canonical order: by last row, then first pixel."""

    shapes: RaggedArray
    """Items of rings, the exterior first; ring starts are marked."""
    owner: Ints
    """The object of each item, `(item,)`, ascending."""
    statistics: Statistics
    """The statistics of the objects."""

    @classmethod
    def ordered(cls, shapes: RaggedArray, owner: Ints, statistics: Statistics) -> Self:
        """Put the objects that own an item into canonical order.

        Args:
            shapes: Items of rings, the exterior first; ring starts are marked.
            owner: `(item,)` the object of each.
            statistics: The statistics of all objects.
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
        """The number of objects."""
        return len(self.statistics)

    def take(self, objects: slice) -> ClosedObjects:
        """A slice of the objects."""
        start, stop, _ = objects.indices(len(self))
        items = np.arange(*np.searchsorted(self.owner, [start, stop]))
        return ClosedObjects(
            self.shapes.take(items), self.owner[items] - start, self.statistics.take(objects)
        )

    def select(self, chosen: Bools) -> ClosedObjects:
        """Some of the objects, `(object,)` True for those."""
        items = np.flatnonzero(chosen[self.owner])
        owner = (np.cumsum(chosen) - 1)[self.owner[items]]
        return ClosedObjects(self.shapes.take(items), owner, self.statistics.take(chosen))

    def to_arrays(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        """The fields as named arrays, with a prefix before each name."""
        return {
            **self.statistics.to_arrays(prefix),
            f"{prefix}flat": self.shapes.flat,
            f"{prefix}offsets": self.shapes.offsets,
            f"{prefix}owner": self.owner,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> Self:
        """Read what `to_arrays` made."""
        shapes = RaggedArray(arrays[f"{prefix}flat"], arrays[f"{prefix}offsets"])
        statistics = Statistics.from_arrays(arrays, prefix)
        return cls(shapes, arrays[f"{prefix}owner"], statistics)


class VertexQueue:
    """Lists of vertices whose owner is still open."""

    def __init__(self) -> None:
        self._chunks: list[tuple[RaggedArray, Ints]] = []

    def add(self, items: RaggedArray, owner: Ints) -> None:
        """Hold items for their owners."""
        if len(items):
            self._chunks.append((items, owner))

    def renumber(self, of_old: Ints) -> None:
        """Owners have new numbers; what was taken keeps -1."""
        lookup = np.append(of_old, -1)
        self._chunks = [(items, lookup[owner]) for items, owner in self._chunks]

    def take(self, closed: Bools) -> tuple[RaggedArray, Ints]:
        """Remove and return the items of closed owners, and their owners.

        A chunk is copied only when half of it is gone, so that each item is moved a bounded number
        of times however long its owner stays open.
        """
        lookup = np.append(closed, False)
        taken: list[RaggedArray] = []
        owners: list[Ints] = []
        kept: list[tuple[RaggedArray, Ints]] = []
        for items, owner in self._chunks:
            going = lookup[owner]
            if not going.any():
                kept.append((items, owner))
                continue
            taken.append(items.take(np.flatnonzero(going)))
            owners.append(owner[going])
            left = np.where(going, -1, owner)
            stay = np.flatnonzero(left >= 0)
            if 2 * len(stay) > len(left):
                kept.append((items, left))
            elif len(stay):
                kept.append((items.take(stay), left[stay]))
        self._chunks = _merge_small(kept)
        return join(taken), np.concatenate([*owners, np.zeros(0, np.int64)])


def _merge_small(chunks: list[tuple[RaggedArray, Ints]]) -> list[tuple[RaggedArray, Ints]]:
    """Join the newest chunks while they are no larger than their successor, as a binary counter."""
    merged: list[tuple[RaggedArray, Ints]] = []
    for chunk in chunks:
        merged.append(chunk)
        while len(merged) > 1 and len(merged[-2][1]) <= 2 * len(merged[-1][1]):
            items, owner = zip(*merged[-2:], strict=True)
            merged[-2:] = [(join(list(items)), np.concatenate(owner))]
    return merged


@dataclass
class OpenObjects:
    """The state of objects that are still open.

    Attributes:
        statistics: The statistics of the objects.
        rings: Closed rings of their parts; pixels that share sides form a part.
        shapes: Closed parts, if parts that touch at corners form one object.
    """

    statistics: Statistics = field(default_factory=Statistics.none)
    rings: VertexQueue = field(default_factory=VertexQueue)
    shapes: VertexQueue = field(default_factory=VertexQueue)

    def take(
        self,
        rings: tuple[RaggedArray, Ints],
        statistics: Statistics,
        *,
        part: Step,
        group: Step | None,
        group_of_node: Ints,
        shapes: tuple[RaggedArray, Ints] | None = None,
    ) -> ClosedObjects:
        """Add what a step has found, and hand out the objects that it closes.

        Args:
            rings: Canonical rings, and for each the part.
            statistics: The statistics of the nodes of `group`, or of `part` if there is none.
            part: The step of the parts.
            group: The step of the objects if these may have several parts, else None.
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
        """The first pixel of all open objects."""
        return int(self.statistics.first.min(initial=NOWHERE))

    def _closed_parts(
        self, rings: RaggedArray, part_of_ring: Ints, part: Step
    ) -> tuple[RaggedArray, Ints]:
        """The parts that close, one item each, and their numbers."""
        self.rings.renumber(part.of_old)
        self.rings.add(rings, part_of_ring)
        whole, owner = self.rings.take(~part.open)
        closed = np.flatnonzero(~part.open)
        rank = np.cumsum(~part.open) - 1
        shapes = gather(whole, rank[owner], signed_area(whole) < 0, len(closed))
        self.rings.renumber(np.where(part.open, part.renumber, -1))
        return shapes, closed


def together(wholes: list[ClosedObjects]) -> ClosedObjects:
    """Merge closed objects, in canonical order."""
    before = np.cumsum([0, *(len(each.statistics) for each in wholes)])
    owners = [each.owner + start for each, start in zip(wholes, before, strict=False)]
    return ClosedObjects.ordered(
        join([each.shapes for each in wholes]),
        np.concatenate([np.zeros(0, np.int64), *owners]),
        concatenated([each.statistics for each in wholes]),
    )
