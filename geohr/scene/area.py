"""The part of a scene that is asked for: polygons or a box."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from rasterio.features import rasterize

from geohr.grid import Window
from geohr.scene.tiles import Mask

HAIR = 1e-6
"""Share of a pixel by which a border on a pixel's edge may miss it, as numbers are rounded."""


@dataclass(frozen=True)
class Area:
    """Polygons on a scene's pixel grid.

    Attributes:
        wkb: One polygon or multipolygon, x counted in columns and y in rows of the scene.
    """

    wkb: bytes

    @cached_property
    def shape(self) -> Any:
        """The geometry, with an index for what is asked of it many times."""
        shape = shapely.from_wkb(self.wkb)
        shapely.prepare(shape)
        return shape

    def touches(self, window: Window) -> bool:
        """Whether any of the area lies in a window."""
        box = shapely.box(window.col, window.row, window.col_stop, window.row_stop)
        # A line in common is no area in common.
        return bool(shapely.intersects(self.shape, box) and not shapely.touches(self.shape, box))

    def bounds(self, height: int, width: int) -> Window | None:
        """The smallest window of a scene with every pixel that the area touches; or None."""
        west, north, east, south = shapely.bounds(self.shape)
        row, col = max(int(np.floor(north + HAIR)), 0), max(int(np.floor(west + HAIR)), 0)
        row_stop = min(int(np.ceil(south - HAIR)), height)
        col_stop = min(int(np.ceil(east - HAIR)), width)
        if row >= row_stop or col >= col_stop:
            return None
        return Window(row, col, row_stop - row, col_stop - col)

    def mask(self, window: Window) -> Mask:
        """`(row, col)` of a window: whether the area covers the pixel's centre."""
        near = shapely.clip_by_rect(
            self.shape, window.col - 1, window.row - 1, window.col_stop + 1, window.row_stop + 1
        )
        size = (window.height, window.width)
        if shapely.is_empty(near):
            return np.zeros(size, bool)
        drawn = rasterize(
            [(near, 1)],
            out_shape=size,
            transform=Affine.translation(window.col, window.row),
            dtype=np.uint8,
        )
        return np.asarray(drawn, bool)

    def shifted(self, row: int, col: int) -> Area:
        """The same area on a grid whose first pixel is at `(row, col)` of this one."""

        def shift(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            moved: npt.NDArray[np.float64] = points - np.array([col, row])
            return moved

        return Area(shapely.to_wkb(shapely.transform(self.shape, shift)))
