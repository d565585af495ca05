"""What a person decided of an object, kept in the GeoPackage itself."""

from __future__ import annotations

from geohr.errors import InputError, UsageError
from geohr.viewer.database import add_text_column, quote, touch, transaction
from geohr.viewer.objects import DECISIONS, REVIEW, ObjectTable


def keep_review(objects: ObjectTable, identity: int, decision: str | None) -> None:
    """Write a decision (`accepted`, `rejected`, None to take it back) into the column `review`.

    The column is added where it is missing.

    Raises:
        UsageError: For another decision.
        InputError: When there is no such object.
        OutputError: When the file cannot be written.
    """
    if decision is not None and decision not in DECISIONS:
        raise UsageError(f"a review is {' or '.join(DECISIONS)}; got {decision!r}")
    with transaction(objects.path) as file:
        add_text_column(file, objects.layer, REVIEW)
        done = file.execute(
            f"UPDATE {quote(objects.layer)} SET {quote(REVIEW)} = ? "
            f"WHERE {quote(objects.identity)} = ?",
            (decision, identity),
        )
        if done.rowcount == 0:
            raise InputError(f"{objects.path}: has no object {identity}")
        touch(file, objects.layer)
