"""A rectangle of pixels traced by itself; see `geohr.polygons.patches` for how they are joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from geohr.encoding import NODATA, PROBABILITY_MAX, Bools, Bytes, Ints
from geohr.geobox import Window
from geohr.polygons.frames import FRAME_ROWS, beside_nodata
from geohr.polygons.objects import Statistics, combine, of_runs, run_scores
from geohr.polygons.outlines import Crossings, UnitEdges, link_edges, owner, unit_edges
from geohr.polygons.patches import Patch, segments
from geohr.polygons.rings import (
    DEPTH_MAX,
    SUBPIXEL,
    Links,
    RaggedArray,
    canonical,
    join,
    pack,
    split_touching,
)
from geohr.polygons.runs import (
    Field,
    Runs,
    Saddles,
    Step,
    candidates,
    connected,
    find_runs,
    find_saddles,
    touching,
)
from geohr.polygons.tracer import TraceSettings
from geohr.polygons.watershed import squares, with_margin

# Kinds of contacts and corners: a level side, an upright side, the two diagonals of a vertex. They
# are even, and the numbers of unit sides, doubled, are made odd.
_LEVEL, _UPRIGHT, _FALLING, _RISING = range(0, 8, 2)
_KINDS = 8
# The direction of a unit side that goes up, as `geohr.polygons.outlines` counts them.
_UP = 2


def is_thinned(tracing: TraceSettings) -> bool:
    """Whether outlines are simplified as they are traced."""
    return tracing.options.tolerance > 0 and not tracing.options.regularize


def halo(tracing: TraceSettings) -> int:
    """Columns on both sides of a rectangle, whose classes its outlines depend on."""
    return DEPTH_MAX + 1 if is_thinned(tracing) else 1


def beside(place: Window, tracing: TraceSettings) -> Window:
    """A rectangle with the row above and below and the halo; it may reach beyond the scene."""
    columns = halo(tracing)
    height, width = place.height + 2, place.width + 2 * columns
    return Window(place.row - 1, place.col - columns, height, width)


def framed(place: Window, tracing: TraceSettings) -> Window:
    """The pixels of the scene that a rectangle is traced from; whole squares that are parted."""
    scene = tracing.geobox.extent
    near = beside(place, tracing).within(scene)
    return squares(near, scene) if tracing.parts else near


def reach(place: Window, tracing: TraceSettings) -> Window:
    """The pixels of the scene that the outlines of a rectangle depend on."""
    near = framed(place, tracing)
    return with_margin(near, tracing.geobox.extent) if tracing.parts else near


def trace_patch(
    classes: Bytes, scores: Bytes | None, place: Window, tracing: TraceSettings
) -> Patch:
    """Trace a rectangle. No object of the patch is closed yet; see `PatchJoiner`.

    Args:
        classes: `(row, col)` class ids of the rectangle, of one row above and below it and of
            `halo` columns on both sides; 255 beyond the scene.
        scores: `(class, row, col)` probabilities of the same pixels, or None.
        place: The rectangle in the scene.
        tracing: The settings of tracing; the geobox is that of the scene.
    """
    frame = np.full((classes.shape[0], classes.shape[1] + 2), NODATA, np.uint8)
    frame[:, 1:-1] = classes
    rectangle = _Rectangle.of(frame, scores, place, tracing)
    pieces = [_outlines(rectangle, label) for label in rectangle.labels]
    saddle_pairs = rectangle.joined_at_saddles()
    contacts, contact_run = rectangle.contacts()
    runs = rectangle.runs
    stride = place.width + 1
    one, other = touching(runs, stride, 4)
    root = connected(
        len(runs.start),
        np.concatenate([one, saddle_pairs[0]]),
        np.concatenate([other, saddle_pairs[1]]),
    )
    part_of_run, parts = _numbered(root)
    object_of_run, objects = part_of_run, parts
    corners, corner_run = np.zeros(0, np.int64), np.zeros(0, np.int64)
    if tracing.options.connectivity == 8:
        corners, corner_run = rectangle.corners()
        one, other = touching(runs, stride, 8)
        object_of_run, objects = _numbered(
            connected(
                len(runs.start),
                np.concatenate([one, saddle_pairs[0]]),
                np.concatenate([other, saddle_pairs[1]]),
            )
        )
    object_of_part = np.zeros(parts, np.int64)
    object_of_part[part_of_run] = object_of_run
    nothing = np.zeros(0, np.int64)
    step = Step(objects, object_of_run, nothing, np.zeros(objects, np.bool_))
    closed = [each.rings for each in pieces]
    return Patch(
        statistics=combine(step, rectangle.statistics(), Statistics.none()),
        rings=(join(closed), part_of_run[_gathered([each.ring_run for each in pieces])]),
        shapes=(RaggedArray.empty(), nothing),
        strands=join([each.strands for each in pieces]),
        begin=_gathered([each.begin for each in pieces]),
        end=_gathered([each.end for each in pieces]),
        object_of_part=object_of_part,
        strand_part=part_of_run[_gathered([each.strand_run for each in pieces])],
        contacts=contacts,
        contact_part=part_of_run[contact_run],
        corners=corners,
        corner_object=object_of_run[corner_run],
    )


def _gathered(numbers: Sequence[Ints]) -> Ints:
    """Numbers one after the other."""
    return np.concatenate([np.zeros(0, np.int64), *numbers])


def _numbered(root: Ints) -> tuple[Ints, int]:
    """The component of each node, counted from 0, and how many there are."""
    is_root = root == np.arange(len(root))
    return (np.cumsum(is_root) - 1)[root], int(is_root.sum())


@dataclass(frozen=True)
class _Pieces:
    """The outlines of one class in a rectangle: closed rings and strands, and a run of each."""

    rings: RaggedArray
    ring_run: Ints
    strands: RaggedArray
    strand_run: Ints
    begin: Ints
    end: Ints


@dataclass(frozen=True)
class _Rectangle:
    """A rectangle's pixels with those around it.

    Row 0 and the last row of the frame are those above and below; the columns of the frame are
    one of padding, the halo, the rectangle's own, the halo, and one of padding.
    """

    field: Field
    place: Window
    beside: int
    tracing: TraceSettings
    all_runs: Runs
    runs: Runs
    saddles: Saddles
    crossings: Crossings | None

    @classmethod
    def of(
        cls, frame: Bytes, scores: Bytes | None, place: Window, tracing: TraceSettings
    ) -> _Rectangle:
        """What the outlines of a frame depend on; see `trace_patch`."""
        level = tracing.threshold * PROBABILITY_MAX
        field = Field(frame, scores, level, tracing.background)
        traced = np.ones(256, np.bool_)
        traced[[tracing.background, NODATA]] = False
        change = frame[:, 1:] != frame[:, :-1]
        beside = (frame.shape[1] - 2 - place.width) // 2
        runs, saddles = find_runs(frame, change, traced), Saddles.none()
        if tracing.options.outline == "contour":
            saddles = find_saddles(field, candidates(frame, change))
        return cls(
            field,
            place,
            beside,
            tracing,
            runs,
            _within(runs, change.shape[1], beside, place),
            saddles,
            Crossings.of(frame, change) if is_thinned(tracing) else None,
        )

    @property
    def labels(self) -> list[int]:
        """The classes of the rectangle's own pixels that are traced."""
        return [int(label) for label in np.unique(self.runs.label)]

    @cached_property
    def own(self) -> Bytes:
        """The frame's own columns and one on each side."""
        return np.ascontiguousarray(
            self.field.frame[:, self.beside : self.beside + self.place.width + 2]
        )

    def statistics(self) -> Statistics:
        """What each of the rectangle's runs adds to its object."""
        place, runs = self.place, self.runs
        scores = np.zeros(len(runs.start), np.int64)
        if self.field.scores is not None:
            cols = slice(self.beside, self.beside + place.width)
            scores = run_scores(runs, self.field.scores[:, 1:-1, cols])
        found = of_runs(
            runs,
            scores=scores,
            at_nodata=beside_nodata(self.own, runs),
            top=place.row - 1,
            width=place.width,
        )
        # From the rectangle's rows to those of the scene.
        row, col = np.divmod(found.first, place.width)
        first = row * self.tracing.geobox.width + col + place.col
        return replace(found, first=first)

    def number(self, line: Ints, column: Ints) -> Ints:
        """Vertices of the frame, numbered over the scene."""
        width = self.tracing.geobox.width + 1
        return (line + self.place.row - 1) * width + column + self.place.col - self.beside

    def is_own(self, row: Ints, column: Ints) -> Bools:
        """Whether pixels of the frame are the rectangle's own."""
        place = self.place
        inside = (row >= 1) & (row <= place.height)
        return inside & (column >= self.beside) & (column < self.beside + place.width)

    def run_at(self, row: Ints, column: Ints) -> Ints:
        """The run of each of its own pixels."""
        return self.runs.at(row * (self.place.width + 1) + column - self.beside)

    def joined_at_saddles(self) -> tuple[Ints, Ints]:
        """Pairs of runs that a saddle joins."""
        stride, saddles = self.field.stride, self.saddles
        through = np.flatnonzero(np.isin(saddles.joined, self.labels))
        line, column = np.divmod(saddles.vertex[through], stride)
        falling = self.field.label(line - 1, column - 1) == saddles.joined[through]
        upper, lower = column - falling, column - ~falling
        both = self.is_own(line - 1, upper) & self.is_own(line, lower)
        return self.run_at(line[both] - 1, upper[both]), self.run_at(line[both], lower[both])

    def contacts(self) -> tuple[Ints, Ints]:
        """Sides that the rectangle's runs share with pixels of their class beyond the edge.

        Only the first of each edge counts, and upright ones where the neighbour may be cut in two.
        Where an object goes on at any other side, it does so at the side before it as well, or an
        outline crosses the edge between them.
        """
        height, width = self.place.height, self.place.width
        rows = np.arange(height)
        rows = rows[(rows == 0) | ((rows + self.place.row) % FRAME_ROWS[0] == 0)]
        # Above, below, to the left and to the right.
        counts = [1, 1, len(rows), len(rows)]
        down, right = np.repeat([-1, 1, 0, 0], counts), np.repeat([0, 0, -1, 1], counts)
        row = np.concatenate([[0, height - 1], rows, rows]) + 1
        column = np.where(right > 0, width - 1, 0) + self.beside
        label = self.field.label(row, column)
        at = (label == self.field.label(row + down, column + right)) & np.isin(label, self.labels)
        number = self.number(row + (down > 0), column + (right > 0))
        keys = number * _KINDS + np.where(down == 0, _UPRIGHT, _LEVEL)
        return keys[at], self.run_at(row[at], column[at])

    def corners(self) -> tuple[Ints, Ints]:
        """Corners by which alone the rectangle's runs go on beyond the edge."""
        height, width, left = self.place.height, self.place.width, self.beside
        across, down = np.arange(width + 1) + left, np.arange(height + 1) + 1
        line = np.concatenate(
            [np.full(width + 1, 1), np.full(width + 1, height + 1), down[1:-1], down[1:-1]]
        )
        upright = np.full(max(height - 1, 0), left)
        column = np.concatenate([across, across, upright, upright + width])
        keys, runs = [], []
        for kind, (one, other) in {_FALLING: (-1, 0), _RISING: (0, -1)}.items():
            upper, lower = column + one, column + other
            label = self.field.label(line - 1, upper)
            same = (label == self.field.label(line, lower)) & np.isin(label, self.labels)
            for row, col in ((line - 1, lower), (line, upper)):
                same &= self.field.label(row, col) != label
            up, low = self.is_own(line - 1, upper), self.is_own(line, lower)
            at = same & (up != low)
            row, col = np.where(up, line - 1, line)[at], np.where(up, upper, lower)[at]
            keys.append(self.number(line[at], column[at]) * _KINDS + kind)
            runs.append(self.run_at(row, col))
        return np.concatenate(keys), np.concatenate(runs)


