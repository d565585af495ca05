"""A height and a width cut into overlapping windows. Integers only.

Rows and columns are counted from the scene's upper left pixel; ranges are `[start, stop)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from geohr.errors import UsageError
from geohr.geobox import Window
from geohr.options import COARSEST_STRIDE

# The windows that lie over a pixel at most along one axis, where `overlap` is at most 3/4 of them:
# `geohr.stitching.mosaic` can sum 4 x 4.
DEEPEST = 4


@dataclass(frozen=True)
class Grid:
    """Windows of one size that cover a scene, row by row; indexed and iterated like a sequence.

    Several windows reach `margin` pixels beyond each of the scene's edges, so that a pixel at the
    edge lies as deep in its window as any other. Along each axis there are as few windows as
    cover that span, spread evenly; neighbours share at least `overlap` pixels. A side that fits
    into one window gets one, centred. All windows begin at multiples of `step`, and reach further
    beyond the edges where they must for that.

    Attributes:
        height: Rows of the scene, in pixels.
        width: Columns of the scene, in pixels.
        tile: Side of a window, in pixels.
        overlap: Pixels that neighbouring windows share at least, in [0, tile).
        margin: Pixels by which the windows reach beyond the scene; by default `overlap // 2`.
        step: Pixels of the lattice on which windows begin, in [1, tile - overlap].
        given_rows: First rows of the windows where they are part of a larger grid, else None.
        given_cols: First columns likewise.
    """

    height: int
    width: int
    tile: int
    overlap: int
    margin: int | None = None
    step: int = 1
    given_rows: tuple[int, ...] | None = None
    given_cols: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse a grid that cannot cover.

        Raises:
            UsageError: When the windows cannot cover the scene.
        """
        if self.height < 1 or self.width < 1:
            raise UsageError(f"a scene has at least 1 x 1 pixels; got {self.height} x {self.width}")
        if self.tile < 1:
            raise UsageError(f"tile must be at least 1 pixel; got {self.tile}")
        if not 0 <= self.overlap < self.tile:
            raise UsageError(f"overlap must be in [0, tile={self.tile}); got {self.overlap}")
        if not 1 <= self.step <= self.tile - self.overlap:
            raise UsageError(
                f"step must be in [1, tile - overlap={self.tile - self.overlap}]; got {self.step}"
            )
        if self.margin is None:
            # The class is frozen, and this default depends on another field.
            object.__setattr__(self, "margin", self.overlap // 2)

    @cached_property
    def row_starts(self) -> tuple[int, ...]:
        """First rows of the windows, ascending."""
        if self.given_rows is not None:
            return self.given_rows
        return self._starts(self.height)

    @cached_property
    def col_starts(self) -> tuple[int, ...]:
        """First columns of the windows, ascending."""
        if self.given_cols is not None:
            return self.given_cols
        return self._starts(self.width)

    def _starts(self, length: int) -> tuple[int, ...]:
        return starts(length, self.tile, self.overlap, margin=self.margin or 0, step=self.step)

    @property
    def shape(self) -> tuple[int, int]:
        """Windows down and windows across."""
        return len(self.row_starts), len(self.col_starts)

    def __len__(self) -> int:
        """The number of windows."""
        rows, cols = self.shape
        return rows * cols

    def __getitem__(self, index: int) -> Window:
        """The window at `index`, counted along rows; negative from the end.

        Raises:
            IndexError: Beyond the last window.
        """
        rows, cols = self.shape
        if not -rows * cols <= index < rows * cols:
            raise IndexError(f"grid has {rows * cols} windows; got index {index}")
        row, col = divmod(index % (rows * cols), cols)
        return Window(self.row_starts[row], self.col_starts[col], self.tile, self.tile)

    def __iter__(self) -> Iterator[Window]:
        """All windows, row by row."""
        for row in range(self.shape[0]):
            yield from self.row(row)

    def row(self, index: int) -> tuple[Window, ...]:
        """The windows of one grid row, left to right."""
        start = self.row_starts[index]
        return tuple(Window(start, col, self.tile, self.tile) for col in self.col_starts)

    def part(self, wanted: Window) -> tuple[Window, Grid]:
        """The windows that touch a part of the scene, as a grid of their own.

        Args:
            wanted: Inside the scene.

        Returns:
            The window of the scene that holds what these windows need, and the grid of that
            window; its windows lie where they lie in this grid.
        """
        rows = touching(self.row_starts, self.tile, wanted.row, wanted.row_stop)
        cols = touching(self.col_starts, self.tile, wanted.col, wanted.col_stop)
        reach = Window(
            rows[0], cols[0], rows[-1] - rows[0] + self.tile, cols[-1] - cols[0] + self.tile
        ).clip(self.height, self.width)
        return reach, Grid(
            reach.height,
            reach.width,
            self.tile,
            self.overlap,
            self.margin,
            self.step,
            tuple(top - reach.row for top in rows),
            tuple(left - reach.col for left in cols),
        )

    def finished(self, index: int) -> tuple[int, int]:
        """Scene rows `[start, stop)` that no grid row after `index` touches, but `index` does."""
        tops = self.row_starts
        start = 0 if index == 0 else max(tops[index], 0)
        last = index + 1 == len(tops)
        return start, self.height if last else min(max(tops[index + 1], 0), self.height)


def touching(starts: tuple[int, ...], tile: int, first: int, stop: int) -> list[int]:
    """Those of the windows along one axis that touch the pixels `[first, stop)`."""
    return [start for start in starts if start < stop and start + tile > first]


def starts(length: int, tile: int, overlap: int, *, margin: int, step: int) -> tuple[int, ...]:
    """First pixels of the windows along an axis of `length` pixels; see `Grid`."""
    least, most = ceil_div(margin, step), (tile - length - margin) // step
    if length <= tile:
        # Where both margins fit, the window begins by `least` to `most` steps before the axis.
        steps = (tile - length) // 2 // step
        return (-(min(max(steps, least), most) if least <= most else steps) * step,)
    # In steps of the lattice: as few windows as reach from one margin to the other, spread evenly.
    spans = least + ceil_div(length + margin - tile, step)
    pitch = (tile - overlap) // step
    gaps = ceil_div(spans, pitch)
    if gaps >= DEEPEST and spans * DEEPEST // gaps * step < tile <= DEEPEST * pitch * step:
        # Closer together than they need be, more windows would lie over a pixel than can be summed.
        least += (gaps * pitch - spans) // 2
        spans = gaps * pitch
    return tuple((spans * index // gaps - least) * step for index in range(gaps + 1))


def ceil_div(amount: int, part: int) -> int:
    """The number of parts that hold an amount: the quotient, rounded up."""
    return -(-amount // part)


def lattice(tile: int, overlap: int) -> int:
    """The step of a grid of windows for a network, from pixels of a window and of its overlap.

    A network with a coarsest stride of 32 sees the same object the same in two windows only when
    these are multiples of 32 apart. Windows that move by less cannot have that.
    """
    return COARSEST_STRIDE if tile - overlap >= COARSEST_STRIDE else 1
