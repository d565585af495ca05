"""The description of a tile set of OGC API Tiles (OGC 20-057 and 17-083r4)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urljoin

from affine import Affine
from rasterio.crs import CRS

from geohr.errors import InputError
from geohr.geobox import GeoBox
from geohr.scene.tiles.levels import TileLevel, known_crs, north_first, square_levels

# The relation of the link to how tiles are cut.
SCHEME = "http://www.opengis.net/def/rel/ogc/1.0/tiling-scheme"
# The set of tiles that needs no description.
QUAD = "WebMercatorQuad"
# Types of tiles that are pictures.
PICTURES = ("image/png", "image/jpeg", "image/webp", "image/tiff")


def read_tileset(
    fetch: Callable[[str], bytes], address: str, name: str
) -> tuple[str, tuple[TileLevel, ...]]:
    """The template of a tile set's addresses, and its levels from coarse to fine.

    Args:
        fetch: Gives what is at an address.
        address: Of a tile set, such as `.../map/tiles/WebMercatorQuad`, or of a list of them, of
            which that in WebMercatorQuad is taken, or the first.
        name: What the service is called, for messages.

    Raises:
        InputError: When it is no such description.
    """
    try:
        told = json.loads(fetch(address))
        if "tilesets" in told:
            sets = told["tilesets"]
            quads = [each for each in sets if QUAD in str(each.get("tileMatrixSetURI"))]
            address = urljoin(address, link_of((quads or sets)[0], "self"))
            told = json.loads(fetch(address))
        template = urljoin(address, template_of(told))
        if QUAD in str(told.get("tileMatrixSetURI")):
            return template, square_levels(CRS.from_string("EPSG:3857"))
        matrices = json.loads(fetch(urljoin(address, link_of(told, SCHEME))))
        return template, levels_of(matrices, name)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{name}: not a tile set of OGC API Tiles with pictures ({type(error).__name__}); give "
            "an address such as https://host/collections/ortho/map/tiles/WebMercatorQuad"
        ) from error


def link_of(told: Mapping[str, Any], relation: str) -> str:
    """The address of the first link of a relation."""
    return next(str(each["href"]) for each in told["links"] if each["rel"] == relation)


def template_of(told: Mapping[str, Any]) -> str:
    """The addresses of tiles, in the first format that is read."""
    items = [each for each in told["links"] if each["rel"] == "item"]
    pictures = [each for each in items if str(each.get("type")) in PICTURES]
    return str(pictures[0]["href"])


def levels_of(told: Mapping[str, Any], name: str) -> tuple[TileLevel, ...]:
    """The levels of a tile matrix set, from coarse to fine."""
    text = told["crs"] if isinstance(told["crs"], str) else told["crs"]["uri"]
    crs = known_crs(text, name)
    levels = []
    for each in told["tileMatrices"]:
        first, second = map(float, each["pointOfOrigin"])
        left, top = (second, first) if north_first(text) else (first, second)
        pixel, (height, width) = float(each["cellSize"]), (each["tileHeight"], each["tileWidth"])
        rows, cols = each["matrixHeight"] * height, each["matrixWidth"] * width
        grid = GeoBox(crs, Affine(pixel, 0, left, 0, -pixel, top), rows, cols)
        levels.append(TileLevel(str(each["id"]), grid, (height, width)))
    return tuple(sorted(levels, key=lambda level: -level.geobox.transform.a))
