"""Sums of blocks of windows, joined to whole rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from geohr.encoding import NODATA
from geohr.geobox import Window
from geohr.stitching.mosaic import Mosaic, Part, ProbabilityRows
from geohr.tiling.blocks import FILL_ROWS, Block, extent
from geohr.tiling.grid import Grid


@dataclass(frozen=True)
class BlockScores:
    """The sums of a block whose windows are predicted.

    Attributes:
        core: The pixels that no other block touches, in the scene; None where there are none.
        finished: `(class, row, col)` of the core, as in `geohr.stitching.mosaic.ProbabilityRows`.
        parts: Sums of the pixels that other blocks touch too, in rectangles that do not overlap.
        windows: The number of windows that were predicted.
    """

    core: Window | None
    finished: NDArray[np.uint8]
    parts: tuple[Part, ...]
    windows: int


class Spare:
    """Mosaics that are kept for the blocks still to be predicted, whose memory they fit."""

    def __init__(self, grid: Grid, blocks: Iterable[Block]) -> None:
        extents = [extent(grid, block) for block in blocks]
        self.height = max((each.height for each in extents), default=0)
        self.width = max((each.width for each in extents), default=0)
        self.kept: list[Mosaic] = []


def core(grid: Grid, block: Block) -> Window | None:
    """The pixels of the scene that only windows of this block touch, or None if there are none."""
    whole = extent(grid, block)
    top, bottom = alone(grid.row_starts, grid.tile, block.row, block.row_stop)
    left, right = alone(grid.col_starts, grid.tile, block.col, block.col_stop)
    top, left = max(top, whole.row), max(left, whole.col)
    bottom, right = min(bottom, whole.row_stop), min(right, whole.col_stop)
    if top >= bottom or left >= right:
        return None
    return Window(top, left, bottom - top, right - left)


def alone(starts: tuple[int, ...], tile: int, first: int, stop: int) -> tuple[int, int]:
    """The pixels along one axis that only the windows `[first, stop)` touch."""
    top = starts[first - 1] + tile if first > 0 else starts[0]
    bottom = starts[stop] if stop < len(starts) else starts[-1] + tile
    return top, bottom


def frame(whole: Window, inner: Window | None) -> tuple[Window, ...]:
    """The part of `whole` around `inner`, as rectangles: top, bottom, left, right."""
    if inner is None:
        return (whole,)
    sides = (
        (whole.row, whole.col, inner.row, whole.col_stop),
        (inner.row_stop, whole.col, whole.row_stop, whole.col_stop),
        (inner.row, whole.col, inner.row_stop, inner.col),
        (inner.row, inner.col_stop, inner.row_stop, whole.col_stop),
    )
    return tuple(
        Window(row, col, row_stop - row, col_stop - col)
        for row, col, row_stop, col_stop in sides
        if row < row_stop and col < col_stop
    )


class BlockMosaic:
    """The weighted sums over the windows of one block.

    Args:
        grid: The scene's grid.
        block: The block.
        classes: The number of channels of the scores.
        blend: A name in `geohr.stitching.weights.BLENDS`.
        spare: Mosaics to reuse; the block's mosaic is taken from here and given back.
    """

    def __init__(
        self,
        grid: Grid,
        block: Block,
        *,
        classes: int,
        blend: str,
        spare: Spare | None = None,
    ) -> None:
        self._extent = extent(grid, block)
        self._core = core(grid, block)
        self._classes = classes
        self._spare = spare or Spare(grid, [block])
        height, width = self._spare.height, self._spare.width
        # Clearing a mosaic takes less time than getting fresh memory from the system.
        kept = self._spare.kept.pop() if self._spare.kept else None
        if kept is None:
            kept = Mosaic(height, width, classes=classes, reach=height, blend=blend)
        self._mosaic = kept
        self._windows = 0

    def add(self, window: Window, valid: NDArray[np.bool_], scores: NDArray[np.float32]) -> None:
        """Add the scores of one window; see `geohr.stitching.mosaic.Mosaic.add`."""
        self._mosaic.add(self._inside(window), valid, scores)
        self._windows += 1

    def scores(self) -> BlockScores:
        """The sums of the block, after its last window; no more windows can be added."""
        finished = np.empty((self._classes, 0, 0), np.uint8)
        if self._core is not None:
            finished = self._mosaic.means(self._inside(self._core))
        parts = tuple(
            replace(self._mosaic.part(self._inside(side)), window=side)
            for side in frame(self._extent, self._core)
        )
        self._mosaic.clear()
        self._spare.kept.append(self._mosaic)
        return BlockScores(self._core, finished, parts, self._windows)

    def _inside(self, window: Window) -> Window:
        """Move a window of the scene to the coordinates of the block."""
        row, col = window.row - self._extent.row, window.col - self._extent.col
        return Window(row, col, window.height, window.width)


class Assembler:
    """Joins blocks, given in order, into finished rows from top to bottom.

    Args:
        grid: The scene's grid.
        classes: Channels of the scores.
        rows: Those that are wanted, `[start, stop)`; by default all. Blocks are then those whose
            windows touch them.
    """

    def __init__(self, grid: Grid, *, classes: int, rows: tuple[int, int] | None = None) -> None:
        self._grid = grid
        self._classes = classes
        self._cores: list[tuple[Window, NDArray[np.uint8]]] = []
        self._parts: list[Part] = []
        self._done, self._end = rows or (0, grid.height)
        self._windows = 0

    def add(self, block: Block, scores: BlockScores) -> ProbabilityRows | None:
        """Take the sums of the next block, and return the rows that no later block touches."""
        self._windows += scores.windows
        self._parts += scores.parts
        if scores.core is not None:
            self._cores.append((scores.core, scores.finished))
        # The last block of a row of blocks finishes rows; the others only add to them.
        if block.col_stop < self._grid.shape[1]:
            return None
        start, stop = self._done, self._grid.finished(block.row_stop - 1)[1]
        stop = min(stop, self._end)
        if stop <= start:
            return None
        probabilities = np.full((self._classes, stop - start, self._grid.width), NODATA, np.uint8)
        for first, last in pairwise(self._edges(start, stop)):
            for top in range(first, last, FILL_ROWS):
                bottom = min(top + FILL_ROWS, last)
                self._fill(probabilities[:, top - start : bottom - start], top, bottom)
        # Dropping what ends above keeps the memory at one row of blocks.
        self._cores = [each for each in self._cores if each[0].row_stop > stop]
        self._parts = [each for each in self._parts if each.window.row_stop > stop]
        windows, self._windows = self._windows, 0
        self._done = stop
        return ProbabilityRows(start, probabilities, windows)

    def _edges(self, start: int, stop: int) -> list[int]:
        """Rows that cut `[start, stop)` so that each rectangle covers all of a cut or nothing."""
        windows = [window for window, _ in self._cores] + [part.window for part in self._parts]
        edges = {edge for each in windows for edge in (each.row, each.row_stop)}
        return sorted({start, stop} | {edge for edge in edges if start < edge < stop})

    def _fill(self, target: NDArray[np.uint8], start: int, stop: int) -> None:
        """Write the probabilities of the rows `[start, stop)`."""
        parts = [part for part in self._parts if covers(part.window, start, stop)]
        if parts:
            shape = (stop - start, target.shape[2])
            total = Part(
                Window(start, 0, *shape),
                np.zeros((self._classes, *shape), np.uint32),
                np.zeros(shape, np.uint32),
                np.zeros(shape, bool),
            )
            # The sums are integers, so that the order of the parts changes nothing.
            for part in parts:
                rows = slice(start - part.window.row, stop - part.window.row)
                cols = slice(part.window.col, part.window.col_stop)
                total.sums[:, :, cols] += part.sums[:, rows]
                total.weights[:, cols] += part.weights[rows]
                total.valid[:, cols] |= part.valid[rows]
            target[...] = total.probabilities()
        for window, finished in self._cores:
            if covers(window, start, stop):
                rows = slice(start - window.row, stop - window.row)
                target[:, :, window.col : window.col_stop] = finished[:, rows]


def covers(window: Window, start: int, stop: int) -> bool:
    """Whether a rectangle covers all rows `[start, stop)`."""
    return window.row <= start and stop <= window.row_stop
