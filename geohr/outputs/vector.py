"""Polygons into a file, chunk by chunk: it appears under its name when it is whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import numpy as np

from geohr._runtime.files import as_output_error
from geohr.errors import OutputError, UsageError
from geohr.outputs.formats import WRITERS
from geohr.outputs.layers import FormatWriter, LayerInfo
from geohr.polygons.table import Polygons, Totals, concatenate

# Polygons written at a time, whatever the sizes of the chunks that come.
BATCH = 16_384
# The extensions of vector outputs.
EXTENSIONS = tuple(WRITERS)


def check_extension(path: Path) -> str:
    """The lower-case extension of a vector output.

    Raises:
        UsageError: When no writer has it.
    """
    extension = path.suffix.lower()
    if extension not in WRITERS:
        raise UsageError(
            f"{path}: {extension or 'no extension'} is not a vector format; "
            f"name a file that ends in {', '.join(EXTENSIONS)}"
        )
    return extension


def open_vector(
    path: str | Path,
    *,
    crs: Any,
    layer: str | None = None,
    multi: bool = False,
    constants: Mapping[str, str | None] | None = None,
    colours: Mapping[str, str] | None = None,
    provenance: Mapping[str, str] | None = None,
) -> VectorWriter:
    """A file that polygons are appended to.

    Args:
        path: Ends in one of `EXTENSIONS`. An existing file is replaced when the new one is whole.
        crs: The CRS of the polygons, as pyproj understands it, or None.
        layer: Name of the layer; by default the file's name without its extension.
        multi: Whether multipolygons may come; all are then written as such.
        constants: Text columns that are the same in every row, such as the scene's name.
        colours: Class names to "#rrggbb", for the style that a GPKG carries.
        provenance: The metadata of the file, if the format has any.

    Raises:
        UsageError: For an extension without a writer, or a missing extra.
        OutputError: When the file cannot be written.
    """
    path = Path(path)
    writer = WRITERS[check_extension(path)]
    info = LayerInfo(
        name=layer or plain_name(path.stem),
        crs=crs,
        multi=multi,
        constants=dict(constants or {}),
        colours=dict(colours or {}),
        provenance=dict(provenance or {}),
    )
    return VectorWriter(path, writer(path, info))


def plain_name(stem: str) -> str:
    """A file's name as that of a layer, without the signs that formats do not take."""
    return re.sub(r"[^\w .+-]", "_", stem)


class VectorWriter:
    """Holds less than one batch of polygons; `close` makes the file appear, `abort` forgets it.

    As a context manager it closes at the end of the block, and aborts after an error.
    """

    def __init__(self, path: Path, opened: AbstractContextManager[FormatWriter]) -> None:
        self._path = path
        self._opened = opened
        self._writer = opened.__enter__()
        self._waiting: list[Polygons] = []
        self.found = Totals()
        """Polygons that came so far, by class."""

    @property
    def count(self) -> int:
        """Polygons that came so far."""
        return self.found.objects.total()

    def write(self, polygons: Polygons) -> None:
        """Append polygons to the file.

        Raises:
            OutputError: When the disk is full or the folder went away.
        """
        if len(polygons) == 0:
            return
        self.found.add(polygons)
        self._waiting.append(polygons)
        if sum(len(part) for part in self._waiting) < BATCH:
            return
        together = concatenate(self._waiting)
        whole = len(together) // BATCH * BATCH
        for start in range(0, whole, BATCH):
            self._write(together.take(np.arange(start, start + BATCH)))
        self._waiting = [together.take(np.arange(whole, len(together)))]

    def close(self) -> None:
        """Write what is left and give the file its name; an empty layer has all its columns.

        Raises:
            OutputError: When the file cannot be written.
        """
        try:
            self._write(concatenate(self._waiting))
            self._waiting = []
        except BaseException as error:
            self._leave(error)
            raise
        self._leave(None)

    def abort(self) -> None:
        """Remove all temporary files."""
        self._leave(OutputError(f"{self._path}: given up"))

    def _write(self, polygons: Polygons) -> None:
        try:
            self._writer.write(polygons)
        except (OSError, RuntimeError) as error:
            raise as_output_error(error, self._path) from error

    def _leave(self, error: BaseException | None) -> None:
        try:
            self._opened.__exit__(type(error) if error else None, error, None)
        except OutputError as caught:
            if caught is not error:
                raise

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Close, or abort after an error."""
        if error is None:
            self.close()
        else:
            self.abort()
