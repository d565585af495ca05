"""A grid cut into blocks of windows that are predicted independently, and joined again.

Where windows of several blocks touch a pixel, a block holds sums; joining adds them. Sums are
whole numbers, so the result depends neither on how the grid was cut nor on the order of blocks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from geohr.errors import UsageError
from geohr.grid import Grid, Window
from geohr.mosaic import NODATA, Mosaic, Part, Rows

BLOCK_WINDOWS = 16
"""Windows of a block, about: seconds of work, so that little is lost or waited for."""
FILL_ROWS = 64
"""Rows joined at a time, so that their sums take little memory."""
BLOCK_PIXELS = 2**24
"""Pixels of the windows of a block, at most, where a block has several windows."""


@dataclass(frozen=True)
class Block:
    """A rectangle of a grid's windows.

    Attributes:
        index: Place among the grid's blocks.
        row: First grid row.
        row_stop: The grid row after the last.
        col: First grid column.
        col_stop: The grid column after the last.
    """

    index: int
    row: int
    row_stop: int
    col: int
    col_stop: int

    def __len__(self) -> int:
        """How many windows it has."""
        return (self.row_stop - self.row) * (self.col_stop - self.col)


@dataclass(frozen=True)
class BlockScores:
    """What is known of a block's pixels once its windows are predicted.

    Attributes:
        core: The pixels that no other block touches, in the scene; None where there are none.
        finished: `(class, row, col)` of the core, as in `geohr.mosaic.Rows`.
        parts: Sums of the pixels that other blocks touch too; rectangles that do not overlap.
        windows: Windows that were predicted.
    """

    core: Window | None
    finished: NDArray[np.uint8]
    parts: tuple[Part, ...]
    windows: int


@dataclass(frozen=True)
class Cut:
    """How large blocks are.

    Attributes:
        rows: Windows down, at least 1.
        cols: Windows across, at least 1.
    """

    rows: int
    cols: int

    def __post_init__(self) -> None:
        """Refuse an empty block.

        Raises:
            UsageError: When a side is below 1.
        """
        if min(self.rows, self.cols) < 1:
            raise UsageError(f"a block has at least 1x1 windows; got {self.rows}x{self.cols}")

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """What `ROWSxCOLS` says, such as 4x4; None where nothing is said.

        Raises:
            UsageError: When it says something else.
        """
        if text is None:
            return None
        found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
        if found is None:
            raise UsageError(f"a block is ROWSxCOLS windows, such as 4x4; got {text!r}")
        return cls(int(found[1]), int(found[2]))


def block_windows(grid: Grid) -> int:
    """Windows of a block, where nothing else is said."""
    return max(1, min(BLOCK_WINDOWS, BLOCK_PIXELS // grid.tile**2))


def downward(grid: Grid) -> Cut:
    """Blocks that read a scene downwards: several whole grid rows, or a piece of one."""
    size, across = block_windows(grid), grid.shape[1]
    return Cut(max(1, size // across), min(size, across))


def square(grid: Grid) -> Cut:
    """Blocks as high as wide, which share the fewest pixels with others."""
    side = math.isqrt(block_windows(grid))
    return Cut(side, side)


def cut_blocks(grid: Grid, cut: Cut | None = None) -> tuple[Block, ...]:
    """The blocks of a grid, row by row.

    Args:
        grid: The scene's grid.
        cut: How large they are; by default as `downward` says.
    """
    down, across = grid.shape
    cut = cut or downward(grid)
    rows, cols = cut.rows, cut.cols
    places = [(row, col) for row in range(0, down, rows) for col in range(0, across, cols)]
    return tuple(
        Block(index, row, min(row + rows, down), col, min(col + cols, across))
        for index, (row, col) in enumerate(places)
    )


def windows_extent(grid: Grid, block: Block) -> Window:
    """The rectangle of the block's windows, which may reach beyond the scene."""
    top, left = grid.row_starts[block.row], grid.col_starts[block.col]
    bottom = grid.row_starts[block.row_stop - 1] + grid.tile
    right = grid.col_starts[block.col_stop - 1] + grid.tile
    return Window(top, left, bottom - top, right - left)


