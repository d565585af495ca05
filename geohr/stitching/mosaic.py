"""The scores of overlapping windows, summed into finished rows.

Sums are whole numbers, so a result depends neither on the order of the windows nor on how they
were grouped. Memory is one band of rows, whatever the scene's height.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from geohr.encoding import NODATA, PROBABILITY_MAX, Mask
from geohr.errors import UsageError
from geohr.geobox import Window
from geohr.stitching.weights import weights

# A score of 1 in fixed point: 12 bits, finer than the uint8 of the result by a factor of 16.
SCORE_MAX = 4095
# The largest sum of weights over one pixel for which scores times weights fit into 32 bits: the sum
# of 16 windows of the largest weight.
WEIGHTS_MAX = (2**32 - 1) // SCORE_MAX
# The number of rows that are processed at a time, so that they stay in the processor's cache.
CHUNK_ROWS = 32


@dataclass(frozen=True)
class ProbabilityRows:
    """Finished rows of the scene, over its full width.

    Attributes:
        start: The first row, counted from the top of the scene.
        probabilities: `(class, row, col)`, uint8: probability x 254, rounded; 255 = no data.
        windows: The number of windows that were summed since the previous rows.
    """

    start: int
    probabilities: NDArray[np.uint8]
    windows: int


@dataclass(frozen=True)
class Part:
    """Sums in a rectangle over some of the windows that touch it; the sums of several parts add up.

    Attributes:
        window: The rectangle, in the scene.
        sums: `(class, row, col)`, of scores in fixed point times weights.
        weights: `(row, col)`, their sum.
        valid: `(row, col)`, True = valid.
    """

    window: Window
    sums: NDArray[np.uint32]
    weights: NDArray[np.uint32]
    valid: Mask

    def probabilities(self) -> NDArray[np.uint8]:
        """The probabilities `(class, row, col)` of the rectangle, once all windows are added."""
        return weighted_means(self.sums, self.weights, self.valid)


class Mosaic:
    """Weighted sums over windows that are added from top to bottom.

    Args:
        height: The number of rows of the scene.
        width: The number of columns of the scene.
        classes: The number of channels of the scores.
        reach: The number of rows of a window, which is the number of rows in memory.
        blend: A name in `geohr.stitching.weights.BLENDS`.

    Attributes:
        reach: The number of rows in memory.
    """

    def __init__(self, height: int, width: int, *, classes: int, reach: int, blend: str) -> None:
        self._height = height
        self._width = width
        self._blend = blend
        self.reach = min(reach, height)
        self._sums = np.zeros((classes, self.reach, width), np.uint32)
        self._weights = np.zeros((self.reach, width), np.uint32)
        self._valid = np.zeros((self.reach, width), bool)
        self._first = 0
        self._windows = 0

    def add(self, window: Window, valid: Mask, scores: NDArray[np.float32]) -> None:
        """Add the `(class, row, col)` scores, in [0, 1], of a window below the finished rows.

        `valid` is `(row, col)`, True = valid; the window may reach beyond the scene.
        """
        inside = window.clip(self._height, self._width)
        rows = slice(inside.row - window.row, inside.row_stop - window.row)
        cols = slice(inside.col - window.col, inside.col_stop - window.col)
        weight = window_weights(self._blend, window.height, window.width)[rows, cols]
        inside_valid = valid[rows, cols]
        if not inside_valid.all():
            # An invalid pixel has no score, so it must not count in the mean of its neighbours.
            weight = np.where(inside_valid, weight, np.uint32(0))
        to_rows = slice(inside.row - self._first, inside.row_stop - self._first)
        to_cols = slice(inside.col, inside.col_stop)
        for channel, sums in zip(scores, self._sums, strict=True):
            add_weighted(channel[rows, cols], weight, sums[to_rows, to_cols])
        self._weights[to_rows, to_cols] += weight
        self._valid[to_rows, to_cols] |= inside_valid
        self._windows += 1

    def part(self, window: Window) -> Part:
        """A copy of the sums so far in a rectangle, whose rows must still be in memory.

        A view would keep all that is held in memory for as long as the part is needed.
        """
        sums, weights, valid = self._views(window)
        return Part(window, sums.copy(), weights.copy(), valid.copy())

    def means(self, window: Window) -> NDArray[np.uint8]:
        """The probabilities `(class, row, col)` of a rectangle whose rows are still in memory."""
        return weighted_means(*self._views(window))

    def clear(self) -> None:
        """Forget all sums, and start again at the first row."""
        for held in (self._sums, self._weights, self._valid):
            held[...] = 0
        self._first = self._windows = 0

    def _views(
        self, window: Window
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.bool_]]:
        """Views of the sums, weights and validity of a rectangle whose rows are in memory."""
        rows = slice(window.row - self._first, window.row_stop - self._first)
        cols = slice(window.col, window.col_stop)
        return self._sums[:, rows, cols], self._weights[rows, cols], self._valid[rows, cols]

    def finish(self, stop: int) -> ProbabilityRows:
        """Return the finished rows above `stop`, and forget them.

        Args:
            stop: No window that is still to come reaches above this row; at most `reach` rows
                below the last one handed out.
        """
        start, count = self._first, stop - self._first
        probabilities = weighted_means(
            self._sums[:, :count], self._weights[:count], self._valid[:count]
        )
        for held in (self._sums.swapaxes(0, 1), self._weights, self._valid):
            # Source and target overlap.
            held[: len(held) - count] = held[count:].copy()
            held[len(held) - count :] = 0
        windows, self._windows = self._windows, 0
        self._first = stop
        return ProbabilityRows(start, probabilities, windows)


def add_weighted(
    scores: NDArray[np.float32], weights: NDArray[np.uint32], sums: NDArray[np.uint32]
) -> None:
    """Add scores in fixed point, times weights, to `sums`; all are `(row, col)` of one shape."""
    # A few rows at a time stay in the processor's cache.
    for start in range(0, len(scores), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        fixed = scores[rows] * np.float32(SCORE_MAX)
        # The conversion cuts off, so that adding a half rounds to the nearest integer.
        fixed += np.float32(0.5)
        whole = fixed.astype(np.uint32)
        whole *= weights[rows]
        sums[rows] += whole


def weighted_means(
    sums: NDArray[np.uint32], weights: NDArray[np.uint32], valid: Mask
) -> NDArray[np.uint8]:
    """Divide weighted sums by their weights.

    Args:
        sums: `(class, row, col)`, of scores in fixed point times weights.
        weights: `(row, col)`, their sum.
        valid: `(row, col)`, True = valid.

    Returns:
        `(class, row, col)`, as in `ProbabilityRows`.

    Raises:
        UsageError: When more windows lie over a pixel than can be summed.
    """
    if weights.max(initial=0) > WEIGHTS_MAX:
        raise UsageError(
            "too many windows or tiles lie over one place to be summed exactly, more than 16 of "
            "full weight; lower the overlap, or leave tiles out"
        )
    probabilities = np.empty(sums.shape, np.uint8)
    for start in range(0, len(weights), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        # Pixels without any weight become nodata below; 1 only avoids a division by 0.
        share = np.float32(PROBABILITY_MAX / SCORE_MAX) / np.maximum(weights[rows], 1).astype(
            np.float32
        )
        for channel, target in zip(sums, probabilities, strict=True):
            mean = channel[rows].astype(np.float32)
            mean *= share
            mean += np.float32(0.5)
            np.copyto(target[rows], mean, casting="unsafe")
    if not valid.all():
        probabilities[:, ~valid] = NODATA
    return probabilities


@lru_cache(maxsize=8)
def window_weights(blend: str, height: int, width: int) -> NDArray[np.uint32]:
    """The weights of a window's pixels, `(row, col)`; see `geohr.stitching.weights`."""
    return weights(blend, height)[:, None] * weights(blend, width)


