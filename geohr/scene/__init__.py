"""Rasters described, brought to the grid they are wanted on, and read by windows.

Pixels are `(band, row, col)` in the raster's own type, masks are `(row, col)` with True = valid.
"""

from geohr.scene.files import BLOCK_ROWS_MAX, is_valid, open_raster
from geohr.scene.reader import CACHE_BYTES, SceneReader
from geohr.scene.scene import Scene
from geohr.scene.tile import Tile, cut, reach, reflect

__all__ = [
    "BLOCK_ROWS_MAX",
    "CACHE_BYTES",
    "Scene",
    "SceneReader",
    "Tile",
    "cut",
    "is_valid",
    "open_raster",
    "reach",
    "reflect",
]
