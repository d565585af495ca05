"""Tiles, and how windows beyond a scene's edge are filled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geohr.encoding import Mask, Pixels
from geohr.geobox import Window

if TYPE_CHECKING:
    from geohr.scene.scene import Scene


@dataclass(frozen=True)
class Tile:
    """The pixels of one window.

    Attributes:
        window: Where in the scene; it may reach beyond the edge, where pixels are reflected.
        pixels: `(band, row, col)`, in the scene's data type.
        valid: `(row, col)`, True = valid.
    """

    window: Window
    pixels: Pixels
    valid: Mask


def reach(window: Window, scene: Scene) -> Window:
    """The part of the scene from which `window` is filled, reflections included."""
    rows = reflect(window.row, window.row_stop, scene.height)
    cols = reflect(window.col, window.col_stop, scene.width)
    return Window(int(rows.min()), int(cols.min()), int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1)


def cut(pixels: Pixels, valid: Mask, held: Window, window: Window, scene: Scene) -> Tile:
    """A copy of the tile at `window`, out of pixels that cover the part `held` of the scene."""
    inside = window.clip(scene.height, scene.width)
    if inside == window:
        rows: Any = slice(window.row - held.row, window.row_stop - held.row)
        cols: Any = slice(window.col - held.col, window.col_stop - held.col)
        return Tile(window, pixels[:, rows, cols].copy(), valid[rows, cols].copy())
    rows = reflect(window.row, window.row_stop, scene.height) - held.row
    cols = reflect(window.col, window.col_stop, scene.width) - held.col
    # Whole rows first: one axis after the other is several times as fast as both at once.
    across = slice(int(cols.min()), int(cols.max()) + 1)
    cols -= across.start
    pixels, valid = pixels[:, :, across], valid[:, across]
    return Tile(
        window, pixels.take(rows, axis=1).take(cols, axis=2), valid.take(rows, axis=0).take(cols, 1)
    )


def reflect(start: int, stop: int, length: int) -> NDArray[np.int64]:
    """Indices `[start, stop)` folded back into `[0, length)`, the edge pixel not repeated."""
    if length == 1:
        return np.zeros(stop - start, np.int64)
    period = 2 * (length - 1)
    folded = np.arange(start, stop) % period
    return np.minimum(folded, period - folded)
