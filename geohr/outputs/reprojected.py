"""Rasters that are written on the grid on which a scene was read, and appear on the scene's own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from geohr.encoding import NODATA
from geohr.geobox import GeoBox, Window
from geohr.inference.postprocess import read_probabilities
from geohr.outputs.cog import RasterWriter
from geohr.scene import Scene, SceneReader
from geohr.scene.prepare import warp
from geohr.scene.warped import LATTICE

# Makes the writer of a raster of uint8 on a grid.
MakeWriter = Callable[[Path, GeoBox], RasterWriter]


class RowWriter(Protocol):
    """A raster that is written row by row; a context manager."""

    def __enter__(self) -> Self:
        """Open the writer."""

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Give the raster its name, or leave nothing behind."""

    def write(self, rows: NDArray[np.uint8]) -> None:
        """Append rows `(band, row, col)`, or `(row, col)` for one band."""


class ReprojectedWriter:
    """A raster written row by row on one grid, that appears on another; a context manager.

    Args:
        path: The target.
        made: The grid that rows are of.
        own: The scene on whose grid, and in whose area, the raster is to lie.
        bands: The number of bands.
        sink: Makes the writer of the target.
        classes: Whether values are class ids, of which there is nothing between two.
    """

    def __init__(
        self, path: Path, *, made: GeoBox, own: Scene, bands: int, sink: MakeWriter, classes: bool
    ) -> None:
        self._made = path.with_name(f".{path.stem}.read.tif")
        self._rows = RasterWriter(
            self._made,
            made,
            descriptions=[f"band {number}" for number in range(1, bands + 1)],
            tags={},
            resampling="nearest",
        )
        self._own = own
        self._classes = classes
        self._target = sink(path, own.area_geobox)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Open the target and the temporary file."""
        with self._stack as stack:
            stack.enter_context(self._target)
            stack.callback(self._made.unlink, missing_ok=True)
            stack.push(self._bring)
            stack.enter_context(self._rows)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Bring what was written to the other grid, or leave nothing behind."""
        self._stack.__exit__(kind, error, trace)

    def write(self, rows: NDArray[np.uint8]) -> None:
        """Append rows; see `geohr.outputs.cog.RasterWriter.write`."""
        self._rows.write(rows)

    def _bring(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Read the rows on the other grid, and write them there; after an error do nothing."""
        if error is not None:
            return
        geobox, place = self._own.area_geobox, self._own.area_window
        view = warp(Scene.open(self._made), geobox, nearest=self._classes, by_centre=True)
        full_width = (place.col, self._own.width - place.col_stop)
        with SceneReader(view) as reader:
            for row in range(0, geobox.height, LATTICE):
                window = Window(row, 0, min(LATTICE, geobox.height - row), geobox.width)
                rows = read_probabilities(reader, window)
                rows = np.pad(rows, ((0, 0), (0, 0), full_width), constant_values=NODATA)
                self._target.write(self._own.clip(row + place.row, rows))
