"""Pixels out of a file."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from rasterio.windows import Window as RasterWindow

from geohr.errors import InputError
from geohr.grid import Window
from geohr.redact import redact
from geohr.scene.opening import FAILURES, is_remote, open_raster
from geohr.scene.tiles import Mask, Pixels

if TYPE_CHECKING:
    from geohr.scene.scene import Scene

BLOCK_ROWS_MAX = 2048
"""Blocks up to this height are read whole; of higher ones only the rows that are needed."""
RETRIES = 4
"""How often a part of a remote file is asked for again, with the file opened anew."""
RETRY_SECONDS = 0.5
"""Before the first time; each wait is twice the one before."""
LOG = logging.getLogger("geohr")


class FileReader:
    """A scene's file, open.

    Args:
        scene: Of a file.

    Raises:
        InputError: When the file is gone or no longer a raster.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._raster = open_raster(scene.path)

    def close(self) -> None:
        """Close the file."""
        self._raster.close()

    def read_inside(self, window: Window, pixels: Pixels, valid: Mask) -> None:
        """Read a window of the file; see `geohr.scene.SceneReader.read_inside`."""
        try:
            self._attempt(lambda: self._read(window, pixels, valid))
        except FAILURES as error:
            scene = self._scene
            if scene.on_read_error == "nodata":
                self._read_what_can_be(window, pixels, valid)
                return
            raise InputError(
                f"{scene.path}: cannot be read at rows {window.row} to {window.row_stop} "
                f"({error.__cause__ or error}); the file may be truncated or damaged, in which "
                "case --on-read-error nodata goes on without the blocks that are lost"
            ) from error

    def _read(self, window: Window, pixels: Pixels, valid: Mask) -> None:
        """Read, once."""
        scene = self._scene
        where = RasterWindow(window.col, window.row, window.width, window.height)
        self._raster.read(list(scene.bands), window=where, out=pixels)
        valid[...] = is_valid(pixels, scene)
        if scene.mask_band:
            valid &= self._raster.dataset_mask(window=where) > 0

    def _attempt(self, read: Callable[[], None]) -> None:
        """Read; over a network several times, as answers are cut short now and then."""
        for attempt in range(RETRIES if is_remote(self._scene.path) else 0):
            try:
                self._reopen()
                read()
            except (*FAILURES, InputError) as error:
                LOG.info("%s: read again (%s)", redact(self._scene.path), error)
                time.sleep(RETRY_SECONDS * 2**attempt)
                self._raster.close()
            else:
                return
        self._reopen()
        read()

    def _reopen(self) -> None:
        """Open the file again after an attempt that failed."""
        if self._raster.closed:
            self._raster = open_raster(self._scene.path)

    def _read_what_can_be(self, window: Window, pixels: Pixels, valid: Mask) -> None:
        """Read a window block by block; blocks that cannot be read become no data."""
        scene = self._scene
        height = min(scene.block_height, BLOCK_ROWS_MAX)
        width = self._raster.block_shapes[0][1]
        lost = 0
        reader = FileReader(replace(scene, on_read_error="fail"))
        try:
            for row in range(window.row // height * height, window.row_stop, height):
                for col in range(window.col // width * width, window.col_stop, width):
                    part = Window(row, col, height, width).within(window)
                    rows = slice(part.row - window.row, part.row_stop - window.row)
                    cols = slice(part.col - window.col, part.col_stop - window.col)
                    held = np.zeros((len(pixels), part.height, part.width), pixels.dtype)
                    fine = np.zeros((part.height, part.width), bool)
                    try:
                        reader.read_inside(part, held, fine)
                    except InputError:
                        lost += 1
                        held[:], fine[:] = 0, False
                    pixels[:, rows, cols], valid[rows, cols] = held, fine
        finally:
            reader.close()
        LOG.warning(
            "%s: %d damaged blocks at rows %d to %d taken as no data",
            redact(scene.path), lost, window.row, window.row_stop,
        )  # fmt: skip


def is_valid(pixels: Pixels, scene: Scene) -> Mask:
    """Where pixels are neither nodata nor NaN nor infinite.

    Args:
        pixels: `(band, row, col)`.
        scene: Whose nodata value and rule hold.

    Returns:
        `(row, col)`, True = valid.
    """
    valid = np.ones(pixels.shape[1:], bool)
    if pixels.dtype.kind == "f":
        valid &= np.isfinite(pixels).all(axis=0)
    if scene.nodata is not None and not np.isnan(scene.nodata):
        equal = pixels == scene.nodata
        valid &= ~(equal.all(axis=0) if scene.nodata_match == "all" else equal.any(axis=0))
    return valid
