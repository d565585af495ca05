"""Rasters described, brought to the grid they are wanted on, and read by windows.

Pixels are `(band, row, col)` in the raster's own type, masks are `(row, col)` with True = valid.
"""

from geohr.scene.bands import Band
from geohr.scene.files import BLOCK_ROWS_MAX, is_valid
from geohr.scene.opening import open_raster
from geohr.scene.reading import CACHE_BYTES, SceneReader
from geohr.scene.scene import Scene, ground_sampling_distance
from geohr.scene.tiles import Mask, Pixels, Tile, cut, reach, reflect

__all__ = [
    "BLOCK_ROWS_MAX",
    "CACHE_BYTES",
    "Band",
    "Mask",
    "Pixels",
    "Scene",
    "SceneReader",
    "Tile",
    "cut",
    "ground_sampling_distance",
    "is_valid",
    "open_raster",
    "reach",
    "reflect",
]
