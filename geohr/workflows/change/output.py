"""The GeoPackage of changes: layers, style, and what was found."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import shapely

from geohr._runtime.files import written_whole
from geohr.encoding import Floats, Geometries
from geohr.outputs.layers import append_layer
from geohr.outputs.qgis_style import EPOCH, Style, category_style, write_styles
from geohr.outputs.sld import category_sld
from geohr.polygons.antimeridian import transform_polygons
from geohr.scene.footprints import Footprints
from geohr.workflows.change.verdicts import Changes

# Told apart on imagery and by eyes that do not tell red from green: blue and orange differ in
# lightness, and every kind has its name in the legend.
COLOURS = {
    "new": "#1a9641",
    "gone": "#d7191c",
    "grown": "#2b83ba",
    "shrunk": "#fdae61",
    "reshaped": "#8856a7",
    "same": "#bdbdbd",
    "unsure": "#ffd92f",
}


# Objects that are read again at a time.
PIECE = 20_000


class ChangeWriter:
    """Appends to the layers of one GeoPackage.

    Args:
        path: The file, not yet there.
        plane: The CRS that shapes come in.
        crs: The CRS that they are written in.
    """

    def __init__(self, path: Path, plane: pyproj.CRS, crs: pyproj.CRS) -> None:
        self._path = path
        self._crs = crs
        self._plane = plane
        self._begun: set[str] = set()
        self.facts: dict[str, Any] = {}
        """What was found, for the description of the layer `changes`."""

    def objects(self, layer: str, table: Footprints) -> None:
        """Append objects of one date, with their own ids."""
        columns = {
            "id": table.ids,
            "class": table.names,
            "confidence": table.confidence.astype(np.float32),
        }
        self._write(layer, table.shapes, columns)

    def changes(self, changes: Changes) -> None:
        """Append groups; those that one date does not show go to the layer `not_compared`."""
        columns: dict[str, Any] = {
            "change": changes.change,
            "likely": changes.likely,
            "confidence": changes.confidence.astype(np.float32),
            "class": changes.names,
            "area_before_m2": changes.area_before,
            "area_after_m2": changes.area_after,
            "moved_m": changes.moved,
            "before_ids": changes.before,
            "after_ids": changes.after,
        }
        for layer, chosen in (("changes", ~changes.unseen), ("not_compared", changes.unseen)):
            self._write(
                layer,
                changes.shapes[chosen],
                {name: values[chosen] for name, values in columns.items()},
            )

    def _write(self, layer: str, shapes: Geometries, columns: dict[str, Any]) -> None:
        if layer in self._begun and len(shapes) == 0:
            return
        placed = transform_polygons(shapes, self._plane, self._crs)
        append_layer(self._path, layer, self._crs, placed, columns)
        self._begun.add(layer)


@contextmanager
def open_changes(path: Path, plane: pyproj.CRS, crs: pyproj.CRS) -> Iterator[ChangeWriter]:
    """A GeoPackage of changes that appears when the block ends without an error."""
    with written_whole(path) as part:
        writer = ChangeWriter(part, plane, crs)
        yield writer
        with closing(sqlite3.connect(part)) as database, database:
            database.execute("UPDATE gpkg_contents SET last_change = ?", (EPOCH,))
            add_description(database, writer.facts)
            qml = category_style("change", COLOURS)
            sld = category_sld("changes", "change", COLOURS)
            write_styles(database, "changes", [Style("change", qml, sld, default=True)])


def new_objects(changes: Path) -> Iterator[tuple[Geometries, Floats]]:
    """The new objects of a GeoPackage of changes, some at a time, in longitude and latitude.

    Yields:
        `(n,)` polygons and multipolygons, those of one part as polygons, and `(n,)` confidences.
    """
    start, found = 0, PIECE
    while found == PIECE:
        table = pyogrio.read_dataframe(
            changes,
            layer="changes",
            columns=["confidence"],
            where="change = 'new'",
            skip_features=start,
            max_features=PIECE,
        ).to_crs("EPSG:4326")
        found = len(table)
        start += found
        shapes = np.array(table.geometry, object)
        single = shapely.get_num_geometries(shapes) == 1
        shapes[single] = shapely.get_geometry(shapes[single], 0)
        yield shapes, np.asarray(table["confidence"], np.float64)


def add_description(database: sqlite3.Connection, facts: dict[str, Any]) -> None:
    """Write what was found where QGIS and ogrinfo show it: the description of the layer."""
    database.execute(
        "UPDATE gpkg_contents SET description = ? WHERE table_name = 'changes'",
        (json.dumps(facts, sort_keys=True),),
    )
