"""Whether the windows a scene was cut into can be seen in the result, and where they disagree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from geohr.encoding import NODATA, PROBABILITY_MAX, Batch, Mask
from geohr.geobox import Window
from geohr.tiling.blocks import Block
from geohr.tiling.grid import Grid

# Pixels between a line and what it is compared with, or a multiple: the coarsest stride of HRNet,
# so that the network's own pattern inside a window cancels.
PHASE = 32
# Places compared on each side of a line.
NEIGHBOURS = 5
# Pixels that these places keep from any line.
CLEAR = 3
# Class changes expected at tile lines, without which their rate says nothing.
EVENTS_MIN = 50
# `(2, 3)`: at tile lines and beside them, the pairs of neighbouring valid pixels, the pairs of two
# classes, and the sum of the absolute differences of probability in 1/254.
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class SeamScore:
    """The ratio of what happens at tile lines to what happens beside them; 1 means no seams.

    Attributes:
        changes: Rate of class changes at tile lines over the rate beside; None where objects
            are too few to tell.
        jumps: Mean jump of probability at tile lines over the mean beside; None where there is
            no line or no change of probability.
    """

    changes: float | None
    jumps: float | None

    @classmethod
    def of(cls, counts: Counts) -> Self:
        """The score of what a `SeamMeter` has counted, or of the sum of several."""
        (pairs, changes, jump), (near_pairs, near_changes, near_jump) = counts.tolist()
        if pairs == 0 or near_pairs == 0:
            return cls(None, None)
        expected = near_changes / near_pairs * pairs
        usual = near_jump / near_pairs * pairs
        # Objects that only seams make show in the changes at the lines, not in those beside.
        enough = max(expected, changes) >= EVENTS_MIN
        return cls(
            changes=changes / max(expected, 1.0) if enough else None,
            jumps=jump / max(usual, 1.0) if jump or usual else None,
        )

    @property
    def score(self) -> float | None:
        """The larger of the two; None where neither is known."""
        known = [value for value in (self.changes, self.jumps) if value is not None]
        return max(known, default=None)


class SeamMeter:
    """Counts, on finished probabilities, what happens at tile lines and beside them.

    A tile line is where a window begins or ends. Each is compared with places a few multiples of
    `PHASE` away, where the ground is much the same.

    Args:
        grid: The grid of windows of the scene.
        window: The part of the scene whose rows come; by default all of it.

    Attributes:
        counts: The counts so far.
    """

    def __init__(self, grid: Grid, window: Window | None = None) -> None:
        part = window or Window(0, 0, grid.height, grid.width)
        self.counts: Counts = np.zeros((2, 3), np.int64)
        rows = lines(grid.row_starts, grid.tile, grid.height)
        cols = lines(grid.col_starts, grid.tile, grid.width)
        self._rows = [
            inside(each, part.row, part.height) for each in (rows, beside(rows, grid.height))
        ]
        self._cols = [
            inside(each, part.col, part.width) for each in (cols, beside(cols, grid.width))
        ]
        self._last: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None
        self._next = 0

    def begin(self, row: int, scores: NDArray[np.uint8], classes: NDArray[np.uint8]) -> None:
        """Begin at a row, below one that is counted elsewhere.

        Of that row `scores` has the probabilities `(class, 1, col)`, `classes` the ids `(1, col)`.
        """
        self._last, self._next = (classes.copy(), scores.copy()), row

    def add(self, scores: NDArray[np.uint8], classes: NDArray[np.uint8]) -> None:
        """Count the next rows: `(class, row, col)` probabilities in 1/254, `(row, col)` class ids.

        In both 255 is no data.
        """
        if len(classes) == 0:
            return
        for count, cols in zip(self.counts, self._cols, strict=True):
            count += count_pairs(
                (classes[:, cols - 1], classes[:, cols]), (scores[..., cols - 1], scores[..., cols])
            )
        start, stop = self._next, self._next + len(classes)
        if self._last is not None:
            # The pairs of this first row and the last one of the rows before.
            classes = np.concatenate([self._last[0], classes])
            scores = np.concatenate([self._last[1], scores], axis=1)
            start -= 1
        for count, rows in zip(self.counts, self._rows, strict=True):
            here = rows[(rows > start) & (rows < stop)] - start
            count += count_pairs(
                (classes[here - 1], classes[here]), (scores[:, here - 1], scores[:, here])
            )
        self._last = classes[-1:].copy(), scores[:, -1:].copy()
        self._next = stop

    def score(self) -> SeamScore:
        """The score of all rows so far."""
        return SeamScore.of(self.counts)


def count_pairs(
    classes: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    scores: tuple[NDArray[np.uint8], NDArray[np.uint8]],
) -> tuple[int, int, int]:
    """Pairs, changes and jump of neighbouring pixels; see `Counts`.

    Args:
        classes: The one and the other pixels' class ids, each of the same shape.
        scores: The probabilities of the pixels, `(class, ...)`.
    """
    both = (classes[0] != NODATA) & (classes[1] != NODATA)
    difference = np.abs(scores[0].astype(np.int16) - scores[1])
    return (
        int(both.sum()),
        int((both & (classes[0] != classes[1])).sum()),
        int(difference.sum(where=both, dtype=np.int64)),
    )


def inside(places: NDArray[np.int64], start: int, count: int) -> NDArray[np.int64]:
    """Those of the places between two pixels of a part, counted from its first pixel."""
    shifted = places - start
    return shifted[(shifted > 0) & (shifted < count)]


def lines(starts: tuple[int, ...], tile: int, length: int) -> NDArray[np.int64]:
    """Pixels of one axis at which a window begins or has just ended, inside the scene."""
    ends = {place for start in starts for place in (start, start + tile)}
    return np.array(sorted(place for place in ends if 0 < place < length), np.int64)


def beside(places: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Pixels of one axis to compare tile lines with."""
    steps = np.arange(-NEIGHBOURS, NEIGHBOURS + 1) * PHASE
    near = np.unique(places[:, None] + steps)
    near = near[(near > 0) & (near < length)]
    if len(near) == 0:
        return near
    clear: NDArray[np.bool_] = np.abs(near[:, None] - places).min(axis=1) >= CLEAR
    return np.asarray(near[clear], np.int64)


