"""Styles as SLD 1.1, which GeoServer, MapServer and OpenLayers read; QGIS has its own."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from xml.etree import ElementTree as Xml

from geohr.outputs.layers import CONFIDENCE_COLOURS, FALLBACK_COLOUR, UNKNOWN_COLOUR

NAMESPACES = {
    "xmlns": "http://www.opengis.net/sld",
    "xmlns:ogc": "http://www.opengis.net/ogc",
    "xmlns:se": "http://www.opengis.net/se",
}
# As in QGIS: a fill half transparent, and 0.4 mm of outline on a screen of 96 dots an inch.
FILL = {"fill-opacity": "0.43"}
STROKE = {"stroke-width": "1.5"}


def category_sld(layer: str, column: str, colours: Mapping[str, str]) -> str:
    """SLD with a rule for each value of a column of text, and one for all others."""
    root, style = _document(layer)
    for name, colour in colours.items():
        rule = _rule(style, name)
        equal = Xml.SubElement(Xml.SubElement(rule, "ogc:Filter"), "ogc:PropertyIsEqualTo")
        _compare(equal, column, name)
        _paint(rule, colour)
    rest = _rule(style, "other")
    Xml.SubElement(rest, "se:ElseFilter")
    _paint(rest, FALLBACK_COLOUR)
    return Xml.tostring(root, encoding="unicode")


def confidence_sld(layer: str) -> str:
    """SLD with a rule for each step of the column `confidence`, and one where there is none."""
    root, style = _document(layer)
    # The first step has no lower bound, and the last none above.
    steps = [*CONFIDENCE_COLOURS, (1.0, "")]
    for number, ((low, colour), (high, _)) in enumerate(pairwise(steps)):
        rule = _rule(style, f"{low:g} to {high:g}" if number else f"below {high:g}")
        both = Xml.SubElement(Xml.SubElement(rule, "ogc:Filter"), "ogc:And")
        from_on = Xml.SubElement(both, "ogc:PropertyIsGreaterThanOrEqualTo")
        _compare(from_on, "confidence", f"{low if number else 0:g}")
        last = number == len(CONFIDENCE_COLOURS) - 1
        below = "ogc:PropertyIsLessThanOrEqualTo" if last else "ogc:PropertyIsLessThan"
        _compare(Xml.SubElement(both, below), "confidence", f"{high:g}")
        _paint(rule, colour)
    rule = _rule(style, "unknown")
    missing = Xml.SubElement(Xml.SubElement(rule, "ogc:Filter"), "ogc:PropertyIsNull")
    Xml.SubElement(missing, "ogc:PropertyName").text = "confidence"
    _paint(rule, UNKNOWN_COLOUR)
    return Xml.tostring(root, encoding="unicode")


def _document(layer: str) -> tuple[Xml.Element, Xml.Element]:
    root = Xml.Element("StyledLayerDescriptor", {"version": "1.1.0", **NAMESPACES})
    named = Xml.SubElement(root, "NamedLayer")
    Xml.SubElement(named, "se:Name").text = layer
    style = Xml.SubElement(Xml.SubElement(named, "UserStyle"), "se:FeatureTypeStyle")
    return root, style


def _rule(style: Xml.Element, title: str) -> Xml.Element:
    rule = Xml.SubElement(style, "se:Rule")
    Xml.SubElement(rule, "se:Name").text = title
    return rule


def _compare(operator: Xml.Element, column: str, value: str) -> None:
    """Compare a column with a value."""
    Xml.SubElement(operator, "ogc:PropertyName").text = column
    Xml.SubElement(operator, "ogc:Literal").text = value


def _paint(rule: Xml.Element, colour: str) -> None:
    """Paint polygons in one colour."""
    symbol = Xml.SubElement(rule, "se:PolygonSymbolizer")
    for part, sign in (("fill", FILL), ("stroke", STROKE)):
        holder = Xml.SubElement(symbol, f"se:{part.title()}")
        for name, value in {part: colour, **sign}.items():
            Xml.SubElement(holder, "se:SvgParameter", name=name).text = value
