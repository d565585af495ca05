"""Finished rows in, whole objects out."""

from __future__ import annotations

import numpy as np

from geohr.encoding import Bytes
from geohr.errors import InputError, UsageError
from geohr.polygons.objects import ClosedObjects
from geohr.polygons.polygons import Polygons, concatenate
from geohr.polygons.settings import TraceSettings
from geohr.polygons.vertices import SIDE_MAX


class Tracer:
    """Traces objects from bands of finished rows, in memory bounded by the objects still open.

    Rows come from top to bottom, each once, any number at a time. An object is handed out once,
    whole, after its last row; objects come in the order of their last row, then of their first
    pixel in raster order, however the rows were cut.

    Args:
        tracing: Width, place, classes and options.

    Raises:
        InputError: When metres are asked for and there is no CRS.
    """

    def __init__(self, tracing: TraceSettings) -> None:
        self._width = tracing.width
        self._finish = tracing.finish()
        self._frames = tracing.frames()
        self._splitter = tracing.splitter()
        self._has_scores: bool | None = None
        self._finished = False
        self._pushed = 0

    def push(self, class_rows: Bytes, probability_rows: Bytes | None = None) -> Polygons:
        """Take the next rows.

        Args:
            class_rows: `(row, col)` uint8 class ids; 255 = no data.
            probability_rows: `(class, row, col)` uint8 of the same rows: probability x 254,
                rounded, 255 = no data; channel i is class id i + 1.

        Returns:
            The objects that are now whole.

        Raises:
            UsageError: For arrays of another type or shape.
            InputError: When the scene gets too high.
        """
        self._check(class_rows, probability_rows)
        if self._splitter is not None:
            return self._take(*self._splitter.push(class_rows, probability_rows))
        return self._take(class_rows, probability_rows)

    def _take(self, class_rows: Bytes, probability_rows: Bytes | None) -> Polygons:
        """The objects that rows complete."""
        wholes = self._frames.push(class_rows, probability_rows)
        return concatenate([self._finished_objects(whole) for whole in wholes])

    def _finished_objects(self, whole: ClosedObjects) -> Polygons:
        """Drawn and measured."""
        polygons, _ = self._finish.polygons(
            whole, has_scores=bool(self._has_scores), open_from=self._frames.open_from
        )
        return polygons

    def finish(self) -> Polygons:
        """The objects that end at the scene's last row. No row can follow.

        Raises:
            UsageError: When called twice.
        """
        if self._finished:
            raise UsageError("the tracer is finished; make a new one for another scene")
        self._finished = True
        last = [] if self._splitter is None else [self._take(*self._splitter.finish())]
        last.append(self._finished_objects(self._frames.finish()))
        rest, _ = self._finish.rest(has_scores=bool(self._has_scores))
        return concatenate([*last, rest])

    def _check(self, class_rows: Bytes, probability_rows: Bytes | None) -> None:
        if self._finished:
            raise UsageError("the tracer is finished; make a new one for another scene")
        shape = class_rows.shape
        if class_rows.dtype != np.uint8 or len(shape) != 2 or shape[1] != self._width:
            raise UsageError(
                f"class rows must be uint8 (row, {self._width}), got {class_rows.dtype} {shape}"
            )
        self._pushed += shape[0]
        if self._pushed > SIDE_MAX:
            raise InputError(f"a scene can have {SIDE_MAX} rows at most")
        has_scores = probability_rows is not None
        if self._has_scores not in (None, has_scores):
            raise UsageError("probabilities must come with all rows or with none")
        self._has_scores = has_scores
        if probability_rows is not None and (
            probability_rows.dtype != np.uint8 or probability_rows.shape[1:] != shape
        ):
            raise UsageError(
                f"probability rows must be uint8 (class, {shape[0]}, {shape[1]}), "
                f"got {probability_rows.dtype} {probability_rows.shape}"
            )
