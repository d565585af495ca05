"""Scenes read by windows; what lies beyond the edge is reflected."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Self

import numpy as np
import rasterio

from geohr.encoding import Mask, Pixels
from geohr.geobox import Window
from geohr.scene.files import BLOCK_ROWS_MAX, FileReader, is_remote, settings
from geohr.scene.mosaic import MosaicReader, MosaicSource
from geohr.scene.scene import Scene
from geohr.scene.tile import Tile, cut, reach
from geohr.scene.warped import LATTICE, PixelReader, WarpedReader, WarpedSource

CACHE_BYTES = 2**26
"""GDAL's cache of blocks beside what reading downwards needs: it would take a share of memory."""
CACHE_BYTES_MAX = 2**30
"""Most that is taken for the rows of a scene that a row of another grid runs through."""


class SceneReader:
    """A scene with its files open; a context manager.

    Args:
        scene: What to read.

    Raises:
        InputError: When a file is gone or no longer a raster.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._origin = open_origin(scene)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Itself, with GDAL's cache of blocks held to what reading downwards needs."""
        scene = self.scene
        name = next((each for each in scene.files if is_remote(each)), scene.files[0])
        chosen: dict[str, object] = dict(settings(name))
        with self._stack as stack:
            stack.enter_context(rasterio.Env(GDAL_CACHEMAX=cache_bytes(scene), **chosen))
            stack.callback(self.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._stack.close()

    def close(self) -> None:
        """Close the files."""
        self._origin.close()

    def read(self, window: Window) -> Tile:
        """The pixels of `window`; what lies beyond the scene's edge is reflected.

        Returns:
            Tile of the window's own size; without data where the scene's area is not.

        Raises:
            InputError: When the file cannot be read there.
        """
        scene = self.scene
        if scene.area is not None and not scene.area.touches(window):
            return nothing(window, scene)
        inside = reach(window, scene)
        shape = (inside.height, inside.width)
        pixels = np.empty((len(scene.bands), *shape), scene.dtype)
        valid = np.empty(shape, bool)
        self.read_inside(inside, pixels, valid)
        return cut(pixels, valid, inside, window, scene)

    def read_inside(self, window: Window, pixels: Pixels, valid: Mask) -> None:
        """Read a window that lies inside the scene.

        Args:
            window: Where.
            pixels: `(band, row, col)` of the window's size; overwritten.
            valid: `(row, col)`, True = valid; overwritten.

        Raises:
            InputError: When the file cannot be read there.
        """
        self._origin.read_inside(window.shifted(*self.scene.corner), pixels, valid)


def open_origin(scene: Scene) -> PixelReader:
    """What a scene's pixels come from, open."""
    if isinstance(scene.origin, WarpedSource):
        return WarpedReader(
            scene.origin,
            SceneReader(scene.origin.source),
            bands=len(scene.bands),
            dtype=scene.dtype,
        )
    if isinstance(scene.origin, MosaicSource):
        return MosaicReader(scene.origin, SceneReader)
    return FileReader(scene)


def cache_bytes(scene: Scene) -> int:
    """Memory for decoded blocks, so that none is decoded twice when the scene is read downwards."""
    rows = min(scene.block_height, BLOCK_ROWS_MAX)
    if isinstance(scene.origin, WarpedSource):
        source = scene.origin.source
        geobox = scene.origin.geobox
        band = Window(0, 0, min(LATTICE, geobox.height), geobox.width)
        spanned = scene.origin.source_window(band, (1.0, 1.0))
        rows = min(source.block_height, BLOCK_ROWS_MAX) + (spanned.height if spanned else 0)
        scene = source
    pixel = (scene.band_count + scene.mask_band) * np.dtype(scene.dtype).itemsize
    return CACHE_BYTES + min(rows * scene.width * pixel, CACHE_BYTES_MAX)


def nothing(window: Window, scene: Scene) -> Tile:
    """A tile without data."""
    shape = (window.height, window.width)
    return Tile(window, np.zeros((len(scene.bands), *shape), scene.dtype), np.zeros(shape, bool))
