"""Imagery that is served or kept as tiles of fixed zoom levels: XYZ, TMS, WMTS, WMS, PMTiles.

A service has no size and no one resolution: it becomes a `Scene` for an area of interest, at the
zoom level that suits the model (`geohr.scene.tiles.open_tiles`).
"""

from geohr.scene.tiles.address import host_of
from geohr.scene.tiles.open import is_tiled, open_tiles
from geohr.scene.tiles.service import is_service

__all__ = ["host_of", "is_service", "is_tiled", "open_tiles"]