def _within(runs: Runs, stride: int, beside: int, place: Window) -> Runs:
    """The parts of a frame's runs that are a rectangle's own, in rows of its own width."""
    row = runs.row * stride + beside
    start, stop = (np.clip(each - row, 0, place.width) for each in (runs.start, runs.stop))
    own = np.flatnonzero((start < stop) & (runs.row > 0) & (runs.row <= place.height))
    row = runs.row[own]
    base = row * (place.width + 1)
    return Runs(start[own] + base, stop[own] + base, runs.label[own], row)


def _outlines(rectangle: _Rectangle, label: int) -> _Pieces:
    """The outlines of a class, as far as its pixels are the rectangle's own."""
    field, runs = rectangle.field, rectangle.all_runs
    edges = unit_edges(field, runs, label)
    above = np.flatnonzero((runs.row == 0) & (runs.label == label))
    links = link_edges(
        edges,
        field,
        rectangle.saddles,
        label=label,
        above=(runs.stop[above], runs.start[above]),
        top=rectangle.place.row - 1,
        contour=rectangle.tracing.options.outline == "contour",
        crossings=rectangle.crossings,
    )
    return _cut(rectangle, edges, links)


def _cut(rectangle: _Rectangle, edges: UnitEdges, links: Links) -> _Pieces:
    """Closed rings and strands of the unit sides that are the rectangle's own."""
    count, nodes = len(edges.direction), len(links.successor)
    pieces = len(links.vertices)
    row, column = np.divmod(
        owner(edges, np.arange(count), rectangle.field.stride), rectangle.field.stride
    )
    successor = links.successor
    before = np.full(nodes, -1)
    follows = np.flatnonzero(successor >= 0)
    before[successor[follows]] = follows
    own = np.zeros(nodes, np.bool_)
    own[:count] = rectangle.is_own(row, column)
    # What lies at a corner belongs to the side that leads there.
    leading = before[count:pieces]
    own[count:pieces] = own[leading] & (leading < count)
    mine = np.flatnonzero(own)
    place = np.full(nodes + 1, -1)
    place[mine] = np.arange(len(mine))
    keys = _numbers(rectangle, edges, links)
    order, offsets, closed = segments(place[successor[mine]])
    vertices = links.vertices[mine[order], 0]
    there = vertices >= 0
    shift = (rectangle.place.col - rectangle.beside) * pack(np.array(0), np.array(SUBPIXEL))
    ends = np.concatenate([[0], np.cumsum(there)])[offsets]
    paths = RaggedArray(vertices[there] + shift, ends)
    first, last = mine[order[offsets[:-1]]], mine[order[offsets[1:] - 1]]
    side = np.where(first < count, first, before[first])
    run = rectangle.run_at(row[side], column[side])
    ring, strand = np.flatnonzero(closed), np.flatnonzero(~closed)
    simple, origin = split_touching(paths.take(ring))
    return _Pieces(
        canonical(simple),
        run[ring][origin],
        paths.take(strand),
        run[strand],
        keys[first[strand]],
        keys[successor[last[strand]]],
    )


def _numbers(rectangle: _Rectangle, edges: UnitEdges, links: Links) -> Ints:
    """`(node,)` the numbers of unit sides over the scene; 0 for what lies at a corner."""
    stride, pieces = rectangle.field.stride, len(links.vertices)
    numbers = np.zeros(len(links.successor), np.int64)
    sides = np.concatenate([edges.upright, edges.level])
    numbers[: len(sides)] = rectangle.number(*np.divmod(sides, stride)) * 4 + edges.direction
    # Those that go up out of the frame, at the end of a run of its first row.
    up = links.column_in[pieces:]
    numbers[pieces:] = rectangle.number(np.zeros(len(up), np.int64), up) * 4 + _UP
    return numbers
