"""Finished rows in, whole objects out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from affine import Affine

from geohr.card import INSTANCE_AREA
from geohr.errors import InputError, UsageError
from geohr.mosaic import NODATA, PROBABILITY_MAX
from geohr.options import PolygonOptions
from geohr.polygons.chains import Chains
from geohr.polygons.components import Components, Step
from geohr.polygons.corners import Candidates, candidates, link_sides, sides
from geohr.polygons.edges import (
    Crossings,
    Field,
    Saddles,
    find_saddles,
    link_edges,
    owner,
    saddle_pairs,
    unit_edges,
)
from geohr.polygons.finish import Finish
from geohr.polygons.instances import Splitter
from geohr.polygons.polygons import Polygons, concatenate
from geohr.polygons.rings import canonical, gather, signed_area, split_touching
from geohr.polygons.runs import Bools, Bytes, Ints, Runs, find_runs, touching
from geohr.polygons.settle import Settler
from geohr.polygons.statistics import Statistics, count, no_scores, run_scores
from geohr.polygons.vertices import SIDE_MAX, Ragged, Waiting, join, place

FRAME_PIXELS = 2**22
"""Pixels worked on at a time: enough to keep numpy busy, few enough for the cache."""
FRAME_ROWS = (64, 1024)
"""Fewest and most rows worked on at a time."""


class Tracer:
    """Traces objects from bands of finished rows, in memory bounded by the objects still open.

    Rows come from top to bottom, each once, any number at a time. An object is handed out once,
    whole, after its last row; objects come in the order of their last row, then of their first
    pixel in raster order, however the rows were cut.

    Args:
        width: Columns of the scene.
        transform: From (column, row) of pixel corners to the CRS.
        crs: The scene's CRS, anything pyproj understands; None leaves metres unknown.
        options: Outline, connectivity, simplification and the rest.
        class_names: Name of each class id; others are named "class ID".
        background: The class id that is not traced; 255 (nodata) never is.
        threshold: The probability at which contours run between a class and the background.

    Raises:
        UsageError: For a width or background out of range.
        InputError: When metres are asked for and there is no CRS.
    """

    def __init__(
        self,
        width: int,
        *,
        transform: Affine,
        crs: Any = None,
        options: PolygonOptions | None = None,
        class_names: Mapping[int, str] | None = None,
        background: int = 0,
        threshold: float = 0.5,
    ) -> None:
        if not 1 <= width <= SIDE_MAX:
            raise UsageError(f"width must be in [1, {SIDE_MAX}] pixels, got {width}")
        if not 0 <= background <= NODATA:
            raise UsageError(f"background must be in [0, 255], got {background}")
        if not 0 < threshold <= 1:
            raise UsageError(f"threshold must be in (0, 1], got {threshold}")
        self._options = options or PolygonOptions()
        self._contour = self._options.outline == "contour"
        thinned = self._options.simplify > 0 and not self._options.regularize
        self._thinned = thinned
        self._by_edge = self._contour or thinned
        self._level = threshold * PROBABILITY_MAX
        self._finish = Finish(
            transform=transform,
            crs=crs,
            options=self._options,
            settler=Settler(),
            class_names=dict(class_names or {}),
        )
        self._width = width
        self._rows = int(np.clip(FRAME_PIXELS // width, *FRAME_ROWS))
        # A frame is bordered by nodata, which nothing is traced in or joined across.
        self._frame = np.full((self._rows + 2, width + 2), NODATA, np.uint8)
        self._scores: Bytes | None = None
        self._filled = 0
        self._top = -1
        self._background = background
        self._traced = np.ones(256, np.bool_)
        self._traced[[background, NODATA]] = False
        self._parts = Components()
        self._groups = Components() if self._options.connectivity == 8 else None
        self._chains: dict[int, Chains] = {}
        self._rings = Waiting()
        self._shapes = Waiting()
        self._statistics = Statistics.none()
        self._splitter = None
        if self._options.instances is not None and self._options.instances < 1:
            area = self._options.instance_area
            self._splitter = Splitter(
                width,
                level=self._options.instances,
                least_area=INSTANCE_AREA if area is None else area,
                transform=transform,
                crs=crs,
                background=background,
            )
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
        done: list[Polygons] = []
        start = 0
        while start < len(class_rows):
            stop = min(len(class_rows), start + self._rows - self._filled)
            into = slice(self._filled, self._filled + stop - start)
            self._frame[1:][into, 1:-1] = class_rows[start:stop]
            if probability_rows is not None:
                if self._scores is None:
                    shape = (len(probability_rows), self._rows + 2, self._width)
                    self._scores = np.full(shape, NODATA, np.uint8)
                self._scores[:, 1:][:, into] = probability_rows[:, start:stop]
            self._filled += stop - start
            start = stop
            if self._filled == self._rows:
                done.append(self._step(last=False))
        return concatenate(done)

    def finish(self) -> Polygons:
        """The objects that end at the scene's last row. No row can follow.

        Raises:
            UsageError: When called twice.
        """
        if self._finished:
            raise UsageError("the tracer is finished; make a new one for another scene")
        self._finished = True
        last = [] if self._splitter is None else [self._take(*self._splitter.finish())]
        self._frame[self._filled + 1] = NODATA
        return concatenate([*last, self._step(last=True)])

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

    def _step(self, *, last: bool) -> Polygons:
        """Work on the frame: the carried row, the filled rows and, at the end, a closing row."""
        rows = self._filled + last
        frame = self._frame[: rows + 1]
        change = frame[:, 1:] != frame[:, :-1]
        runs = find_runs(frame, change, self._traced)
        scores = no_scores(runs)
        if self._scores is not None:
            scores = run_scores(runs, self._scores[:, 1 : self._filled + 1])
        stride = self._width + 1
        found = candidates(frame, change)
        field = Field(
            frame,
            None if self._scores is None else self._scores[:, : rows + 1],
            self._level,
            self._background,
        )
        saddles = find_saddles(field, found) if self._contour else Saddles.none()
        pairs = touching(runs, stride, 4)
        more = saddle_pairs(saddles, field, runs, self._traced)
        pairs = np.concatenate([pairs[0], more[0]]), np.concatenate([pairs[1], more[1]])
        part = self._parts.step(runs, pairs, rows)
        group = part
        if self._groups is not None:
            group = self._groups.step(runs, touching(runs, stride, 8), rows)
        statistics = count(
            self._statistics,
            group,
            runs,
            scores=scores,
            at_nodata=_beside_nodata(frame, runs),
            top=self._top,
            width=self._width,
        )
        crossings = Crossings.of(frame, change) if self._thinned else None
        rings, run = self._closed_rings(field, found, saddles, crossings, runs)
        shapes, owner = self._closed_shapes(rings, part.of_run[run], runs, part, group)
        self._statistics = statistics.take(group.open)
        self._top += self._filled
        self._frame[0] = self._frame[self._filled]
        if self._scores is not None:
            self._scores[:, 0] = self._scores[:, self._filled]
        self._filled = 0
        open_from = int(self._statistics.first.min(initial=SIDE_MAX**2)) // self._width
        return self._hand_out(shapes, owner, statistics, open_from=min(open_from, self._top + 1))

    def _closed_rings(
        self,
        field: Field,
        found: Candidates,
        saddles: Saddles,
        crossings: Crossings | None,
        runs: Runs,
    ) -> tuple[Ragged, Ints]:
        """Simple, canonical rings that close in the frame, and a run inside each."""
        rings, inside = [Ragged.empty()], [np.zeros(0, np.int64)]
        traced = {label for label in found.labels if self._traced[label]}
        for label in sorted(traced | self._chains.keys()):
            chains = self._chains.setdefault(label, Chains())
            if self._by_edge:
                closed, pixel = self._trace_edges(chains, field, saddles, crossings, runs, label)
            else:
                closed, pixel = self._trace_pixels(chains, found, label)
            simple, origin = split_touching(closed)
            rings.append(simple)
            inside.append(runs.at(pixel)[origin])
        return canonical(join(rings)), np.concatenate(inside)

    def _trace_pixels(self, chains: Chains, found: Candidates, label: int) -> tuple[Ragged, Ints]:
        """Closed rings along the pixels' sides, and a pixel inside each."""
        side = sides(found, label)
        rings, piece = chains.link(link_sides(side, above=chains.columns, top=self._top))
        row, column = side.owner
        return rings, (row * (self._width + 1) + column)[piece]

    def _trace_edges(
        self,
        chains: Chains,
        field: Field,
        saddles: Saddles,
        crossings: Crossings | None,
        runs: Runs,
        label: int,
    ) -> tuple[Ragged, Ints]:
        """Closed rings with a vertex for every unit side, and a pixel inside each."""
        edges = unit_edges(field, runs, label)
        links = link_edges(
            edges,
            field,
            saddles,
            label=label,
            above=chains.columns,
            top=self._top,
            contour=self._contour,
            crossings=crossings,
        )
        rings, piece = chains.link(links)
        return rings, owner(edges, piece, field.stride)

    def _closed_shapes(
        self, rings: Ragged, part_of_ring: Ints, runs: Runs, part: Step, group: Step
    ) -> tuple[Ragged, Ints]:
        """The rings of groups that close in the frame, one item a part, and the groups."""
        self._rings.renumber(part.of_old)
        self._rings.add(rings, part_of_ring)
        whole, owner = self._rings.take(~part.open)
        closed = np.flatnonzero(~part.open)
        place = np.cumsum(~part.open) - 1
        shapes = gather(whole, place[owner], signed_area(whole) < 0, len(closed))
        self._rings.renumber(np.where(part.open, part.renumber, -1))
        if self._groups is None:
            return shapes, closed
        group_of_part = np.zeros(part.count, np.int64)
        group_of_part[part.of_run] = group.of_run
        self._shapes.renumber(group.of_old)
        self._shapes.add(shapes, group_of_part[closed])
        taken = self._shapes.take(~group.open)
        self._shapes.renumber(np.where(group.open, group.renumber, -1))
        return taken

    def _hand_out(
        self, shapes: Ragged, owner: Ints, statistics: Statistics, *, open_from: int
    ) -> Polygons:
        """Polygons in canonical order: by last row, then by first pixel."""
        closed = np.unique(owner)
        order = closed[np.lexsort((statistics.first[closed], statistics.bottom[closed]))]
        rank = np.zeros(len(statistics), np.int64)
        rank[order] = np.arange(len(order))
        if len(shapes):
            arranged = np.lexsort((place(shapes.flat[shapes.offsets[:-1]]), rank[owner]))
            shapes, owner = shapes.take(arranged), owner[arranged]
        return self._finish.polygons(
            shapes,
            rank[owner],
            statistics.take(order),
            has_scores=bool(self._has_scores),
            open_from=open_from,
        )


def _beside_nodata(frame: Bytes, runs: Runs) -> Bools:
    """`(run,)` whether nodata or the scene's edge shares a side with the run."""
    flat = frame.reshape(-1)
    # Vertices to pixels of the frame, which has one column more on each side.
    start, stop = runs.start + runs.row + 1, runs.stop + runs.row + 1
    beside = (flat[start - 1] == NODATA) | (flat[stop] == NODATA)
    empty = frame == NODATA
    if len(start) == 0 or not empty[:, 1:-1].any():
        return np.asarray(beside, np.bool_)
    near = np.zeros(frame.shape, np.uint8)
    near[1:] |= empty[:-1]
    near[:-1] |= empty[1:]
    spans = np.stack([start, stop], axis=1).reshape(-1)
    return np.asarray(beside | (np.maximum.reduceat(near.reshape(-1), spans)[::2] > 0), np.bool_)
