"""A grid cut into blocks of windows that are predicted independently, and joined again.

Where windows of several blocks touch a pixel, a block holds sums; joining adds them. Sums are
whole numbers, so the result depends neither on how the grid was cut nor on the order of blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

from geohr.errors import UsageError
from geohr.geobox import Window
from geohr.options import parse_block
from geohr.tiling.grid import Grid

# Windows of a block, about: seconds of work, so that little is lost or waited for.
BLOCK_WINDOWS = 16
# The number of rows that are joined at a time, so that their sums take little memory.
FILL_ROWS = 64
# Pixels of the windows of a block, at most, where a block has several windows.
BLOCK_PIXELS = 2**24


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
        """The number of windows."""
        return (self.row_stop - self.row) * (self.col_stop - self.col)


@dataclass(frozen=True)
class BlockSize:
    """The size of blocks, in windows.

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
        """Parse `ROWSxCOLS`, such as 4x4; None gives None.

        Raises:
            UsageError: When it says something else.
        """
        return None if text is None else cls(*parse_block(text))


def block_windows(grid: Grid) -> int:
    """Windows of a block, where nothing else is said."""
    return max(1, min(BLOCK_WINDOWS, BLOCK_PIXELS // grid.tile**2))


def downward(grid: Grid) -> BlockSize:
    """Blocks that read a scene downwards: several whole grid rows, or a piece of one."""
    size, across = block_windows(grid), grid.shape[1]
    return BlockSize(max(1, size // across), min(size, across))


def square(grid: Grid) -> BlockSize:
    """Blocks as high as wide, which share the fewest pixels with others."""
    side = math.isqrt(block_windows(grid))
    return BlockSize(side, side)


def cut_blocks(grid: Grid, cut: BlockSize | None = None) -> tuple[Block, ...]:
    """The blocks of a grid, row by row; by default those of `downward`."""
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
