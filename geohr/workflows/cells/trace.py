"""The objects of a cell: those that are whole, and what is left open at its edges."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from geohr.encoding import NODATA, Bytes
from geohr.errors import InputError
from geohr.geobox import Window
from geohr.polygons import Polygons
from geohr.polygons.borders import FixedParts, WallDrawings, settle
from geohr.polygons.frames import frame_rows
from geohr.polygons.objects import ClosedObjects, together
from geohr.polygons.patches import Patch, PatchJoiner
from geohr.polygons.rectangles import halo, trace_patch
from geohr.polygons.tracer import TraceSettings
from geohr.polygons.watershed import MARGIN
from geohr.workflows.cells.scene import squares


@dataclass(frozen=True)
class CellFragments:
    """What joins a cell to its neighbours.

    Attributes:
        patch: The objects that cross its edges.
        waiting: Objects inside that are cut when those beyond the edges are known.
        fixed: Parts of finished objects that these may have to yield to.
    """

    patch: Patch
    waiting: WallDrawings
    fixed: FixedParts

    def to_bytes(self) -> bytes:
        """The content of a file."""
        file = io.BytesIO()
        arrays: dict[str, Any] = {
            **self.patch.to_arrays(),
            **self.waiting.to_arrays(),
            **self.fixed.to_arrays(),
        }
        np.savez_compressed(file, **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, *, name: str) -> Self:
        """Read what `to_bytes` made, the content of a file of this name.

        Raises:
            InputError: When it is damaged.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                arrays = dict(file)
            return cls(
                Patch.from_arrays(arrays),
                WallDrawings.from_arrays(arrays),
                FixedParts.from_arrays(arrays),
            )
        except Exception as error:  # zip, zlib and numpy each raise kinds of their own
            raise InputError(
                f"{name}: is damaged ({error}); remove it and its marker, and run the cell again"
            ) from error


class CellTracer:
    """Traces a cell from rows, in memory of one slab of rows and the objects still open.

    Walls are drawn at the end, so that then all objects of the cell are held.

    Args:
        tracing: The settings of the whole zone.
        place: The cell, in the zone's outputs.
        reach: The pixels that come, which hold all that the cell depends on.
    """

    def __init__(self, tracing: TraceSettings, place: Window, reach: Window) -> None:
        self._tracing = tracing
        self._place = place
        self._reach = reach
        self._beside = halo(tracing)
        self._attributes = tracing.attributes()
        self._joiner = PatchJoiner(eight=tracing.options.connectivity == 8)
        self._slab = frame_rows(place.width)
        self._closed: list[ClosedObjects] = []
        self._splitter = None
        self._came = reach.row
        self._held_from, self._left = reach.row, reach.col
        if tracing.parts:
            box = tracing.geobox
            top, _ = squares(place.row - 1, place.row_stop + 1, box.height)
            columns = squares(place.col - self._beside, place.col_stop + self._beside, box.width)
            self._splitter = tracing.splitter(top, columns)
            self._held_from, self._left = top, columns[0]
            self._skip = self._splitter_window(top, columns)
        self._next = place.row
        self._classes: list[Bytes] = []
        self._scores: list[Bytes] = []

    def push(self, classes: Bytes, scores: Bytes) -> Polygons:
        """Take the next rows of the reach; the objects that are finished with them.

        Class ids are `(row, col)`, probabilities `(class, row, col)`.
        """
        return self._take(*self._parted(classes, scores))

    def finish(self) -> tuple[Polygons, CellFragments]:
        """The objects that are left, and what joins the cell to its neighbours."""
        last = Polygons.none()
        if self._splitter is not None and self._reach.row_stop == self._tracing.geobox.height:
            last = self._take(*self._splitter.finish())
        rest = self._joiner.rest()
        if not self._tracing.options.regularize:
            return last, CellFragments(rest, WallDrawings.none(), FixedParts.none())
        around = rest.boxes(self._tracing.geobox.width)
        walls = settle(together(self._closed), around, self._place, self._attributes)
        return walls.polygons, CellFragments(rest, walls.waiting, walls.fixed)

    def _splitter_window(self, top: int, columns: tuple[int, int]) -> Window:
        """The part of the reach that the splitter takes."""
        box = self._tracing.geobox
        low, left = max(0, top - MARGIN), max(0, columns[0] - MARGIN)
        right = min(box.width, columns[1] + MARGIN)
        return Window(low, left, self._reach.row_stop - low, right - left)

    def _parted(self, classes: Bytes, scores: Bytes) -> tuple[Bytes, Bytes]:
        """Rows of which touching objects are parted, where that is asked for."""
        first, self._came = self._came, self._came + len(classes)
        if self._splitter is None:
            return classes, scores
        rows = slice(max(0, self._skip.row - first), None)
        cols = slice(self._skip.col - self._reach.col, self._skip.col_stop - self._reach.col)
        return self._splitter.push(classes[rows, cols], scores[:, rows, cols])

    def _take(self, classes: Bytes, scores: Bytes) -> Polygons:
        """Trace the slabs that rows complete."""
        self._classes.append(classes)
        self._scores.append(scores)
        held = self._held_from + sum(map(len, self._classes))
        finished = []
        for first, stop in self._ready(held):
            above, below = first - 1, stop + 1
            patch = trace_patch(
                self._framed(np.concatenate(self._classes), above, below),
                self._framed(np.concatenate(self._scores, axis=1), above, below),
                Window(first, self._place.col, stop - first, self._place.width),
                self._tracing,
            )
            finished.append(self._joiner.add([patch]))
            self._next = stop
            self._forget(stop - 1)
        if self._tracing.options.regularize:
            self._closed += finished
            return Polygons.none()
        polygons, _ = self._attributes.polygons(together(finished), has_scores=True, open_from=0)
        return polygons

    def _ready(self, held: int) -> Iterator[tuple[int, int]]:
        """The slabs whose rows, and those around them, are there."""
        end = self._tracing.geobox.height
        first = self._next
        while first < self._place.row_stop:
            stop = min(first + self._slab, self._place.row_stop)
            if held < min(stop + 1, end):
                return
            yield first, stop
            first = stop

    def _forget(self, row: int) -> None:
        """Let go of the rows above one."""
        gone = max(row - self._held_from, 0)
        self._classes = [np.concatenate(self._classes)[gone:]]
        self._scores = [np.concatenate(self._scores, axis=1)[:, gone:]]
        self._held_from += gone

    def _framed(self, rows: Bytes, above: int, below: int) -> Bytes:
        """Rows `[above, below)` of `(..., row, col)` with the halo's columns; nodata beyond."""
        left, right = self._place.col - self._beside, self._place.col_stop + self._beside
        size = (*rows.shape[:-2], below - above, right - left)
        framed = np.full(size, NODATA, np.uint8)
        low, high = max(above, self._held_from), min(below, self._held_from + rows.shape[-2])
        first, stop = max(left, self._left), min(right, self._left + rows.shape[-1])
        framed[..., low - above : high - above, first - left : stop - left] = rows[
            ...,
            low - self._held_from : high - self._held_from,
            first - self._left : stop - self._left,
        ]
        return framed
