"""Strips of a scene's rows traced apart, and joined from top to bottom.

    for each strip:  traced = trace_strip(chunks, start, stop, tracing)     # anywhere
    joiner = StripJoiner(tracing);  joiner.add(traced)                           # top to bottom

What comes out are the polygons that `Tracer` makes of all rows, bit for bit. Buildings that cross
edges are drawn by the joiner, which takes its time, unless they cross one only and have been drawn:

    drawn = draw_edge(upper.fragment, lower.fragment, tracing)                   # anywhere
    joiner.add(lower, drawn)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from geohr.encoding import Bytes
from geohr.geobox import Window
from geohr.polygons.borders import FixedParts, SettledWalls, WallDrawings, WallJoiner, settle
from geohr.polygons.fragments import Fragment, Joiner, closed_between
from geohr.polygons.frames import Above, Frames
from geohr.polygons.objects import ClosedObjects, Statistics, concatenated, together
from geohr.polygons.table import Polygons, concatenate, from_arrays, to_arrays
from geohr.polygons.tracer import TraceSettings
from geohr.polygons.watershed import SQUARE

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
    waiting: WallDrawings
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
            WallDrawings.from_arrays(arrays),
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


def draw_edge(upper: Fragment, lower: Fragment, tracing: TraceSettings) -> WallDrawings:
    """Draw the buildings that cross the edge between two strips, and no other edge."""
    closed = closed_between(upper, lower, eight=tracing.options.connectivity == 8)
    return WallDrawings.of(closed, tracing.attributes())


class StripJoiner:
    """Joins the traced strips of a scene, given from top to bottom, into its polygons."""

    def __init__(self, tracing: TraceSettings) -> None:
        self._attributes = tracing.attributes()
        self._width = tracing.geobox.width
        self._joiner = Joiner(eight=tracing.options.connectivity == 8)
        self._walls = WallJoiner(self._attributes) if tracing.options.regularize else None

    def add(self, traced: StripPolygons, drawn: WallDrawings | None = None) -> Polygons:
        """Take the next strip; the objects that are whole with it, in canonical order.

        `drawn` is what `draw_edge` made of its upper edge.
        """
        whole = self._joiner.add(traced.fragment)
        if self._walls is None:
            polygons, statistics = self._attributes.polygons(whole, has_scores=True, open_from=0)
        else:
            open_from = min(self._joiner.first // self._width, traced.stop)
            drawn = drawn or WallDrawings.none()
            missing = ~np.isin(whole.statistics.first, drawn.statistics.first)
            waiting = WallDrawings.together([traced.waiting, drawn])
            polygons, statistics = self._walls.draw(
                whole.select(missing), waiting, traced.fixed, open_from=open_from
            )
        both = concatenated([statistics, traced.statistics])
        order = np.lexsort((both.first, both.bottom))
        return concatenate([polygons, traced.polygons]).take(order)