def extent(grid: Grid, block: Block) -> Window:
    """The scene's pixels that the block's windows touch."""
    return windows_extent(grid, block).clip(grid.height, grid.width)


class Spare:
    """Mosaics that fit any of a grid's blocks, kept when they are no longer needed.

    Args:
        grid: The scene's grid.
        blocks: Of it.
    """

    def __init__(self, grid: Grid, blocks: Iterable[Block]) -> None:
        extents = [extent(grid, block) for block in blocks]
        self.height = max((each.height for each in extents), default=0)
        self.width = max((each.width for each in extents), default=0)
        self.kept: list[Mosaic] = []


def core(grid: Grid, block: Block) -> Window | None:
    """The scene's pixels that windows of this block touch and those of no other; or None."""
    whole = extent(grid, block)
    top, bottom = alone(grid.row_starts, grid.tile, block.row, block.row_stop)
    left, right = alone(grid.col_starts, grid.tile, block.col, block.col_stop)
    top, left = max(top, whole.row), max(left, whole.col)
    bottom, right = min(bottom, whole.row_stop), min(right, whole.col_stop)
    if top >= bottom or left >= right:
        return None
    return Window(top, left, bottom - top, right - left)


def alone(starts: tuple[int, ...], tile: int, first: int, stop: int) -> tuple[int, int]:
    """Pixels along one axis below all windows before `first` and above all from `stop` on."""
    top = starts[first - 1] + tile if first > 0 else starts[0]
    bottom = starts[stop] if stop < len(starts) else starts[-1] + tile
    return top, bottom


def frame(whole: Window, inner: Window | None) -> tuple[Window, ...]:
    """What `whole` has around `inner`, as rectangles: top, bottom, left, right."""
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
    """Sums over the windows of one block.

    Args:
        grid: The scene's grid.
        block: Which block.
        classes: Channels of the scores.
        blend: A name in `geohr.blend.BLENDS`.
        spare: Of blocks that this is one of; a mosaic is taken and given back.
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
        kept = self._spare.kept.pop() if self._spare.kept else None
        if kept is None:
            kept = Mosaic(height, width, classes=classes, reach=height, blend=blend)
        self._mosaic = kept
        self._windows = 0

    def add(self, window: Window, valid: NDArray[np.bool_], scores: NDArray[np.float32]) -> None:
        """Sum one window's scores; see `geohr.mosaic.Mosaic.add`."""
        self._mosaic.add(self._inside(window), valid, scores)
        self._windows += 1

    def scores(self) -> BlockScores:
        """The block, once all its windows have been added; nothing can be added after."""
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
        """A window of the scene, counted from the block's first pixel."""
        row, col = window.row - self._extent.row, window.col - self._extent.col
        return Window(row, col, window.height, window.width)


class Assembler:
    """Blocks in order into finished rows, top to bottom.

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

    def add(self, block: Block, scores: BlockScores) -> Rows | None:
        """Take the next block; rows that no later block touches are handed out.

        Args:
            block: In the grid's order.
            scores: Its scores.
        """
        self._windows += scores.windows
        self._parts += scores.parts
        if scores.core is not None:
            self._cores.append((scores.core, scores.finished))
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
        self._cores = [each for each in self._cores if each[0].row_stop > stop]
        self._parts = [each for each in self._parts if each.window.row_stop > stop]
        windows, self._windows = self._windows, 0
        self._done = stop
        return Rows(start, probabilities, windows)

    def _edges(self, start: int, stop: int) -> list[int]:
        """Rows between which each rectangle that is held covers all rows or none."""
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
    """Whether a rectangle has all rows of `[start, stop)`."""
    return window.row <= start and stop <= window.row_stop
