"""The parts of a scene that a web map shows, read when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import rasterio
from morecantile import Tile
from PIL import Image
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import calculate_default_transform, transform_bounds
from rio_tiler.constants import WEB_MERCATOR_TMS
from rio_tiler.reader import part

from geohr.encoding import Bytes, Mask
from geohr.errors import InputError
from geohr.geobox import Bounds, GeoBox
from geohr.scene import Scene, open_raster
from geohr.scene.files import FAILURES, settings
from geohr.viewer.pictures import Picture, Stretch, shown_bands

# The coordinate reference system of maps on the web.
WEB = CRS.from_epsg(3857)
# Side of a tile's picture in pixels.
SIDE = 512
# The finest zoom of the page.
ZOOM_MAX = 24


@dataclass(frozen=True)
class Images:
    """A scene as pictures in web Mercator.

    Attributes:
        scene: The scene, with the bands that are shown.
        stretch: The scene's values to those of a picture.
        web_bounds: Left, bottom, right and top in web Mercator.
        bounds: West, south, east and north in degrees.
        zoom: The zoom at which tiles are as fine as the scene, or just finer.
    """

    scene: Scene
    stretch: Stretch
    web_bounds: Bounds
    bounds: Bounds
    zoom: int

    @classmethod
    def of(cls, scene: Scene) -> Images:
        """Open a scene for pictures.

        Raises:
            InputError: When the scene has no coordinate reference system or cannot be read.
        """
        if scene.crs is None:
            raise InputError(
                f"{scene.path}: has no CRS, so it cannot be placed on a map; "
                "give it one with gdal_edit.py -a_srs"
            )
        transform, width, height = calculate_default_transform(
            scene.crs, WEB, scene.width, scene.height, *scene.geobox.bounds
        )
        web_bounds = GeoBox(WEB, transform, int(height), int(width)).bounds
        shown = shown_bands(scene)
        # The zoom of tiles of 256 pixels whose pixels are twice as large.
        zoom = WEB_MERCATOR_TMS.zoom_for_res(2 * transform.a, zoom_level_strategy="upper")
        return cls(
            scene=shown,
            stretch=Stretch.of(shown),
            web_bounds=web_bounds,
            bounds=transform_bounds(WEB, "OGC:CRS84", *web_bounds),
            zoom=min(int(zoom), ZOOM_MAX),
        )

    def tile(self, zoom: int, col: int, row: int) -> bytes:
        """A tile as PNG, transparent where the scene is not.

        Raises:
            InputError: When there is no such tile, or the file cannot be read.
        """
        bounds = tile_bounds(zoom, col, row)
        west, south, east, north = self.web_bounds
        if bounds[0] >= east or bounds[2] <= west or bounds[1] >= north or bounds[3] <= south:
            return to_png(np.zeros((1, 1, 4), np.uint8))
        return to_png(self._read(bounds, {"height": SIDE, "width": SIDE}).pixels)

    def overview(self, side: int) -> Picture:
        """The whole scene, at most `side` pixels on its longest side.

        Raises:
            InputError: When the file cannot be read.
        """
        return self._read(self.web_bounds, {"max_size": side})

    def _read(self, bounds: Bounds, size: dict[str, int]) -> Picture:
        """A part of the plane, by its web Mercator bounds; transparent where the scene is not.

        Raises:
            InputError: When the file cannot be read.
        """
        scene = self.scene
        options: dict[str, Any] = {
            **size,
            "bounds_crs": WEB,
            "dst_crs": WEB,
            "indexes": scene.bands,
            "nodata": scene.nodata,
            "resampling_method": "bilinear",
            "reproject_method": "bilinear",
            # Even a scene in web Mercator is warped, as its grid may be turned.
            "vrt_options": {"resampling": Resampling.bilinear},
        }
        try:
            # The settings must hold while pixels are read, not only while the file is opened.
            with rasterio.Env(**settings(scene.path)), open_raster(scene.path) as raster:
                image = part(raster, bounds, **options)
        except FAILURES as error:
            raise InputError(
                f"{scene.path}: cannot be read ({error.__cause__ or error})"
            ) from error
        hidden = np.ma.getmaskarray(image.array)
        reduce = np.logical_and if scene.nodata_match == "all" else np.logical_or
        valid: Mask = ~np.asarray(reduce.reduce(hidden, axis=0))
        pixels: Any = image.array.data
        if pixels.dtype.kind == "f":
            valid &= np.isfinite(pixels).all(axis=0)
        return Picture(self.stretch.apply(pixels, valid), bounds)


def tile_bounds(zoom: int, col: int, row: int) -> Bounds:
    """Left, bottom, right and top of a tile in web Mercator, a plane of 2**zoom by 2**zoom tiles.

    Columns count from the west, rows from the north.

    Raises:
        InputError: When there is no such tile.
    """
    if not 0 <= zoom <= ZOOM_MAX or not all(0 <= each < 2**zoom for each in (col, row)):
        raise InputError(f"no tile {zoom}/{col}/{row}")
    bounds = WEB_MERCATOR_TMS.xy_bounds(Tile(x=col, y=row, z=zoom))
    return bounds.left, bounds.bottom, bounds.right, bounds.top


def to_png(pixels: Bytes) -> bytes:
    """A picture as a PNG file, packed quickly rather than tightly."""
    packed = BytesIO()
    Image.fromarray(pixels).save(packed, "PNG", compress_level=1)
    return packed.getvalue()
