"""What a person decided of an object, kept in the GeoPackage itself."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from geohr.errors import InputError, OutputError, UsageError
from geohr.viewer.objects import DECISIONS, REVIEW, ObjectTable, quote

# The seconds to wait for another program, such as QGIS, that has locked the file.
WAIT_SECONDS = 5.0
# The layer's triggers name them, and SQLite wants them there even where they are not called.
SPATIAL_FUNCTIONS = ("ST_IsEmpty", "ST_MinX", "ST_MinY", "ST_MaxX", "ST_MaxY")


def keep_review(objects: ObjectTable, identity: int, decision: str | None) -> None:
    """Write a decision into the column `review`, which is added where it is missing.

    Args:
        objects: The layer.
        identity: The object's number.
        decision: `accepted`, `rejected`, or None to take it back.

    Raises:
        UsageError: For another decision.
        InputError: When there is no such object.
        OutputError: When the file cannot be written.
    """
    if decision is not None and decision not in DECISIONS:
        raise UsageError(f"a review is {' or '.join(DECISIONS)}; got {decision!r}")
    table = quote(objects.layer)
    try:
        with closing(sqlite3.connect(objects.path, timeout=WAIT_SECONDS)) as file, file:
            known = file.execute(
                f"SELECT 1 FROM {table} WHERE {quote(objects.identity)} = ?", (identity,)
            ).fetchone()
            if known is None:
                raise InputError(f"{objects.path}: has no object {identity}")
            for name in SPATIAL_FUNCTIONS:
                file.create_function(name, 1, refuse)
            if REVIEW not in {row[1] for row in file.execute(f"PRAGMA table_info({table})")}:
                file.execute(f"ALTER TABLE {table} ADD COLUMN {quote(REVIEW)} TEXT")
            file.execute(
                f"UPDATE {table} SET {quote(REVIEW)} = ? WHERE {quote(objects.identity)} = ?",
                (decision, identity),
            )
            file.execute(
                "UPDATE gpkg_contents SET last_change = strftime('%Y-%m-%dT%H:%M:%fZ', 'now') "
                "WHERE table_name = ?",
                (objects.layer,),
            )
    except sqlite3.Error as error:
        raise OutputError(
            f"{objects.path}: the review cannot be written ({error}); close other programs that "
            "hold the file, and check that it is writable"
        ) from error


def refuse(_: object) -> None:
    """A spatial function that nothing may call: a review changes no geometry."""
    raise ValueError("a review changes no geometry")
