"""Where pixels lie: windows of a pixel grid, and the grid's place on the ground.

odc-geo has a `GeoBox` too. It was measured and left out: importing it takes 0.4 s more than what
geohr imports anyway, as it needs xarray and pandas, and it wraps each CRS into a class of its own,
which is no rasterio CRS and writes other WKT than the file's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine

from geohr.encoding import Floats

if TYPE_CHECKING:
    from rasterio.crs import CRS

# Left, bottom, right and top.
Bounds = tuple[float, float, float, float]


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

    @property
    def slices(self) -> tuple[slice, slice]:
        """The window's rows and columns, as numpy and rasterio take them."""
        return slice(self.row, self.row_stop), slice(self.col, self.col_stop)

    def shifted(self, rows: int, cols: int) -> Window:
        """The window moved down by `rows` and right by `cols`."""
        return Window(self.row + rows, self.col + cols, self.height, self.width)

    def relative_to(self, other: Window) -> Window:
        """The window counted from the first pixel of another one."""
        return self.shifted(-other.row, -other.col)

    def intersects(self, other: Window) -> bool:
        """Whether the window has a pixel in common with another one."""
        return (
            self.row < other.row_stop
            and other.row < self.row_stop
            and self.col < other.col_stop
            and other.col < self.col_stop
        )

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


@dataclass(frozen=True)
class GeoBox:
    """A pixel grid on the ground.

    Attributes:
        crs: Coordinate reference system, or None where it is not known.
        transform: From (col, row) of pixel corners to coordinates of the CRS.
        height: Rows.
        width: Columns.
    """

    crs: CRS | None
    transform: Affine
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, as numpy orders them."""
        return self.height, self.width

    @property
    def extent(self) -> Window:
        """All pixels of the grid."""
        return Window(0, 0, self.height, self.width)

    @property
    def bounds(self) -> Bounds:
        """The smallest box of coordinates around the grid."""
        x, y = self.to_world(
            np.array([0, self.width, 0, self.width]), np.array([0, 0, self.height, self.height])
        )
        return float(x.min()), float(y.min()), float(x.max()), float(y.max())

    def window(self, window: Window) -> GeoBox:
        """The grid of a window, which may reach beyond this one."""
        moved = self.transform @ Affine.translation(window.col, window.row)
        return GeoBox(self.crs, moved, window.height, window.width)

    def to_world(self, cols: Any, rows: Any) -> tuple[Floats, Floats]:
        """Coordinates x and y of points on the grid; (0, 0) is the first pixel's outer corner."""
        return apply_affine(self.transform, cols, rows)

    def to_pixels(self, x: Any, y: Any) -> tuple[Floats, Floats]:
        """Columns and rows of coordinates, as fractions; they may lie outside of the grid."""
        return apply_affine(~self.transform, x, y)


def apply_affine(transform: Affine, x: Any, y: Any) -> tuple[Floats, Floats]:
    """Points `(n,)` and `(n,)` taken through an affine map, array by array.

    `transform @ (x, y)` is for single points in some versions of affine, and rounds otherwise.
    """
    a, b, c, d, e, f = transform[:6]
    return np.asarray(a * x + b * y + c, np.float64), np.asarray(d * x + e * y + f, np.float64)
