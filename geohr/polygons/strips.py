"""Strips of a scene's rows traced apart, and joined from top to bottom.

    for each strip:  traced = trace_strip(chunks, start, stop, tracing)     # anywhere
    joiner = StripJoiner(tracing);  joiner.add(traced)                           # top to bottom

What comes out are the polygons that `Tracer` makes of all rows, bit for bit. Buildings that cross
edges are drawn by the joiner, which takes its time, unless they cross one only and have been drawn:

    drawn = draw_edge(upper.fragment, lower.fragment, tracing)                   # anywhere
    joiner.add(lower, drawn)

Outlines depend on the row below. So that a strip needs no row beyond its own where touching objects
are parted, its last row is traced with the strip below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from geohr.encoding import Bytes, Ints
from geohr.geobox import Window
from geohr.polygons.borders import WallDrawings
from geohr.polygons.fragments import Fragment, FragmentJoiner, RectangleTracer
from geohr.polygons.objects import concatenated
from geohr.polygons.patches import PatchJoiner
from geohr.polygons.table import Polygons, concatenate, from_arrays, to_arrays
from geohr.polygons.tracer import TraceSettings

# Class ids `(row, col)` and probabilities `(class, row, col)` of some rows.
ClassRows = tuple[Bytes, Bytes]


@dataclass(frozen=True)
class StripPolygons:
    """The result of tracing a strip.

    Attributes:
        stop: The first row that is traced with the strip below.
        fragment: What joins the strip to those above and below.
        polygons: The finished objects inside the strip.
        first: `(polygon,)` the first pixel of each one's object.
        bottom: `(polygon,)` the last row of each one's object.
    """

    stop: int
    fragment: Fragment
    polygons: Polygons
    first: Ints
    bottom: Ints

    def to_arrays(self) -> dict[str, Any]:
        """The fields as named arrays."""
        return {
            "stop": np.array(self.stop),
            **self.fragment.to_arrays(),
            **to_arrays(self.polygons),
            "first": self.first,
            "bottom": self.bottom,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Read what `to_arrays` made."""
        return cls(
            int(arrays["stop"].item()),
            Fragment.from_arrays(arrays),
            from_arrays(arrays),
            arrays["first"],
            arrays["bottom"],
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
    height, width = tracing.geobox.shape
    top, bottom = max(start - 1, 0), stop if stop == height else stop - 1
    if top == bottom:  # the first strip, of a single row
        nothing = np.zeros(0, np.int64)
        return StripPolygons(bottom, Fragment.none(), Polygons.none(), nothing, nothing)
    first, end = tracing.reach(start, stop)
    tracer = RectangleTracer(
        tracing, Window(top, 0, bottom - top, width), Window(first, 0, end - first, width)
    )
    done = [drawn for rows in chunks for drawn in tracer.push(*rows)]
    rest, fragment = tracer.finish()
    done += rest
    statistics = concatenated([each for _, each in done])
    polygons = concatenate([each for each, _ in done])
    return StripPolygons(bottom, fragment, polygons, statistics.first, statistics.bottom)


def draw_edge(upper: Fragment, lower: Fragment, tracing: TraceSettings) -> WallDrawings:
    """Draw the buildings that cross the edge between two strips, and no other edge."""
    joiner = PatchJoiner(eight=tracing.options.connectivity == 8)
    return WallDrawings.of(joiner.add([upper.patch, lower.patch]), tracing.attributes())


class StripJoiner:
    """Joins the traced strips of a scene, given from top to bottom, into its polygons."""

    def __init__(self, tracing: TraceSettings) -> None:
        self._fragments = FragmentJoiner(tracing)

    def add(self, traced: StripPolygons, drawn: WallDrawings | None = None) -> Polygons:
        """Take the next strip; the objects that are whole with it, in canonical order.

        `drawn` is what `draw_edge` made of its upper edge.
        """
        polygons, statistics = self._fragments.add([traced.fragment], stop=traced.stop, drawn=drawn)
        first = np.concatenate([statistics.first, traced.first])
        order = np.lexsort((first, np.concatenate([statistics.bottom, traced.bottom])))
        return concatenate([polygons, traced.polygons]).take(order)
