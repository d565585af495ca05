"""Zoom levels: the pixel grids in which tiles are cut (OGC 17-083r4, Tile Matrix Set)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyproj
from affine import Affine
from rasterio.crs import CRS

from geohr.errors import InputError
from geohr.geobox import GeoBox, Window
from geohr.geodesy import ground_sampling_distance, parse_crs

# Half of the side of the square world of EPSG:3857 in metres: pi times the earth's radius there.
MERCATOR_HALF = 20037508.342789244
# Zoom levels of a square world: at the last, a pixel is less than 5 mm wide.
LEVELS = 25
# The side of a tile in pixels where a service does not say.
SIDE = 256


@dataclass(frozen=True)
class TileLevel:
    """One zoom level.

    Attributes:
        name: What addresses call it, such as 18.
        geobox: The pixel grid of the whole level.
        tile: Height and width of a tile in pixels.
    """

    name: str
    geobox: GeoBox
    tile: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of tiles."""
        height, width = self.tile
        return -(-self.geobox.height // height), -(-self.geobox.width // width)

    def window(self, row: int, col: int) -> Window:
        """The pixels of a tile."""
        height, width = self.tile
        return Window(row * height, col * width, height, width)

    def tiles_around(self, window: Window, margin: int) -> Window:
        """The pixels of all tiles that a window touches, and of `margin` tiles around them."""
        height, width = self.tile
        rows, cols = self.shape
        top = max(window.row // height - margin, 0)
        left = max(window.col // width - margin, 0)
        bottom = min(-(-window.row_stop // height) + margin, rows)
        right = min(-(-window.col_stop // width) + margin, cols)
        return Window(
            top * height, left * width, (bottom - top) * height, (right - left) * width
        ).clip(self.geobox.height, self.geobox.width)

    def gsd_at(self, window: Window) -> float:
        """Ground sampling distance in metres in the middle of a window."""
        return ground_sampling_distance(self.geobox.window(window))


def square_levels(crs: CRS, side: int = SIDE) -> tuple[TileLevel, ...]:
    """The levels of a square world that is halved at each: WebMercatorQuad for EPSG:3857.

    Tiles have `side` pixels; a CRS in degrees gets a world of 360 degrees.
    """
    half = 180.0 if crs.is_geographic else MERCATOR_HALF
    levels = []
    for zoom in range(LEVELS):
        pixels = side * 2**zoom
        size = 2 * half / pixels
        transform = Affine(size, 0, -half, 0, -size, half)
        levels.append(TileLevel(str(zoom), GeoBox(crs, transform, pixels, pixels), (side, side)))
    return tuple(levels)


def known_crs(text: str, name: str) -> CRS:
    """A CRS that a service names.

    Raises:
        InputError: When PROJ does not know it.
    """
    try:
        return CRS.from_wkt(parse_crs(text).to_wkt())
    except InputError as error:
        raise InputError(
            f"{name}: its tiles are in a CRS that PROJ does not know, {text}"
        ) from error


def north_first(text: str) -> bool:
    """Whether the authority of a CRS gives its northing or latitude first."""
    axes = pyproj.CRS(text).axis_info
    return bool(axes) and axes[0].direction.lower() in ("north", "south")


def best_level(levels: Sequence[TileLevel], window: Window, coarsest: float) -> int:
    """The place of the coarsest level with pixels of at most `coarsest` metres, else the last.

    Levels go from coarse to fine, and `window` is the area in pixels of the last. Coarser levels
    have fewer tiles to ask for.
    """
    finest = levels[-1]
    gsd = finest.gsd_at(window)
    for place, level in enumerate(levels):
        if gsd * abs(level.geobox.transform.a / finest.geobox.transform.a) <= coarsest:
            return place
    return len(levels) - 1
