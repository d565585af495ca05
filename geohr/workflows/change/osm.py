"""New buildings as an OSM change file, for a person to review in JOSM before it goes anywhere.

The format is OsmChange 0.6 (https://wiki.openstreetmap.org/wiki/OsmChange). New elements have
negative ids, as editors expect. Nothing is uploaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np
import shapely

from geohr._runtime.files import written_whole
from geohr.workflows.change.output import new_objects

# Decimals of a degree that OSM keeps.
DIGITS = 7
# The largest number of nodes of a way in OpenStreetMap.
NODES_MAX = 2000
HEAD = """<?xml version="1.0" encoding="utf-8"?>
<osmChange version="0.6" generator="geohr">
<create>
"""


def write_osm(changes: Path, out: Path, *, source: str) -> int:
    """Write the new buildings of a GeoPackage of changes, and give their number.

    Args:
        changes: A file that `geohr.workflows.change.compare.compare` wrote.
        out: The .osc to write; it appears when it is whole.
        source: The value of the `source` tag.

    Raises:
        OutputError: When it cannot be written.
    """
    ids = count(-1, -1)
    written = 0
    with written_whole(out) as part, part.open("w", encoding="utf-8") as file:
        file.write(HEAD)
        for shapes, confidence in new_objects(changes):
            for shape, sure in zip(shapes, confidence, strict=True):
                tags = {
                    "building": "yes",
                    "source": source,
                    "note": f"found by a model with confidence {sure:.2f}; review before upload",
                }
                for polygon in shapely.get_parts(shape):
                    for element in building(polygon, tags, ids):
                        file.write(Xml.tostring(element, "unicode") + "\n")
                    written += 1
        file.write("</create>\n</osmChange>\n")
    return written


def building(polygon: Any, tags: dict[str, str], ids: Iterator[int]) -> list[Xml.Element]:
    """A polygon: a closed way, or a multipolygon relation where it has courtyards.

    Elements come before what refers to them.
    """
    made: list[Xml.Element] = []
    ways = []
    for ring in (polygon.exterior, *polygon.interiors):
        made += closed_way(ring, ids)
        ways.append(made[-1])
    tagged = ways[0]
    if len(ways) > 1:
        tagged = Xml.Element("relation", id=str(next(ids)), version="0")
        for index, way in enumerate(ways):
            role = "inner" if index else "outer"
            Xml.SubElement(tagged, "member", type="way", ref=way.attrib["id"], role=role)
        tags = {"type": "multipolygon", **tags}
        made.append(tagged)
    for key, value in tags.items():
        Xml.SubElement(tagged, "tag", k=key, v=value)
    return made


def closed_way(ring: Any, ids: Iterator[int]) -> list[Xml.Element]:
    """A ring as a closed way, after the nodes of its own."""
    points = shapely.get_coordinates(ring)[:-1]
    step = max(1, -(-len(points) // (NODES_MAX - 1)))
    nodes = [
        Xml.Element("node", id=str(next(ids)), version="0", lat=f"{lat:.7f}", lon=f"{lon:.7f}")
        for lon, lat in np.round(points[::step], DIGITS)
    ]
    way = Xml.Element("way", id=str(next(ids)), version="0")
    for node in [*nodes, nodes[0]]:
        Xml.SubElement(way, "nd", ref=node.attrib["id"])
    return [*nodes, way]
