"""What the strips of a scene's rows leave open at their edges, and how it is joined.

A fragment knows its neighbours only by runs: those of the row above its strip's first row, and
those of its own last row, which are the runs above the fragment that follows. An outline comes down
into a strip at the start of a run and goes up out of it at a run's end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np

from geohr.encoding import Bools, Floats, Ints
from geohr.polygons.frames import Frames
from geohr.polygons.objects import ClosedObjects, OpenObjects
from geohr.polygons.open_outlines import OpenOutlines
from geohr.polygons.rings import Chains, Links, Open, RaggedArray, canonical, join, split_touching
from geohr.polygons.runs import Runs, Step, connected


@dataclass(frozen=True)
class Fragment(OpenOutlines):
    """The objects that cross the upper or lower edge of a strip.

    Strands begin and end at runs; those of the row above are numbered first.
    """

    group_of_part: Ints
    """The object of each part, `(part,)`."""
    above: Ints
    """The part of each run of the row above, `(run,)`."""
    below: Ints
    """The part of each run of the last row, `(run,)`."""

    def boxes(self, rows: tuple[int, int], above: Runs, below: Runs) -> Floats:
        """The boxes of all that is open; see `OpenOutlines.boxes_between`.

        Args:
            rows: The row above the strip's first row, and its last row.
            above: The runs of the row above the strip.
            below: The runs of its last row.
        """
        counts = len(above.start), len(below.start)
        row, upper = np.repeat(rows, counts), np.repeat([True, False], counts)
        start = np.concatenate([above.start, below.start])
        stop = np.concatenate([above.stop, below.stop])
        # Outlines come down at the start of a run and go up at its end.
        came, went = np.where(upper, start, stop), np.where(upper, stop, start)
        return self.boxes_between(
            (row[self.begin], came[self.begin]), (row[self.end], went[self.end])
        )

    def select(self, objects: Bools) -> Fragment:
        """Some of the objects, `(object,)` True for those."""
        part = objects[self.group_of_part]
        number, group = np.cumsum(part) - 1, np.cumsum(objects) - 1
        run_part = np.concatenate([self.above, self.below])
        run = part[run_part]
        run_number = np.cumsum(run) - 1
        strand = np.flatnonzero(run[self.begin])
        rings, shapes = part[self.rings[1]], objects[self.shapes[1]]
        return Fragment(
            statistics=self.statistics.take(objects),
            group_of_part=group[self.group_of_part[part]],
            above=number[self.above[part[self.above]]],
            below=number[self.below[part[self.below]]],
            rings=(self.rings[0].take(np.flatnonzero(rings)), number[self.rings[1][rings]]),
            shapes=(self.shapes[0].take(np.flatnonzero(shapes)), group[self.shapes[1][shapes]]),
            strands=self.strands.take(strand),
            begin=run_number[self.begin[strand]],
            end=run_number[self.end[strand]],
        )

    @classmethod
    def of(cls, frames: Frames) -> Self:
        """The fragment that frames leave open after all their rows."""
        parts, groups = frames.parts, frames.groups or frames.parts
        objects = frames.objects
        count = max(parts.above.max(initial=-1), parts.below.max(initial=-1)) + 1
        group_of_part = np.zeros(count, np.int64)
        group_of_part[parts.above] = groups.above
        group_of_part[parts.below] = groups.below
        strands = list(_strands(frames))
        return cls(
            statistics=objects.statistics,
            group_of_part=group_of_part,
            above=parts.above,
            below=parts.below,
            rings=objects.rings.take(np.ones(count, np.bool_)),
            shapes=objects.shapes.take(np.ones(len(objects.statistics), np.bool_)),
            strands=join([RaggedArray(each, np.array([0, len(each)])) for _, _, each in strands]),
            begin=np.array([begin for begin, _, _ in strands], np.int64),
            end=np.array([end for _, end, _ in strands], np.int64),
        )


class Joiner:
    """Joins the fragments of a scene, from top to bottom; `eight` joins by corners, too."""

    def __init__(self, *, eight: bool) -> None:
        self._eight = eight
        self._objects = OpenObjects()
        self._part_of_run = np.zeros(0, np.int64)
        self._group_of_part = np.zeros(0, np.int64)
        self._outlines: list[Open] = []

    @property
    def first(self) -> int:
        """The first pixel of all open objects."""
        return self._objects.first

    def add(self, fragment: Fragment) -> ClosedObjects:
        """Join the next fragment; the objects that close with it, of those that were open above."""
        part = _step(
            (len(fragment.group_of_part), fragment.above, fragment.below),
            (len(self._group_of_part), self._part_of_run),
        )
        group = None
        if self._eight:
            of_part = fragment.group_of_part
            group = _step(
                (len(fragment.statistics), of_part[fragment.above], of_part[fragment.below]),
                (len(self._objects.statistics), self._group_of_part[self._part_of_run]),
            )
        objects = group or part
        group_of_node = objects.of_run[fragment.group_of_part]
        closed, strand = self._link(fragment)
        simple, origin = split_touching(closed)
        part_of_ring = part.of_run[fragment.above[fragment.begin[strand]]][origin]
        known, known_part = fragment.rings
        shapes, shape_group = fragment.shapes
        whole = self._objects.take(
            (
                join([canonical(simple), known]),
                np.concatenate([part_of_ring, part.of_run[known_part]]),
            ),
            fragment.statistics,
            part=part,
            group=group,
            group_of_node=group_of_node,
            shapes=(shapes, objects.of_run[shape_group]),
        )
        below = part.renumber[part.of_run[fragment.below]]
        self._part_of_run = below
        self._group_of_part = np.zeros(int(part.open.sum()), np.int64)
        self._group_of_part[below] = objects.renumber[group_of_node[fragment.below]]
        return whole

    def _link(self, fragment: Fragment) -> tuple[RaggedArray, Ints]:
        """Rings that close where the fragment meets what is above, and a strand of each."""
        above, strands = len(fragment.above), len(fragment.begin)
        came = np.array([each.column_in for each in self._outlines], np.int64)
        went = np.array([each.column_out for each in self._outlines], np.int64)
        outline_at, strand_at = np.empty(above, np.int64), np.empty(above, np.int64)
        outline_at[came] = strands + np.arange(len(came))
        down = np.flatnonzero(fragment.begin < above)
        strand_at[fragment.begin[down]] = down
        up = np.flatnonzero(fragment.end < above)
        successor = np.full(strands + len(came), -1)
        successor[up] = outline_at[fragment.end[up]]
        successor[strands:] = strand_at[went]
        flat, ends = fragment.strands.flat, fragment.strands.offsets.tolist()
        pieces = [Open(0, 0, [flat[start:stop]]) for start, stop in pairwise(ends)]
        chains = Chains([*pieces, *self._outlines])
        links = Links(
            np.zeros((0, 1), np.int64),
            successor,
            np.concatenate([fragment.begin, came]) - above,
            np.concatenate([fragment.end, went]) - above,
        )
        closed = chains.link(links)
        self._outlines = chains.open
        return closed


def closed_between(upper: Fragment, lower: Fragment, *, eight: bool) -> ClosedObjects:
    """The objects that cross the edge between two strips, and end within the two.

    Objects are joined by corners, too, if `eight`.
    """
    count = len(upper.statistics)
    root = connected(
        count + len(lower.statistics),
        upper.group_of_part[upper.below],
        count + lower.group_of_part[lower.above],
    )
    goes_on = np.zeros(len(root), np.bool_)
    goes_on[root[upper.group_of_part[upper.above]]] = True
    goes_on[root[count + lower.group_of_part[lower.below]]] = True
    ends = ~goes_on[root]
    joiner = Joiner(eight=eight)
    joiner.add(upper.select(ends[:count]))
    return joiner.add(lower.select(ends[count:]))


def _step(new: tuple[int, Ints, Ints], old: tuple[int, Ints]) -> Step:
    """Join the components of a fragment to the open ones above it.

    Args:
        new: The number of components in the fragment, and those of the runs above and below.
        old: The number of open components, and those of the same runs above the fragment.
    """
    count, above, below = new
    root = connected(count + old[0], above, count + old[1])
    is_root = root == np.arange(len(root))
    number = (np.cumsum(is_root) - 1)[root]
    still_open = np.zeros(int(is_root.sum()), np.bool_)
    still_open[number[below]] = True
    return Step(len(still_open), number[:count], number[count:], still_open)


def _strands(frames: Frames) -> Iterator[tuple[int, int, Ints]]:
    """The pieces of open outlines: the runs where each begins and ends, and its vertices."""
    above, last = len(frames.parts.above), frames.carried_runs()
    for chains in frames.chains.values():
        for outline in chains.open:
            came = above + int(np.searchsorted(last.stop, outline.column_in))
            went = above + int(np.searchsorted(last.start, outline.column_out))
            yield from _between_marks(np.concatenate(outline.parts), came, went)
        for ring in chains.marked:
            turned = np.roll(ring, -int(np.flatnonzero(ring < 0)[0]))
            mark = int(~turned[0])
            yield from _between_marks(turned[1:], mark, mark)


def _between_marks(path: Ints, came: int, went: int) -> Iterator[tuple[int, int, Ints]]:
    """Cut one path at its marks; see `_strands`."""
    places = np.flatnonzero(path < 0)
    marks = (~path[places]).tolist()
    starts, stops = [0, *(places + 1)], [*places, len(path)]
    for begin, end, start, stop in zip([came, *marks], [*marks, went], starts, stops, strict=True):
        yield begin, end, path[start:stop]
