"""Where pixels lie: windows of a pixel grid."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Window:
    """A rectangle of pixels; it may reach beyond the scene.

    Attributes:
        row: First row.
        col: First column.
        height: Rows, at least 1.
        width: Columns, at least 1.
    """

    row: int
    col: int
    height: int
    width: int

    def __post_init__(self) -> None:
        """Refuse an empty window.

        Raises:
            ValueError: When a side is below 1.
        """
        if self.height < 1 or self.width < 1:
            raise ValueError(
                f"a window has at least 1 x 1 pixels; got {self.height} x {self.width}"
            )

    @property
    def row_stop(self) -> int:
        """The row after the last."""
        return self.row + self.height

    @property
    def col_stop(self) -> int:
        """The column after the last."""
        return self.col + self.width

    def clip(self, height: int, width: int) -> Window:
        """The part inside a scene of `height` x `width` pixels.

        Raises:
            ValueError: When no part of the window is inside.
        """
        return self.within(Window(0, 0, height, width))

    def within(self, other: Window) -> Window:
        """The part inside another window.

        Raises:
            ValueError: When no part of the window is inside.
        """
        row, col = max(self.row, other.row), max(self.col, other.col)
        row_stop, col_stop = min(self.row_stop, other.row_stop), min(self.col_stop, other.col_stop)
        return Window(row, col, row_stop - row, col_stop - col)
