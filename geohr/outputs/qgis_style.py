"""The styles that QGIS and others find: beside a GeoPackage, or in its table `layer_styles`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as Xml

from geohr._runtime.files import STYLE_MARK, STYLE_SUFFIXES, is_kept_style, written_whole
from geohr.outputs.layers import (
    CONFIDENCE_COLOURS,
    FALLBACK_COLOUR,
    UNKNOWN_COLOUR,
    LayerInfo,
)
from geohr.outputs.sld import category_sld, confidence_sld

# Written where a GPKG notes the time of day, so that equal runs give equal bytes.
EPOCH = "1970-01-01T00:00:00.000Z"

# The columns are those that QGIS creates and looks for.
_TABLE = """
CREATE TABLE layer_styles (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
  f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256),
  f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT,
  useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30),
  update_time DATETIME DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')))
"""


@dataclass(frozen=True)
class Style:
    """A style of a layer, in the words of QGIS and in those of all others.

    Attributes:
        name: The column that colours follow.
        qml: The style for QGIS.
        sld: The style as SLD 1.1.
        default: Whether the layer opens with it.
    """

    name: str
    qml: str
    sld: str
    default: bool


def write_style_files(path: Path, info: LayerInfo) -> None:
    """Write the style of a GeoPackage beside it: `NAME.qml`, which QGIS reads, and `NAME.sld`.

    A table `layer_styles` inside it would be a second layer for whoever reads it with GDAL, as
    geopandas does. Colours are those of the classes where there are several, otherwise those of
    the confidence. A style that somebody else made stays.

    Args:
        path: The GeoPackage.
        info: The description of its layer.
    """
    if len(info.colours) > 1:
        qml = category_style("class", info.colours)
        sld = category_sld(info.name, "class", info.colours)
    else:
        qml, sld = confidence_style(), confidence_sld(info.name)
    for suffix, text in zip(STYLE_SUFFIXES, (qml, sld), strict=True):
        style = path.with_suffix(suffix)
        if not is_kept_style(style):
            with written_whole(style) as part:
                part.write_text(f"{text}\n<!-- {STYLE_MARK} -->\n", encoding="utf-8")


def write_styles(database: sqlite3.Connection, layer: str, styles: Sequence[Style]) -> None:
    """Add the table of styles to a GPKG of several layers, for one of them.

    QGIS takes a style beside the file for all of its layers.
    """
    database.execute(_TABLE)
    database.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, last_change) "
        "VALUES ('layer_styles', 'attributes', 'layer_styles', ?)",
        (EPOCH,),
    )
    for style in styles:
        database.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, "
            "f_geometry_column, styleName, styleQML, styleSLD, useAsDefault, description, owner, "
            "update_time) VALUES ('', '', ?, 'geom', ?, ?, ?, ?, ?, '', ?)",
            (
                layer,
                style.name,
                style.qml,
                style.sld,
                style.default,
                f"Coloured by {style.name}",
                EPOCH,
            ),
        )


def confidence_style() -> str:
    """QML with a colour for each step of the column `confidence`; grey where there is none."""
    root, renderer, symbols = _document("RuleRenderer")
    rules = Xml.SubElement(renderer, "rules", key="root")
    for index, (low, colour) in enumerate(CONFIDENCE_COLOURS):
        last = index == len(CONFIDENCE_COLOURS) - 1
        high = 1.0 if last else CONFIDENCE_COLOURS[index + 1][0]
        test = f'"confidence" < {high}' if index == 0 else f'"confidence" >= {low}'
        if index > 0 and not last:
            test += f' AND "confidence" < {high}'
        label = f"below {high:g}" if index == 0 else f"{low:g} to {high:g}"
        Xml.SubElement(rules, "rule", key=f"r{index}", symbol=str(index), filter=test, label=label)
        _symbol(symbols, str(index), colour)
    name = str(len(CONFIDENCE_COLOURS))
    Xml.SubElement(
        rules, "rule", key="none", symbol=name, filter='"confidence" IS NULL', label="unknown"
    )
    _symbol(symbols, name, UNKNOWN_COLOUR)
    return _text(root)


def category_style(column: str, colours: dict[str, str]) -> str:
    """QML with one category for each class name, and one for all others."""
    root, renderer, symbols = _document("categorizedSymbol")
    renderer.set("attr", column)
    categories = Xml.SubElement(renderer, "categories")
    for index, (name, colour) in enumerate([*colours.items(), ("", FALLBACK_COLOUR)]):
        Xml.SubElement(
            categories,
            "category",
            value=name,
            label=name or "other",
            symbol=str(index),
            render="true",
            type="string",
        )
        _symbol(symbols, str(index), colour)
    return _text(root)


def _document(kind: str) -> tuple[Xml.Element, Xml.Element, Xml.Element]:
    root = Xml.Element("qgis", version="3.22", styleCategories="Symbology")
    renderer = Xml.SubElement(root, "renderer-v2", type=kind, enableorderby="0")
    return root, renderer, Xml.SubElement(renderer, "symbols")


def _symbol(symbols: Xml.Element, name: str, colour: str) -> None:
    """A fill of one colour, half transparent, with an outline in full colour."""
    red, green, blue = bytes.fromhex(colour[1:])
    symbol = Xml.SubElement(symbols, "symbol", type="fill", name=name, alpha="1")
    layer = Xml.SubElement(symbol, "layer", {"class": "SimpleFill", "pass": "0", "enabled": "1"})
    options = Xml.SubElement(layer, "Option", type="Map")
    for key, value in (
        ("color", f"{red},{green},{blue},110"),
        ("style", "solid"),
        ("outline_color", f"{red},{green},{blue},255"),
        ("outline_style", "solid"),
        ("outline_width", "0.4"),
        ("outline_width_unit", "MM"),
    ):
        Xml.SubElement(options, "Option", name=key, value=value, type="QString")


def _text(root: Xml.Element) -> str:
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + Xml.tostring(
        root, encoding="unicode"
    )
