"""Rows of a GeoPackage written one transaction at a time, its spatial index kept right.

GDAL, through pyogrio, can append rows but neither change nor remove them, so that these are
written with SQLite. The layer's triggers, which keep the spatial index, call functions that the
writing program has to bring (GeoPackage 1.3, annex F.3).
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import shapely

from geohr.errors import OutputError

# The seconds to wait for another program, such as QGIS, that has locked the file.
WAIT_SECONDS = 5.0
# What comes before a geometry in well-known binary: magic, version, flags, id of the CRS.
HEAD = struct.Struct("<2sBBi")
# Flags of a head in little-endian order that is followed by west, east, south and north.
WITH_BOX = 0b0000_0011
# Doubles between head and geometry, by the three bits of the flags that say so.
BOX_DOUBLES = (0, 4, 6, 6, 8)


def quote(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def to_blob(shape: shapely.Geometry, srs_id: int) -> bytes:
    """A geometry, not empty, as a GeoPackage stores it."""
    west, south, east, north = shape.bounds
    box = struct.pack("<4d", west, east, south, north)
    wkb: bytes = shapely.to_wkb(shape, byte_order=1)
    return HEAD.pack(b"GP", 0, WITH_BOX, srs_id) + box + wkb


def from_blob(blob: bytes) -> shapely.Geometry:
    """A geometry out of a GeoPackage.

    Raises:
        ValueError: When it is none.
    """
    kind = blob[3] >> 1 & 7
    if blob[:2] != b"GP" or kind >= len(BOX_DOUBLES):
        raise ValueError("no geometry of a GeoPackage")
    return shapely.from_wkb(blob[HEAD.size + 8 * BOX_DOUBLES[kind] :])


def reader(path: Path) -> sqlite3.Connection:
    """A GeoPackage to read only; whoever asks for it closes it."""
    file = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    file.row_factory = sqlite3.Row
    return file


@contextmanager
def transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """A GeoPackage to write to; all that the block writes is kept, or nothing of it.

    Raises:
        OutputError: When the file cannot be written.
    """
    # A file that was removed in between is not made anew.
    where = f"{path.resolve().as_uri()}?mode=rw"
    try:
        with closing(sqlite3.connect(where, timeout=WAIT_SECONDS, uri=True)) as file, file:
            file.row_factory = sqlite3.Row
            for place, name in enumerate(("ST_MinX", "ST_MinY", "ST_MaxX", "ST_MaxY")):
                file.create_function(name, 1, lambda blob, at=place: from_blob(blob).bounds[at])
            file.create_function(
                "ST_IsEmpty", 1, lambda blob: None if blob is None else from_blob(blob).is_empty
            )
            # Taken before anything is read, so that no other program writes in between.
            file.execute("BEGIN IMMEDIATE")
            yield file
    except sqlite3.Error as error:
        raise OutputError(
            f"{path}: cannot be written ({error}); close other programs that hold the file, and "
            "check that it is writable"
        ) from error


def columns_of(file: sqlite3.Connection, layer: str) -> set[str]:
    """The names of a layer's columns, its number and its geometry among them."""
    return {row[1] for row in file.execute(f"PRAGMA table_info({quote(layer)})")}


def add_text_column(file: sqlite3.Connection, layer: str, name: str) -> None:
    """Add a column of text to a layer that lacks it."""
    if name not in columns_of(file, layer):
        file.execute(f"ALTER TABLE {quote(layer)} ADD COLUMN {quote(name)} TEXT")


def touch(file: sqlite3.Connection, layer: str) -> None:
    """Write down that a layer changed now."""
    file.execute(
        "UPDATE gpkg_contents SET last_change = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') "
        "WHERE table_name = ?",
        (layer,),
    )


def widen(file: sqlite3.Connection, layer: str, shape: Any) -> None:
    """Widen the bounds that the file tells of a layer by those of a shape."""
    west, south, east, north = shape.bounds
    file.execute(
        "UPDATE gpkg_contents SET min_x = min(coalesce(min_x, ?1), ?1), "
        "min_y = min(coalesce(min_y, ?2), ?2), max_x = max(coalesce(max_x, ?3), ?3), "
        "max_y = max(coalesce(max_y, ?4), ?4) WHERE table_name = ?5",
        (west, south, east, north, layer),
    )
