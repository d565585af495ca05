"""Bands of a scene's rows traced apart, and their polygons in one order.

    for each band:  traced = trace_band(chunks, start, stop, height, tracing)   # anywhere
    joined = Joined(tracing);  joined.add(traced)                              # top to bottom

What comes out are the polygons that `Tracer` makes of all rows, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np

from geohr.encoding import Bytes
from geohr.polygons.fragments import Fragment, Joiner, statistics_from_arrays, statistics_to_arrays
from geohr.polygons.frames import Above, Frames, frame_rows
from geohr.polygons.instances import SQUARE
from geohr.polygons.objects import ClosedObjects, together
from geohr.polygons.polygons import Polygons, concatenate, from_arrays, to_arrays
from geohr.polygons.settings import TraceSettings
from geohr.polygons.statistics import Statistics, concatenated
from geohr.polygons.vertices import Ragged

ClassRows = tuple[Bytes, Bytes]
"""Class ids `(row, col)` and probabilities `(class, row, col)` of some rows."""


@dataclass(frozen=True)
class StripPolygons:
    """What tracing a band gives.

    Attributes:
        stop: The row after its last.
        fragment: What is open above or below.
        polygons: The objects inside, finished; none where they are drawn in the scene's order.
        statistics: Of the polygons.
        undrawn: The objects inside where they are drawn in the scene's order.
    """

    stop: int
    fragment: Fragment
    polygons: Polygons
    statistics: Statistics
    undrawn: ClosedObjects

    def to_arrays(self) -> dict[str, Any]:
        """As named arrays."""
        return {
            "stop": np.array(self.stop),
            **self.fragment.to_arrays(),
            **to_arrays(self.polygons),
            **statistics_to_arrays(self.statistics, "done_"),
            **statistics_to_arrays(self.undrawn.statistics, "undrawn_"),
            "undrawn_flat": self.undrawn.shapes.flat,
            "undrawn_offsets": self.undrawn.shapes.offsets,
            "undrawn_owner": self.undrawn.owner,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """What `to_arrays` was given."""
        return cls(
            int(arrays["stop"].item()),
            Fragment.from_arrays(arrays),
            from_arrays(arrays),
            statistics_from_arrays(arrays, "done_"),
            ClosedObjects(
                Ragged(arrays["undrawn_flat"], arrays["undrawn_offsets"]),
                arrays["undrawn_owner"],
                statistics_from_arrays(arrays, "undrawn_"),
            ),
        )


def trace_strip(
    chunks: Iterable[ClassRows], start: int, stop: int, height: int, tracing: TraceSettings
) -> StripPolygons:
    """Trace the rows `[start, stop)` of a scene that has `height`.

    Args:
        chunks: The rows that `tracing.reach` names, from top to bottom.
        start: First row, a multiple of `geohr.polygons.instances.SQUARE`.
        stop: The row after the last.
        height: Rows of the scene.
        tracing: How.

    Raises:
        InputError: When metres are asked for and there is no CRS.
    """
    finish = tracing.finish()
    finished: list[tuple[Polygons, Statistics]] = []
    undrawn: list[ClosedObjects] = []

    def keep(wholes: Iterable[ClosedObjects]) -> None:
        for whole in wholes:
            if tracing.options.regularize:
                undrawn.append(whole)
            else:
                finished.append(finish.polygons(whole, has_scores=True, open_from=0))

    frames = tracing.frames() if start == 0 else None
    for first, classes, scores in _placed(chunks, start, stop, height, tracing):
        last_above = start - 1 - first
        if 0 <= last_above < len(classes):
            frames = tracing.frames(Above(start - 1, classes[last_above], scores[:, last_above]))
        rows = slice(max(0, start - first), max(0, stop - first))
        if frames is not None:
            keep(frames.push(classes[rows], scores[:, rows]))
    assert frames is not None
    keep(_rest(frames, last=stop == height))
    return StripPolygons(
        stop,
        Fragment.of(frames),
        concatenate([polygons for polygons, _ in finished]),
        concatenated([statistics for _, statistics in finished]),
        together(undrawn),
    )


def _rest(frames: Frames, *, last: bool) -> Iterator[ClosedObjects]:
    """The objects that a band's last rows complete."""
    if last:
        yield frames.finish()
    elif frames.waiting:
        yield frames.step(last=False)


def _placed(
    chunks: Iterable[ClassRows], start: int, stop: int, height: int, tracing: TraceSettings
) -> Iterator[tuple[int, Bytes, Bytes]]:
    """Chunks with their first rows, of which touching objects are parted."""
    row, end = tracing.reach(start, stop, height)
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
    if end == height:
        yield row, *splitter.finish()


class StripJoiner:
    """The polygons of a scene out of its traced bands, which come from top to bottom.

    Args:
        tracing: As the bands were traced.
    """

    def __init__(self, tracing: TraceSettings) -> None:
        self._finish = tracing.finish()
        self._regularize = tracing.options.regularize
        self._width = tracing.width
        self._joiner = Joiner(eight=tracing.options.connectivity == 8)
        self._undrawn = together([])

    def add(self, traced: StripPolygons, *, last: bool) -> Polygons:
        """Take the next band; the objects that are whole with it, in canonical order."""
        whole = self._joiner.add(traced.fragment)
        if self._regularize:
            self._undrawn = together([self._undrawn, whole, traced.undrawn])
            return concatenate(list(self._drawn(traced.stop, last=last)))
        polygons, statistics = self._finish.polygons(whole, has_scores=True, open_from=0)
        both = concatenated([statistics, traced.statistics])
        order = np.lexsort((both.first, both.bottom))
        return concatenate([polygons, traced.polygons]).take(order)

    def _drawn(self, stop: int, *, last: bool) -> Iterator[Polygons]:
        """Objects that yield to one another, drawn with those that `Tracer` draws them with."""
        rows = frame_rows(self._width)
        frame = (self._undrawn.statistics.bottom + 1) // rows
        ready = len(frame) if last else int(np.searchsorted(frame, stop // rows))
        edges = np.flatnonzero(np.diff(frame[:ready], prepend=-1, append=-1)).tolist()
        undrawn = self._undrawn
        for begin, end in pairwise(edges):
            later = undrawn.statistics.first[end:].min(initial=self._joiner.first)
            polygons, _ = self._finish.polygons(
                undrawn.take(slice(begin, end)),
                has_scores=True,
                open_from=min(int(later) // self._width, (frame[begin] + 1) * rows, stop),
            )
            yield polygons
        self._undrawn = undrawn.take(slice(ready, None))
        if last:
            yield self._finish.rest(has_scores=True)[0]
