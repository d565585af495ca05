"""Rows gathered into frames, and the objects that each frame completes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from geohr.encoding import NODATA, PROBABILITY_MAX, Bools, Bytes, Ints
from geohr.options import PolygonOptions
from geohr.polygons.objects import ClosedObjects, OpenObjects, of_runs, run_scores
from geohr.polygons.outlines import (
    Crossings,
    link_edges,
    link_sides,
    owner,
    sides,
    unit_edges,
)
from geohr.polygons.rings import Chains, RaggedArray, canonical, join, split_touching
from geohr.polygons.runs import (
    Candidates,
    Components,
    Field,
    Runs,
    Saddles,
    candidates,
    find_runs,
    find_saddles,
    saddle_pairs,
    touching,
)

# Pixels worked on at a time: enough to keep numpy busy, few enough for the cache.
FRAME_PIXELS = 2**22
# The fewest and the most rows that are processed at a time.
FRAME_ROWS = (64, 1024)


def frame_rows(width: int) -> int:
    """The number of rows of a frame with `width` columns."""
    return int(np.clip(FRAME_PIXELS // width, *FRAME_ROWS))


def slab_stop(start: int, width: int) -> int:
    """The row at which a slab of a rectangle ends that begins in a row.

    It is one of those at which neighbours are cut, too, which may be wider or narrower.
    """
    step = FRAME_ROWS[0]
    return -(-(start + frame_rows(width)) // step) * step


class Frames:
    """Works through rows frame by frame.

    Args:
        width: Columns of the scene.
        options: Outline, connectivity, simplification.
        background: The class id that is not traced; 255 (nodata) never is.
        threshold: The probability at which contours run between a class and the background.
    """

    def __init__(
        self,
        width: int,
        *,
        options: PolygonOptions,
        background: int,
        threshold: float,
    ) -> None:
        self._contour = options.outline == "contour"
        self._thinned = options.tolerance > 0 and not options.regularize
        self._level = threshold * PROBABILITY_MAX
        self._width = width
        self._rows = frame_rows(width)
        # A frame is bordered by nodata, which nothing is traced in or joined across.
        self._frame = np.full((self._rows + 2, width + 2), NODATA, np.uint8)
        self._scores: Bytes | None = None
        self._filled = 0
        self._background = background
        self._traced = np.ones(256, np.bool_)
        self._traced[[background, NODATA]] = False
        # The scene's row that is the frame's first, which is carried from the frame before.
        self._top = -1
        self._parts = Components()
        self._groups = Components() if options.connectivity == 8 else None
        self._objects = OpenObjects()
        self._chains: dict[int, Chains] = {}

    def push(self, classes: Bytes, probabilities: Bytes | None) -> Iterator[ClosedObjects]:
        """Take rows `(row, col)`; the objects that each full frame completes.

        Probabilities are `(class, row, col)`, or None throughout.
        """
        start = 0
        while start < len(classes):
            stop = min(len(classes), start + self._rows - self._filled)
            into = slice(self._filled, self._filled + stop - start)
            self._frame[1:][into, 1:-1] = classes[start:stop]
            if probabilities is not None:
                scores = self._hold_scores(len(probabilities))
                scores[:, 1:][:, into] = probabilities[:, start:stop]
            self._filled += stop - start
            start = stop
            if self._filled == self._rows:
                yield self._step(last=False)

    def finish(self) -> ClosedObjects:
        """The objects that end at the scene's last row, which was the last that came."""
        self._frame[self._filled + 1] = NODATA
        return self._step(last=True)

    @property
    def open_from(self) -> int:
        """The first row of what is still to come."""
        return min(self._objects.first // self._width, self._top + 1)

    def _step(self, *, last: bool) -> ClosedObjects:
        """Work on the carried row, the rows that wait and, at the end, a closing row."""
        rows = self._filled + last
        frame = self._frame[: rows + 1]
        change = frame[:, 1:] != frame[:, :-1]
        runs = find_runs(frame, change, self._traced)
        scores = np.zeros(len(runs.start), np.int64)
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
        group = None
        if self._groups is not None:
            group = self._groups.step(runs, touching(runs, stride, 8), rows)
        crossings = Crossings.of(frame, change) if self._thinned else None
        rings, run = self._closed_rings(field, found, saddles, crossings, runs)
        whole = self._objects.take(
            (rings, part.of_run[run]),
            of_runs(
                runs,
                scores=scores,
                at_nodata=beside_nodata(frame, runs),
                top=self._top,
                width=self._width,
            ),
            part=part,
            group=group,
            group_of_node=(group or part).of_run,
        )
        self._top += self._filled
        self._frame[0] = self._frame[self._filled]
        if self._scores is not None:
            self._scores[:, 0] = self._scores[:, self._filled]
        self._filled = 0
        return whole

    def _hold_scores(self, classes: int) -> Bytes:
        """Make room for the probabilities of the frame."""
        if self._scores is None:
            self._scores = np.full((classes, self._rows + 2, self._width), NODATA, np.uint8)
        return self._scores

    def _closed_rings(
        self,
        field: Field,
        found: Candidates,
        saddles: Saddles,
        crossings: Crossings | None,
        runs: Runs,
    ) -> tuple[RaggedArray, Ints]:
        """Simple, canonical rings that close in the frame, and a run inside each."""
        rings, inside = [RaggedArray.empty()], [np.zeros(0, np.int64)]
        traced = {label for label in found.labels if self._traced[label]}
        for label in sorted(traced | self._chains.keys()):
            chains = self._chains.setdefault(label, Chains())
            if self._contour or self._thinned:
                closed, pixel = self._trace_edges(chains, field, saddles, crossings, runs, label)
            else:
                closed, pixel = self._trace_pixels(chains, found, label)
            simple, origin = split_touching(closed)
            rings.append(simple)
            inside.append(runs.at(pixel)[origin])
        return canonical(join(rings)), np.concatenate(inside)

    def _trace_pixels(
        self, chains: Chains, found: Candidates, label: int
    ) -> tuple[RaggedArray, Ints]:
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
    ) -> tuple[RaggedArray, Ints]:
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


def beside_nodata(frame: Bytes, runs: Runs) -> Bools:
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
