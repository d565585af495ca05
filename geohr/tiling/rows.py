"""Rows of a scene held while its windows are handed out, so that each pixel is read once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from geohr.errors import InputError
from geohr.geobox import Window
from geohr.scene import BLOCK_ROWS_MAX, SceneReader, Tile, cut, nothing, reach
from geohr.tiling.grid import Grid

# A row of windows that needs more memory than this is refused.
BAND_BYTES_MAX = 2**32


class RowBuffer:
    """The rows of a scene that a grid's windows need; going down, each pixel is read once.

    Args:
        reader: The open scene.
        grid: The grid of windows.
    """

    def __init__(self, reader: SceneReader, grid: Grid) -> None:
        scene = reader.scene
        self._reader = reader
        self._grid = grid
        # Blocks up to the limit are read whole, others as far as they are needed.
        self._step = scene.block_height if scene.block_height <= BLOCK_ROWS_MAX else 1
        rows = min(grid.tile + self._step, scene.height)
        size = rows * scene.width * len(scene.bands) * np.dtype(scene.dtype).itemsize
        if size > BAND_BYTES_MAX:
            raise InputError(
                f"{scene.path}: {rows} rows of {scene.width} pixels need {size / 1e9:.1f} GB; "
                "use a smaller --tile, or cut the scene into narrower ones"
            )
        self._pixels = np.empty((len(scene.bands), rows, scene.width), scene.dtype)
        self._valid = np.empty((rows, scene.width), bool)
        self._first = 0
        self._count = 0

    def tiles(self, index: int, start: int = 0, stop: int | None = None) -> Iterator[Tile]:
        """The windows `[start, stop)` of a grid row; by default all. They own their pixels.

        Rows are asked for from top to bottom.

        Raises:
            InputError: When the file cannot be read.
        """
        scene = self._reader.scene
        windows = self._grid.row(index)[start:stop]
        area = scene.area
        wanted = [area is None or area.touches(window) for window in windows]
        if not any(wanted):
            yield from (nothing(window, len(scene.bands), scene.dtype) for window in windows)
            return
        needed = reach(Window(windows[0].row, 0, self._grid.tile, scene.width), scene.geobox.shape)
        self._hold(needed.row, needed.row_stop)
        held = Window(self._first, 0, self._count, scene.width)
        for window, asked in zip(windows, wanted, strict=True):
            if asked:
                yield cut(self._pixels, self._valid, held, window, scene.geobox.shape)
            else:
                yield nothing(window, len(scene.bands), scene.dtype)

    def _hold(self, start: int, stop: int) -> None:
        """Hold the rows `[start, stop)`; forget those above, read those that are missing."""
        scene = self._reader.scene
        top = scene.corner[0]  # blocks are counted from the file's first row
        stop = min(-(-(stop + top) // self._step) * self._step - top, scene.height)
        gone = min(max(start - self._first, 0), self._count)
        kept = self._count - gone
        if gone:
            self._pixels[:, :kept] = self._pixels[:, gone : self._count]
            self._valid[:kept] = self._valid[gone : self._count]
        self._first = self._first + gone if kept else start
        self._count = max(stop - self._first, kept)
        if self._count > kept:
            missing = Window(self._first + kept, 0, self._count - kept, scene.width)
            rows = slice(kept, self._count)
            self._reader.read_into(missing, self._pixels[:, rows], self._valid[rows])
