"""Rectangles of a scene traced from their rows, what each leaves open, and how that is joined.

    tracer = RectangleTracer(tracing, place, reach)             # for each rectangle, anywhere
    done = tracer.push(classes, scores)
    rest, fragment = tracer.finish()
    FragmentJoiner(tracing).add([fragment, ...], stop=...)      # rows of rectangles, downwards

Strips of full rows (`geohr.polygons.strips`) and cells (`geohr.workflows.cells`) are such
rectangles. What comes out are the polygons that `Tracer` makes of all rows, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from geohr.encoding import NODATA, Bytes
from geohr.geobox import Window
from geohr.polygons.borders import FixedParts, SettledWalls, WallDrawings, WallJoiner, settle
from geohr.polygons.frames import slab_stop
from geohr.polygons.objects import ClosedObjects, Statistics, together
from geohr.polygons.patches import Patch, PatchJoiner
from geohr.polygons.rectangles import beside, framed, reach, trace_patch
from geohr.polygons.table import Polygons
from geohr.polygons.tracer import TraceSettings

# Objects with their statistics, in canonical order.
Drawn = tuple[Polygons, Statistics]


@dataclass(frozen=True)
class Fragment:
    """What joins a rectangle to its neighbours.

    Attributes:
        patch: The objects that cross its edges.
        waiting: Drawn objects inside that may have to yield to those beyond the edges.
        fixed: Parts of finished objects that these may have to yield to.
    """

    patch: Patch
    waiting: WallDrawings
    fixed: FixedParts

    @classmethod
    def none(cls) -> Self:
        """Nothing crosses an edge."""
        return cls(PatchJoiner(eight=False).rest(), WallDrawings.none(), FixedParts.none())

    def to_arrays(self) -> dict[str, Any]:
        """The fields as named arrays."""
        return {**self.patch.to_arrays(), **self.waiting.to_arrays(), **self.fixed.to_arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Read what `to_arrays` made."""
        return cls(
            Patch.from_arrays(arrays),
            WallDrawings.from_arrays(arrays),
            FixedParts.from_arrays(arrays),
        )


class RectangleTracer:
    """Traces a rectangle from rows, in memory of one slab of rows and the objects still open.

    Walls are drawn at the end, so that then all objects of the rectangle are held.

    Args:
        tracing: The settings of the whole scene.
        place: The rectangle in the scene.
        coming: The pixels that come; `geohr.polygons.rectangles.reach` names those that must.

    Raises:
        InputError: When metres are asked for and there is no CRS.
    """

    def __init__(self, tracing: TraceSettings, place: Window, coming: Window) -> None:
        self._tracing = tracing
        self._place = place
        self._attributes = tracing.attributes()
        self._joiner = PatchJoiner(eight=tracing.options.connectivity == 8)
        self._closed: list[ClosedObjects] = []
        self._next = place.row
        # What comes next, and what is taken of it.
        self._coming, self._taken = coming, reach(place, tracing)
        parted = framed(place, tracing)
        self._splitter = tracing.splitter(parted.row, (parted.col, parted.col_stop))
        # Classes and probabilities `(1 + class, row, col)` that are still needed, and their corner.
        self._held: list[Bytes] = []
        self._corner = (parted.row, parted.col)

    def push(self, classes: Bytes, scores: Bytes) -> list[Drawn]:
        """Take the next rows of the reach; the objects that are finished with them.

        Class ids are `(row, col)`, probabilities `(class, row, col)`.
        """
        came, taken = self._coming, self._taken
        self._coming = came.shifted(len(classes), 0)
        rows = slice(max(0, taken.row - came.row), max(0, taken.row_stop - came.row))
        cols = slice(taken.col - came.col, taken.col_stop - came.col)
        classes, scores = classes[rows, cols], scores[:, rows, cols]
        if self._splitter is None:
            return self._take(classes, scores)
        return self._take(*self._splitter.push(classes, scores))

    def finish(self) -> tuple[list[Drawn], Fragment]:
        """The objects that are left, and what joins the rectangle to its neighbours."""
        last: list[Drawn] = []
        if self._splitter is not None and self._taken.row_stop == self._tracing.geobox.height:
            last = self._take(*self._splitter.finish())
        patch, walls = self._joiner.rest(), SettledWalls.none()
        if self._tracing.options.regularize:
            around = patch.boxes(self._tracing.geobox.width)
            walls = settle(together(self._closed), around, self._place, self._attributes)
            last = [(walls.polygons, walls.statistics)]
        return last, Fragment(patch, walls.waiting, walls.fixed)

    def _take(self, classes: Bytes, scores: Bytes) -> list[Drawn]:
        """Trace the slabs that rows complete."""
        self._held.append(np.concatenate([classes[None], scores]))
        known = self._corner[0] + sum(each.shape[1] for each in self._held)
        end, closed = self._place.row_stop, []
        while self._next < end:
            stop = min(slab_stop(self._next, self._place.width), end)
            slab = replace(self._place, row=self._next, height=stop - self._next)
            if known < min(stop + 1, self._tracing.geobox.height):
                break
            pixels = self._around(slab)
            patch = trace_patch(pixels[0], pixels[1:], slab, self._tracing)
            closed.append(self._joiner.add([patch]))
            self._next = stop
        if self._tracing.options.regularize:
            self._closed += closed
            return []
        draw = self._attributes.polygons
        return [draw(each, has_scores=True, open_from=0) for each in closed]

    def _around(self, slab: Window) -> Bytes:
        """A slab and what is beside it, nodata beyond the scene; lets go of the rows above."""
        rows = self._held[0] if len(self._held) == 1 else np.concatenate(self._held, axis=1)
        held, near = Window(*self._corner, *rows.shape[1:]), beside(slab, self._tracing)
        pixels = np.full((len(rows), near.height, near.width), NODATA, np.uint8)
        there = near.within(held)
        pixels[:, *there.relative_to(near).slices] = rows[:, *there.relative_to(held).slices]
        gone = max(slab.row_stop - 1 - held.row, 0)
        self._held, self._corner = [rows[:, gone:]], (held.row + gone, held.col)
        return pixels


class FragmentJoiner:
    """Joins the fragments of a scene's rectangles, given in rows from top to bottom."""

    def __init__(self, tracing: TraceSettings) -> None:
        self._attributes = tracing.attributes()
        self._width = tracing.geobox.width
        self._patches = PatchJoiner(eight=tracing.options.connectivity == 8)
        self._walls = WallJoiner(self._attributes) if tracing.options.regularize else None

    def __len__(self) -> int:
        """The number of objects that are still open."""
        return len(self._patches)

    def add(
        self, fragments: Sequence[Fragment], *, stop: int, drawn: WallDrawings | None = None
    ) -> Drawn:
        """Join the next row of rectangles; what is whole with it, in canonical order.

        Args:
            fragments: Those of the row.
            stop: The row of the scene after the rectangles' last.
            drawn: Objects that are whole with it, and drawn already.
        """
        whole = self._patches.add([each.patch for each in fragments])
        if self._walls is None:
            return self._attributes.polygons(whole, has_scores=True, open_from=0)
        drawn = drawn or WallDrawings.none()
        missing = ~np.isin(whole.statistics.first, drawn.statistics.first)
        return self._walls.draw(
            whole.select(missing),
            WallDrawings.together([*(each.waiting for each in fragments), drawn]),
            FixedParts.concatenated([each.fixed for each in fragments]),
            open_from=min(self._patches.first // self._width, stop),
        )
