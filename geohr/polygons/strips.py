"""Strips of a scene's rows traced apart, and joined from top to bottom.

    for each strip:  traced = trace_strip(chunks, start, stop, tracing)     # anywhere
    joiner = StripJoiner(tracing);  joiner.add(traced)                           # top to bottom

What comes out are the polygons that `Tracer` makes of all rows, bit for bit.

What a strip leaves open is its fragment. It knows its neighbours only by runs: those of the row
above its first row, and those of its own last row, which are the runs above the fragment that
follows. An outline comes down into a strip at the start of a run and goes up out of it at a run's
end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np

from geohr.encoding import Bytes, Floats, Ints
from geohr.geobox import Window
from geohr.polygons.borders import DrawnWalls, FixedParts, SettledWalls, WallJoiner, settle
from geohr.polygons.frames import Above, Frames
from geohr.polygons.objects import ClosedObjects, OpenObjects, Statistics, concatenated, together
from geohr.polygons.open_outlines import OpenOutlines
from geohr.polygons.rings import Chains, Links, Open, RaggedArray, canonical, join, split_touching
from geohr.polygons.runs import Runs, Step, connected
from geohr.polygons.table import Polygons, concatenate, from_arrays, to_arrays
from geohr.polygons.tracer import TraceSettings
from geohr.polygons.watershed import SQUARE


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
    """Joins the fragments of a scene, from top to bottom.

    Args:
        eight: Whether objects are joined by corners, too.
    """

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
        """Join the next fragment.

        Returns:
            The objects that close with it, of those that were open above.
        """
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


# Class ids `(row, col)` and probabilities `(class, row, col)` of some rows.
ClassRows = tuple[Bytes, Bytes]


@dataclass(frozen=True)
class StripPolygons:
    """The result of tracing a strip.

    Attributes:
        stop: The row after the last row of the strip.
        fragment: The objects that cross the edges of the strip.
        polygons: The finished objects inside the strip.
        statistics: The statistics of the polygons.
        waiting: Drawn objects inside the strip that may have to yield to those beyond its edges.
        fixed: Parts of finished objects that these may have to yield to.
    """

    stop: int
    fragment: Fragment
    polygons: Polygons
    statistics: Statistics
    waiting: DrawnWalls
    fixed: FixedParts

    def to_arrays(self) -> dict[str, Any]:
        """The fields as named arrays."""
        return {
            "stop": np.array(self.stop),
            **self.fragment.to_arrays(),
            **to_arrays(self.polygons),
            **self.statistics.to_arrays("done_"),
            **self.waiting.to_arrays(),
            **self.fixed.to_arrays(),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Read what `to_arrays` made."""
        return cls(
            int(arrays["stop"].item()),
            Fragment.from_arrays(arrays),
            from_arrays(arrays),
            Statistics.from_arrays(arrays, "done_"),
            DrawnWalls.from_arrays(arrays),
            FixedParts.from_arrays(arrays),
        )


def trace_strip(
    chunks: Iterable[ClassRows], start: int, stop: int, tracing: TraceSettings
) -> StripPolygons:
    """Trace the rows `[start, stop)` of a scene.

    Args:
        chunks: The rows that `tracing.reach` names, from top to bottom.
        start: First row, a multiple of `geohr.polygons.watershed.SQUARE`.
        stop: The row after the last.
        tracing: The settings of tracing.

    Raises:
        InputError: When metres are asked for and there is no CRS.
    """
    attributes = tracing.attributes()
    finished: list[tuple[Polygons, Statistics]] = []
    closed: list[ClosedObjects] = []

    def keep(wholes: Iterable[ClosedObjects]) -> None:
        for whole in wholes:
            if tracing.options.regularize:
                closed.append(whole)
            else:
                finished.append(attributes.polygons(whole, has_scores=True, open_from=0))

    frames = tracing.frames() if start == 0 else None
    above = None if frames is None else frames.carried_runs()
    for first, classes, scores in _placed(chunks, start, stop, tracing):
        last_above = start - 1 - first
        if 0 <= last_above < len(classes):
            frames = tracing.frames(Above(start - 1, classes[last_above], scores[:, last_above]))
            above = frames.carried_runs()
        rows = slice(max(0, start - first), max(0, stop - first))
        if frames is not None:
            keep(frames.push(classes[rows], scores[:, rows]))
    assert frames is not None
    assert above is not None
    keep(_rest(frames, last=stop == tracing.geobox.height))
    fragment, walls = Fragment.of(frames), SettledWalls.none()
    if tracing.options.regularize:
        around = fragment.boxes((start - 1, stop - 1), above, frames.carried_runs())
        place = Window(start, 0, stop - start, tracing.geobox.width)
        walls = settle(together(closed), around, place, attributes)
        finished.append((walls.polygons, walls.statistics))
    return StripPolygons(
        stop,
        fragment,
        concatenate([polygons for polygons, _ in finished]),
        concatenated([statistics for _, statistics in finished]),
        walls.waiting,
        walls.fixed,
    )


def _rest(frames: Frames, *, last: bool) -> Iterator[ClosedObjects]:
    """The objects that a band's last rows complete."""
    if last:
        yield frames.finish()
    elif frames.waiting:
        yield frames.step(last=False)


def _placed(
    chunks: Iterable[ClassRows], start: int, stop: int, tracing: TraceSettings
) -> Iterator[tuple[int, Bytes, Bytes]]:
    """Chunks with their first rows, of which touching objects are parted."""
    row, end = tracing.reach(start, stop)
    splitter = tracing.splitter(max(0, start - SQUARE))
    if splitter is None:
        for classes, scores in chunks:
            yield row, classes, scores
            row += len(classes)
        return
    row = max(0, start - SQUARE)
    for chunk in chunks:
        parted = splitter.push(*chunk)
        yield row, *parted
        row += len(parted[0])
    if end == tracing.geobox.height:
        yield row, *splitter.finish()


class StripJoiner:
    """Joins the traced strips of a scene, given from top to bottom, into its polygons.

    Args:
        tracing: The settings with which the strips were traced.
    """

    def __init__(self, tracing: TraceSettings) -> None:
        self._attributes = tracing.attributes()
        self._width = tracing.geobox.width
        self._joiner = Joiner(eight=tracing.options.connectivity == 8)
        self._walls = WallJoiner(self._attributes) if tracing.options.regularize else None

    def add(self, traced: StripPolygons) -> Polygons:
        """Take the next band; the objects that are whole with it, in canonical order."""
        whole = self._joiner.add(traced.fragment)
        if self._walls is None:
            polygons, statistics = self._attributes.polygons(whole, has_scores=True, open_from=0)
        else:
            open_from = min(self._joiner.first // self._width, traced.stop)
            polygons, statistics = self._walls.draw(
                whole, traced.waiting, traced.fixed, open_from=open_from
            )
        both = concatenated([statistics, traced.statistics])
        order = np.lexsort((both.first, both.bottom))
        return concatenate([polygons, traced.polygons]).take(order)
