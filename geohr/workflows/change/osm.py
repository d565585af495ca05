"""New buildings as an OSM change file, for a person to review in JOSM before it goes anywhere.

The format is OsmChange 0.6 (https://wiki.openstreetmap.org/wiki/OsmChange). New elements have
negative ids, as editors expect. Nothing is uploaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np
import pyogrio
import shapely

from geohr._runtime.files import written_whole

# Decimals of a degree that OSM keeps.
DIGITS = 7
# The largest number of nodes of a way in OpenStreetMap.
NODES_MAX = 2000


def write_osm(changes: Path, out: Path, *, source: str) -> int:
    """Write the new buildings of a GeoPackage of changes, and give their number.

    Args:
        changes: A file that `geohr.workflows.change.compare.compare` wrote.
        out: The .osc to write; it appears when it is whole.
        source: The value of the `source` tag.

    Raises:
        OutputError: When it cannot be written.
    """
    new = pyogrio.read_dataframe(changes, layer="changes", where="change = 'new'")
    new = new.to_crs("EPSG:4326")
    root = Xml.Element("osmChange", version="0.6", generator="geohr")
    create = Xml.SubElement(root, "create")
    ids = iter(range(-1, -(10**9), -1))
    written = 0
    for shape, confidence in zip(new.geometry, new["confidence"], strict=True):
        for polygon in shapely.get_parts(shape):
            tags = {
                "building": "yes",
                "source": source,
                "note": f"found by a model with confidence {confidence:.2f}; review before upload",
            }
            add_building(create, polygon, tags, ids)
            written += 1
    # Elements must come before what refers to them.
    order = {"node": 0, "way": 1, "relation": 2}
    create[:] = sorted(create, key=lambda each: order[each.tag])
    Xml.indent(root)
    with written_whole(out) as part:
        part.write_bytes(Xml.tostring(root, encoding="utf-8", xml_declaration=True))
    return written


def add_building(create: Xml.Element, polygon: Any, tags: dict[str, str], ids: Any) -> None:
    """Add a polygon: a closed way, or a multipolygon relation where it has courtyards."""
    ways = [add_way(create, ring, ids) for ring in (polygon.exterior, *polygon.interiors)]
    tagged = ways[0]
    if len(ways) > 1:
        tagged = Xml.SubElement(create, "relation", id=str(next(ids)), version="0")
        for index, way in enumerate(ways):
            role = "inner" if index else "outer"
            Xml.SubElement(tagged, "member", type="way", ref=way.attrib["id"], role=role)
        tags = {"type": "multipolygon", **tags}
    for key, value in tags.items():
        Xml.SubElement(tagged, "tag", k=key, v=value)


def add_way(create: Xml.Element, ring: Any, ids: Any) -> Xml.Element:
    """Add a ring as a closed way with nodes of its own."""
    points = shapely.get_coordinates(ring)[:-1]
    step = max(1, -(-len(points) // (NODES_MAX - 1)))
    places = np.round(points[::step], DIGITS)
    nodes = [
        Xml.SubElement(
            create, "node", id=str(next(ids)), version="0", lat=f"{lat:.7f}", lon=f"{lon:.7f}"
        )
        for lon, lat in places
    ]
    way = Xml.SubElement(create, "way", id=str(next(ids)), version="0")
    for node in [*nodes, nodes[0]]:
        Xml.SubElement(way, "nd", ref=node.attrib["id"])
    return way
