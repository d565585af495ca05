"""The capabilities of a Web Map Tile Service (OGC 07-057r7)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlencode
from xml.etree import ElementTree

from affine import Affine

from geohr.errors import InputError
from geohr.geobox import GeoBox
from geohr.geodesy import parse_crs
from geohr.scene.tiles.levels import TileLevel, known_crs, north_first

# Metres of a pixel at a scale of 1, by the standard (section 6.1).
PIXEL = 0.00028
# Metres of a degree at the equator of WGS 84, as the standard counts (annex E).
DEGREE = 111319.49079327358
NAMES = {
    "wmts": "http://www.opengis.net/wmts/1.0",
    "ows": "http://www.opengis.net/ows/1.1",
}
LINK = "{http://www.w3.org/1999/xlink}href"


def read_capabilities(
    text: bytes, name: str, asked: Mapping[str, str]
) -> tuple[str, tuple[TileLevel, ...]]:
    """The template of a layer's tiles, and its levels from coarse to fine.

    Args:
        text: The document.
        name: What the service is called, for messages.
        asked: `layer`, `tilematrixset` and `style`; where there are several and none is asked for,
            a set of tiles in EPSG:3857 is taken, or the first one.

    Raises:
        InputError: When it is no such document, or lacks what was asked for.
    """
    try:
        root = ElementTree.fromstring(text)
        layers = {
            text_of(each, "ows:Identifier"): each for each in find(root, "wmts:Contents/wmts:Layer")
        }
        layer = chosen(layers, asked.get("layer"), name, "layer")
        sets = {
            text_of(each, "ows:Identifier"): each
            for each in find(root, "wmts:Contents/wmts:TileMatrixSet")
        }
        linked = [
            text_of(each, "wmts:TileMatrixSet") for each in find(layer, "wmts:TileMatrixSetLink")
        ]
        usable = {each: sets[each] for each in linked if each in sets}
        set_name = asked.get("tilematrixset") or preferred(usable)
        matrices = chosen(usable, set_name, name, "tilematrixset")
        template = template_of(root, layer, set_name, asked.get("style"))
        return template, levels_of(matrices, name)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{name}: not the capabilities of a WMTS ({type(error).__name__}); give the address "
            "of WMTSCapabilities.xml, or one with REQUEST=GetCapabilities"
        ) from error


def find(element: ElementTree.Element, path: str) -> list[ElementTree.Element]:
    """The elements at a path."""
    return element.findall(path, NAMES)


def text_of(element: ElementTree.Element, path: str) -> str:
    """The text of the first element at a path."""
    return find(element, path)[0].text or ""


def chosen(
    known: Mapping[str, ElementTree.Element], asked: str | None, name: str, what: str
) -> ElementTree.Element:
    """The one that was asked for, or the only one.

    Raises:
        InputError: Naming those that there are.
    """
    if asked is not None and asked in known:
        return known[asked]
    if asked is None and len(known) == 1:
        return next(iter(known.values()))
    if not known:
        raise LookupError(what)
    listed = ", ".join(list(known)[:20])
    raise InputError(f"{name}: choose with {what}= in the address; the service has: {listed}")


def preferred(sets: Mapping[str, ElementTree.Element]) -> str:
    """The first set of tiles in EPSG:3857, else the first."""
    mercator = (each for each in sets if re.search(r"\b(3857|900913)$", crs_of(sets[each])))
    return next(mercator, next(iter(sets)))


def crs_of(matrices: ElementTree.Element) -> str:
    """The CRS of a set of tiles."""
    return text_of(matrices, "ows:SupportedCRS").strip()


def template_of(
    root: ElementTree.Element, layer: ElementTree.Element, matrices: str, style: str | None
) -> str:
    """The addresses of a layer's tiles, of which only the numbers of tiles are left open."""
    styles = find(layer, "wmts:Style")
    usual = [each for each in styles if each.get("isDefault") == "true"] or styles
    known = {
        "style": style or (text_of(usual[0], "ows:Identifier") if usual else "default"),
        "tilematrixset": matrices,
    }
    for dimension in find(layer, "wmts:Dimension"):
        known[text_of(dimension, "ows:Identifier").lower()] = text_of(dimension, "wmts:Default")
    resources = [
        each for each in find(layer, "wmts:ResourceURL") if each.get("resourceType") == "tile"
    ]
    if resources:
        return re.sub(
            r"\{([^{}]*)\}",
            lambda found: known.get(found[1].lower(), found[0]),
            resources[0].attrib["template"],
        )
    operation = "ows:OperationsMetadata/ows:Operation[@name='GetTile']/ows:DCP/ows:HTTP/ows:Get"
    base = find(root, operation)[0].attrib[LINK]
    query = {
        "SERVICE": "WMTS", "REQUEST": "GetTile", "VERSION": "1.0.0",
        "LAYER": text_of(layer, "ows:Identifier"), "STYLE": known["style"],
        "FORMAT": text_of(layer, "wmts:Format"), "TILEMATRIXSET": matrices,
    }  # fmt: skip
    mark = "" if base.endswith(("?", "&")) else "&" if "?" in base else "?"
    return (
        f"{base}{mark}{urlencode(query)}&TILEMATRIX={{TileMatrix}}&TILEROW={{TileRow}}"
        "&TILECOL={TileCol}"
    )


def levels_of(matrices: ElementTree.Element, name: str) -> tuple[TileLevel, ...]:
    """The levels of a set of tiles, from coarse to fine."""
    text = crs_of(matrices)
    crs = known_crs(text, name)
    metres = DEGREE if crs.is_geographic else parse_crs(crs).axis_info[0].unit_conversion_factor
    flipped = north_first(text)
    levels = []
    for each in find(matrices, "wmts:TileMatrix"):
        pixel = float(text_of(each, "wmts:ScaleDenominator")) * PIXEL / metres
        first, second = map(float, text_of(each, "wmts:TopLeftCorner").split())
        left, top = (second, first) if flipped else (first, second)
        height, width = (int(text_of(each, f"wmts:Tile{side}")) for side in ("Height", "Width"))
        rows, cols = (int(text_of(each, f"wmts:Matrix{side}")) for side in ("Height", "Width"))
        grid = GeoBox(crs, Affine(pixel, 0, left, 0, -pixel, top), rows * height, cols * width)
        levels.append(TileLevel(text_of(each, "ows:Identifier"), grid, (height, width)))
    return tuple(sorted(levels, key=lambda level: -level.geobox.transform.a))
