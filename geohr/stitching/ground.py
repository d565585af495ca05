"""Where outputs lie: the whole scene, or only the area that was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from geohr.encoding import NODATA
from geohr.geobox import Window
from geohr.scene import Scene


@dataclass(frozen=True)
class Ground:
    """The pixels of a scene that outputs hold.

    Attributes:
        scene: The scene that is read.
        window: Its pixels: all, or the smallest window around its area.
    """

    scene: Scene
    window: Window

    @classmethod
    def of(cls, scene: Scene) -> Self:
        """The area of a scene, or all of it."""
        whole = Window(0, 0, scene.height, scene.width)
        bounds = None if scene.area is None else scene.area.bounds(scene.height, scene.width)
        return cls(scene, bounds or whole)

    @property
    def crs(self) -> CRS | None:
        """Of the scene as it is read."""
        return self.scene.crs

    @property
    def transform(self) -> Affine:
        """From (col, row) to its coordinates."""
        return self.scene.transform @ Affine.translation(self.window.col, self.window.row)

    @property
    def height(self) -> int:
        """Rows."""
        return self.window.height

    @property
    def width(self) -> int:
        """Columns."""
        return self.window.width

    def clip(self, start: int, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Rows of the scene without what lies beyond the area.

        Args:
            start: First row in the scene.
            rows: `(..., row, col)` in the scene's full width, 255 where there is no data.

        Returns:
            `(..., row, col)` in this ground's width, 255 beyond the area; as many rows as it has
            of them, so perhaps none.
        """
        area, window = self.scene.area, self.window
        if area is None:
            return rows
        first = max(start, window.row)
        stop = min(start + rows.shape[-2], window.row_stop)
        if first >= stop:
            return rows[..., :0, : window.width]
        inside = Window(first, window.col, stop - first, window.width)
        cut: NDArray[Any] = rows[
            ..., first - start : stop - start, window.col : window.col_stop
        ].copy()
        cut[..., ~area.mask(inside)] = NODATA
        return cut
