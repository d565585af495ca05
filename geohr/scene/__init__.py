"""Rasters described, brought to the grid they are wanted on, and read by windows.

Pixels are `(band, row, col)` in the raster's own type, masks are `(row, col)` with True = valid.
"""

from geohr.scene.files import is_valid, open_raster
from geohr.scene.scene import CACHE_BYTES, Scene, SceneReader
from geohr.scene.source import BLOCK_ROWS_MAX
from geohr.scene.tile import Tile, cut, nothing, reach, reflect

__all__ = [
    "BLOCK_ROWS_MAX",
    "CACHE_BYTES",
    "Scene",
    "SceneReader",
    "Tile",
    "cut",
    "is_valid",
    "nothing",
    "open_raster",
    "reach",
    "reflect",
]