class Disagreement:
    """The largest less the smallest score that overlapping windows give a pixel, row by row.

    Args:
        grid: The grid of windows of the scene.
        blocks: The blocks of its windows.
    """

    def __init__(self, grid: Grid, blocks: Iterable[Block]) -> None:
        tops = grid.row_starts
        reach = max(tops[each.row_stop - 1] + grid.tile - tops[each.row] for each in blocks)
        shape = (min(reach, grid.height), grid.width)
        self._grid = grid
        self._lowest = np.full(shape, PROBABILITY_MAX, np.uint8)
        self._highest = np.zeros(shape, np.uint8)
        self._valid = np.zeros(shape, bool)
        self._first = 0

    def add(self, window: Window, valid: Mask, scores: Batch) -> None:
        """Add the `(class, row, col)` scores of a window below the rows handed out.

        The largest score of a pixel counts; `valid` is `(row, col)`, True = valid.
        """
        inside = window.clip(self._grid.height, self._grid.width)
        rows = slice(inside.row - window.row, inside.row_stop - window.row)
        cols = slice(inside.col - window.col, inside.col_stop - window.col)
        level = (scores[:, rows, cols].max(axis=0) * PROBABILITY_MAX + 0.5).astype(np.uint8)
        place = (
            slice(inside.row - self._first, inside.row_stop - self._first),
            slice(inside.col, inside.col_stop),
        )
        np.minimum(self._lowest[place], level, out=self._lowest[place])
        np.maximum(self._highest[place], level, out=self._highest[place])
        self._valid[place] |= valid[rows, cols]

    def complete(self, block: Block) -> NDArray[np.uint8] | None:
        """The rows `(row, col)` that no window after `block` touches; None where there are none.

        Values are in 1/254; 255 is no data.
        """
        if block.col_stop < self._grid.shape[1]:
            return None
        stop = self._grid.finished(block.row_stop - 1)[1]
        count = stop - self._first
        if count <= 0:
            return None
        valid = self._valid[:count]
        rows = np.where(valid, self._highest[:count] - self._lowest[:count], np.uint8(NODATA))
        for held, empty in ((self._lowest, PROBABILITY_MAX), (self._highest, 0), (self._valid, 0)):
            held[: len(held) - count] = held[count:].copy()
            held[len(held) - count :] = empty
        self._first = stop
        return rows
