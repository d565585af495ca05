"""Tiles of a scene, cut from the file when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rasterio.warp import transform_bounds

from geohr.geobox import GeoBox
from geohr.scene import Scene
from geohr.viewer.pictures import WEB, Stretch, read_on_web, shown_bands, to_png, web_grid
from geohr.viewer.web import WebTile, zoom_for

SIDE = 512
"""Of a tile's picture in pixels."""


@dataclass(frozen=True)
class Images:
    """A scene as tiles of a web map.

    Attributes:
        scene: With the bands that are shown.
        stretch: Its values to those of a picture.
        web_bounds: Left, bottom, right and top in web Mercator.
        bounds: West, south, east and north in degrees.
        zoom: At which tiles are as fine as the scene.
    """

    scene: Scene
    stretch: Stretch
    web_bounds: tuple[float, float, float, float]
    bounds: tuple[float, float, float, float]
    zoom: int

    @classmethod
    def of(cls, scene: Scene) -> Images:
        """The tiles of a scene.

        Raises:
            InputError: When it has no coordinate reference system or cannot be read.
        """
        shown = shown_bands(scene)
        geobox = web_grid(shown)
        web_bounds = geobox.bounds
        return cls(
            scene=shown,
            stretch=Stretch.of(shown),
            web_bounds=web_bounds,
            bounds=transform_bounds("EPSG:3857", "OGC:CRS84", *web_bounds),
            zoom=zoom_for(geobox.transform.a, SIDE),
        )

    def tile(self, tile: WebTile) -> bytes:
        """A tile as PNG, transparent where the scene is not.

        Raises:
            InputError: When the file cannot be read.
        """
        left, bottom, right, top = tile.bounds
        west, south, east, north = self.web_bounds
        if left >= east or right <= west or bottom >= north or top <= south:
            return to_png(np.zeros((1, 1, 4), np.uint8))
        geobox = GeoBox(WEB, tile.transform(SIDE), SIDE, SIDE)
        return to_png(read_on_web(self.scene, self.stretch, geobox))
