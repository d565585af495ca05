"""Tiles, and how windows beyond a scene's edge are filled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geohr.encoding import Mask, Pixels
from geohr.geobox import Window


@dataclass(frozen=True)
class Tile:
    """The pixels of one window.

    Attributes:
        window: The window of the scene; beyond the edge of the scene, pixels are reflected.
        pixels: `(band, row, col)`, in the scene's data type.
        valid: `(row, col)`, True = valid.
    """

    window: Window
    pixels: Pixels
    valid: Mask


def reach(window: Window, shape: tuple[int, int]) -> Window:
    """The part of a scene of `shape` (height, width) that fills a window with reflections."""
    rows = reflect(window.row, window.row_stop, shape[0])
    cols = reflect(window.col, window.col_stop, shape[1])
    return Window(int(rows.min()), int(cols.min()), int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1)


def cut(pixels: Pixels, valid: Mask, held: Window, window: Window, shape: tuple[int, int]) -> Tile:
    """A copy of a tile, out of pixels that cover a part of the scene.

    Args:
        pixels: `(band, row, col)` of the part `held`.
        valid: `(row, col)` of the part `held`.
        held: The window that the pixels cover; at least the window's `reach`.
        window: The tile's.
        shape: Rows and columns of the scene.
    """
    if window.clip(*shape) == window:
        place = window.relative_to(held).slices
        return Tile(window, pixels[:, *place].copy(), valid[place].copy())
    rows: Any = reflect(window.row, window.row_stop, shape[0]) - held.row
    cols: Any = reflect(window.col, window.col_stop, shape[1]) - held.col
    # Whole rows first: one axis after the other is several times as fast as both at once.
    across = slice(int(cols.min()), int(cols.max()) + 1)
    cols -= across.start
    pixels, valid = pixels[:, :, across], valid[:, across]
    return Tile(
        window, pixels.take(rows, axis=1).take(cols, axis=2), valid.take(rows, axis=0).take(cols, 1)
    )


def nothing(window: Window, bands: int, dtype: str) -> Tile:
    """Make a tile without data."""
    size = (window.height, window.width)
    return Tile(window, np.zeros((bands, *size), dtype), np.zeros(size, bool))


def reflect(start: int, stop: int, length: int) -> NDArray[np.int64]:
    """Indices `[start, stop)` folded back into `[0, length)`, the edge pixel not repeated."""
    if length == 1:
        return np.zeros(stop - start, np.int64)
    period = 2 * (length - 1)
    folded = np.arange(start, stop) % period
    return np.minimum(folded, period - folded)
