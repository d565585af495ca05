"""Rasters that are made on the grid that a scene was read on, and come out on its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from geohr.encoding import NODATA, PROBABILITY_MAX
from geohr.geobox import Window
from geohr.outputs.cog import HasGrid, RasterWriter
from geohr.scene import Scene, SceneReader
from geohr.scene.prepare import warp
from geohr.scene.warped import LATTICE
from geohr.stitching.ground import Ground

MakeWriter = Callable[[Path, HasGrid], RasterWriter]
"""Makes the sink of a raster of uint8 on some ground."""


class RowWriter(Protocol):
    """A raster that is written row by row; a context manager."""

    def __enter__(self) -> Self:
        """Itself, open."""

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Give the raster its name, or leave nothing behind."""

    def write(self, rows: NDArray[np.uint8]) -> None:
        """Append rows `(band, row, col)`, or `(row, col)` for one band."""


class ReprojectedWriter:
    """A raster written row by row on one ground, that appears on another; a context manager.

    Args:
        path: The target.
        made: The ground that rows are of.
        own: The ground that the raster is to lie on.
        bands: How many there are.
        sink: Makes the sink of the target.
        classes: Whether values are class ids, of which there is nothing between two.
    """

    def __init__(
        self, path: Path, *, made: Ground, own: Ground, bands: int, sink: MakeWriter, classes: bool
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
        self._target = sink(path, own)
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
        """Bring what was written to the other ground, or leave nothing behind."""
        self._stack.__exit__(kind, error, trace)

    def write(self, rows: NDArray[np.uint8]) -> None:
        """Append rows; see `geohr.outputs.cog.RasterWriter.write`."""
        self._rows.write(rows)

    def _bring(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Read the rows on the other ground, and write them there; after an error do nothing."""
        if error is not None:
            return
        own = self._own
        view = warp(
            Scene.open(self._made), own.crs, own.transform, height=own.height, width=own.width,
            nearest=self._classes,
        )  # fmt: skip
        with SceneReader(view) as reader:
            for row in range(0, own.height, LATTICE):
                window = Window(row, 0, min(LATTICE, own.height - row), own.width)
                tile = reader.read(window)
                # Between two probabilities the kernel may overshoot, up to what means no data.
                rows = np.minimum(tile.pixels, PROBABILITY_MAX)
                rows[:, ~tile.valid] = NODATA
                self._target.write(own.clip(row + own.window.row, widened(rows, own)))


def widened(rows: NDArray[np.uint8], ground: Ground) -> NDArray[np.uint8]:
    """Rows of a ground as rows of its whole scene."""
    after = ground.scene.width - ground.window.col_stop
    return np.pad(rows, ((0, 0), (0, 0), (ground.window.col, after)), constant_values=NODATA)