def classify(probabilities: NDArray[np.uint8], threshold: float | None) -> NDArray[np.uint8]:
    """Assign each pixel to a class.

    Args:
        probabilities: `(class, row, col)`, as in `ProbabilityRows`.
        threshold: From which probability a pixel belongs to its likeliest class; None where it
            must be likelier than the background, which has what the classes leave of 1.

    Returns:
        `(row, col)`, uint8: 0 background, class ids from 1, 255 no data.
    """
    if len(probabilities) == 1 and threshold is not None:
        # The common case, in a fifth of the time.
        only: NDArray[np.uint8] = (probabilities[0] >= np.ceil(threshold * PROBABILITY_MAX)).view(
            np.uint8
        )
        only[probabilities[0] == NODATA] = NODATA
        return only
    if len(probabilities) == 1:
        best: NDArray[np.uint8] = probabilities[0]
        ids = np.uint8(1)
    else:
        best = probabilities.max(axis=0)
        ids = probabilities.argmax(axis=0).astype(np.uint8) + np.uint8(1)
    if threshold is not None:
        kept = best >= np.ceil(threshold * PROBABILITY_MAX)
    else:
        background = PROBABILITY_MAX - probabilities.sum(axis=0, dtype=np.int32)
        kept = best > background
    classes = np.where(kept, ids, np.uint8(0))
    classes[probabilities[0] == NODATA] = NODATA
    return classes
