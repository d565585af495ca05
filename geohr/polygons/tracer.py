"""Finished rows of a scene in, whole objects out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from geohr.encoding import NODATA, Bytes
from geohr.errors import InputError, UsageError
from geohr.geobox import GeoBox
from geohr.models.card import INSTANCE_AREA
from geohr.options import PolygonOptions
from geohr.polygons.attributes import AttributeBuilder
from geohr.polygons.frames import Frames
from geohr.polygons.objects import ClosedObjects
from geohr.polygons.regularize import Regularizer
from geohr.polygons.rings import SIDE_MAX
from geohr.polygons.table import Polygons, concatenate
from geohr.polygons.watershed import MARGIN, SQUARE, Splitter


@dataclass(frozen=True)
class TraceSettings:
    """The settings with which a scene is traced.

    Attributes:
        geobox: The scene's grid; without a CRS, metres are unknown.
        options: Outline, connectivity, simplification and the rest.
        class_names: The name of each class id; other classes are named "class ID".
        background: The class id that is not traced; 255 (nodata) never is.
        threshold: The probability at which contours run between a class and the background.

    Raises:
        InputError: For a scene of too many rows or columns.
        UsageError: For a background or threshold out of range.
    """

    geobox: GeoBox
    options: PolygonOptions = field(default_factory=PolygonOptions)
    class_names: Mapping[int, str] = field(default_factory=dict)
    background: int = 0
    threshold: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if max(self.geobox.shape) > SIDE_MAX:
            raise InputError(
                f"a scene can have {SIDE_MAX} rows and columns at most, this one has "
                f"{self.geobox.height} x {self.geobox.width}"
            )
        if not 0 <= self.background <= NODATA:
            raise UsageError(f"background must be in [0, 255], got {self.background}")
        if not 0 < self.threshold <= 1:
            raise UsageError(f"threshold must be in (0, 1], got {self.threshold}")

    @property
    def parts(self) -> bool:
        """Whether touching objects are split."""
        return self.options.instances is not None and self.options.instances < 1

    def reach(self, start: int, stop: int) -> tuple[int, int]:
        """The rows that `geohr.polygons.strips.trace_strip` needs for the strip `[start, stop)`.

        Its first row is a multiple of `geohr.polygons.watershed.SQUARE`.
        """
        above, below = (SQUARE + MARGIN, MARGIN) if self.parts else (2, 0)
        return max(0, start - above), min(self.geobox.height, stop + below)

    def frames(self) -> Frames:
        """A new `Frames`, which finds objects in rows."""
        return Frames(
            self.geobox.width,
            options=self.options,
            background=self.background,
            threshold=self.threshold,
        )

    def splitter(self, start: int = 0, columns: tuple[int, int] | None = None) -> Splitter | None:
        """A new `Splitter` of touching objects, which see; None if they are not split.

        Raises:
            InputError: Without a CRS.
        """
        if not self.parts:
            return None
        area, level = self.options.instance_area, self.options.instances
        assert level is not None
        return Splitter(
            self.geobox,
            level=level,
            least_area=INSTANCE_AREA if area is None else area,
            background=self.background,
            start=start,
            columns=columns,
        )

    def attributes(self) -> AttributeBuilder:
        """A new `AttributeBuilder`, which draws and measures closed objects.

        Raises:
            InputError: When metres are asked for and there is no CRS.
        """
        return AttributeBuilder(
            geobox=self.geobox,
            options=self.options,
            regularizer=Regularizer(self.geobox, self.options.tolerance),
            class_names=self.class_names,
        )


class Tracer:
    """Traces objects from bands of finished rows, in memory bounded by the objects still open.

    Rows come from top to bottom, each once, any number at a time. An object is handed out once,
    whole, after its last row; objects come in the order of their last row, then of their first
    pixel in raster order, however the rows were cut.

    Args:
        tracing: The scene's grid, classes and options.

    Raises:
        InputError: When metres are asked for and there is no CRS.
    """

    def __init__(self, tracing: TraceSettings) -> None:
        self._width = tracing.geobox.width
        self._attributes = tracing.attributes()
        self._frames = tracing.frames()
        self._splitter = tracing.splitter()
        self._has_scores: bool | None = None
        self._finished = False

    def push(self, class_rows: Bytes, probability_rows: Bytes | None = None) -> Polygons:
        """Trace the next rows.

        Args:
            class_rows: `(row, col)` uint8 class ids; 255 = no data.
            probability_rows: `(class, row, col)` uint8 of the same rows: probability x 254,
                rounded, 255 = no data; channel i is class id i + 1.

        Returns:
            The objects that are now whole.

        Raises:
            UsageError: For arrays of another type or shape.
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
        """Draw and measure closed objects."""
        polygons, _ = self._attributes.polygons(
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
        return concatenate(last)

    def _check(self, class_rows: Bytes, probability_rows: Bytes | None) -> None:
        if self._finished:
            raise UsageError("the tracer is finished; make a new one for another scene")
        shape = class_rows.shape
        if class_rows.dtype != np.uint8 or len(shape) != 2 or shape[1] != self._width:
            raise UsageError(
                f"class rows must be uint8 (row, {self._width}), got {class_rows.dtype} {shape}"
            )
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
