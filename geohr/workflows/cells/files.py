"""The files of a cell, while they are made: rasters, objects, and what joins it to others."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geohr.encoding import NODATA, PROBABILITY_MAX, Bytes
from geohr.geobox import Window
from geohr.outputs.cog import RasterWriter
from geohr.outputs.write import class_raster, share_raster, vector_writer
from geohr.polygons.fragments import Drawn, RectangleTracer
from geohr.scene import Scene, SceneReader
from geohr.scene.warped import LATTICE
from geohr.stitching.mosaic import classify
from geohr.workflows.cells.plan import Cell, CellPlan
from geohr.workflows.cells.scene import CellView, on_own_grid

# Folders of what cells write, and the extensions of their files.
OBJECTS, FRAGMENTS = "objects", "fragments"
CLASSES, PROBABILITIES = "classes", "probabilities"


def objects_name(cell: str) -> str:
    """The name of the objects of a cell, a partition of a data set."""
    return f"{OBJECTS}/cell={cell}/objects.parquet"


class CellFiles:
    """The files of a cell, while they are made.

    Args:
        plan: The plan.
        view: What the cell is made from.
        cell: The cell.
        folder: The folder of the files until they are whole.
    """

    def __init__(self, plan: CellPlan, view: CellView, cell: Cell, folder: Path) -> None:
        self._plan = plan
        self._view = view
        self._cell = cell
        self._folder = folder
        self._own = view.job.own_scene is view.job.scene
        self._stack = ExitStack()
        self._rasters: list[tuple[str, Any, bool]] = []
        self._vector: Any = None
        self._tracer: RectangleTracer | None = None
        self.objects = 0
        """Objects that were finished."""

    def _path(self, folder: str, suffix: str) -> Path:
        return self._folder / f"{folder}-{self._cell.name}{suffix}"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Open the files for what `push` is given; they are whole when the block ends."""
        job, asked = self._view.job, self._plan.asked
        with ExitStack() as stack:
            for folder, wanted in ((CLASSES, asked.classes), (PROBABILITIES, asked.probs)):
                if wanted:
                    writer = self._raster(folder, self._view.place)
                    if not self._own:
                        writer = self._as_read(folder)
                    self._rasters.append((folder, stack.enter_context(writer), folder == CLASSES))
            if job.polygons:
                path = self._path(OBJECTS, ".parquet")
                self._vector = stack.enter_context(vector_writer(job, path))
                settings = job.trace_settings
                self._tracer = RectangleTracer(settings, self._view.place, self._view.reach)
            yield
            if self._tracer is not None:
                rest, fragment = self._tracer.finish()
                self._write(rest)
                np.savez_compressed(self._path(FRAGMENTS, ".npz"), **fragment.to_arrays())
        if not self._own:
            for folder, _, is_class in self._rasters:
                self._bring(folder, classes=is_class)

    def push(self, start: int, probabilities: Bytes) -> None:
        """Take rows `(class, row, col)` from `start` on, counted from the cell's first window."""
        view, job = self._view, self._view.job
        came = Window(
            start + view.corner[0], view.corner[1], probabilities.shape[1], probabilities.shape[2]
        )
        if not came.intersects(view.reach):
            return
        part = came.within(view.reach)
        scores = probabilities[:, *part.relative_to(came).slices]
        area = job.scene.area
        if area is not None:
            scores = scores.copy()
            scores[:, ~area.mask(part.shifted(job.window.row, job.window.col))] = NODATA
        classes = classify(scores, job.options.threshold)
        if self._tracer is not None:
            self._write(self._tracer.push(classes, scores))
        inside = view.place if self._own else view.reach
        if part.intersects(inside):
            rows = part.within(inside).relative_to(part).slices
            for _, writer, is_class in self._rasters:
                writer.write(classes[rows] if is_class else scores[:, *rows])

    def deliver(self) -> None:
        """Put all files into their place."""
        store, name = self._plan.store, self._cell.name
        for folder, _, _ in self._rasters:
            store.put(f"{folder}/{name}.tif", self._path(folder, ".tif"))
        if self._tracer is not None:
            store.put(objects_name(name), self._path(OBJECTS, ".parquet"))
            store.put(f"{FRAGMENTS}/{name}.npz", self._path(FRAGMENTS, ".npz"))

    def _write(self, done: list[Drawn]) -> None:
        """Append objects to their file."""
        for polygons, _ in done:
            self.objects += len(polygons)
            self._vector.write(self._view.job.to_crs(polygons))

    def _raster(self, folder: str, place: Window) -> RasterWriter:
        """A raster of classes or probabilities, of pixels on the scene's own grid."""
        job, path = self._view.job, self._path(folder, ".tif")
        geobox = job.own_scene.area_geobox.window(place)
        if folder == CLASSES:
            return class_raster(job, path, geobox, {})
        return share_raster(job, path, geobox, [each.name for each in job.card.classes], {})

    def _as_read(self, folder: str) -> RasterWriter:
        """The same on the grid that is predicted on."""
        job = self._view.job
        bands = 1 if folder == CLASSES else len(job.card.classes)
        return RasterWriter(
            self._path(f"read-{folder}", ".tif"),
            job.geobox.window(self._view.reach),
            descriptions=[f"band {number}" for number in range(1, bands + 1)],
            tags={},
            resampling="nearest",
        )

    def _bring(self, folder: str, *, classes: bool) -> None:
        """Bring a raster to the scene's own grid."""
        job, place = self._view.job, self._view.own_place
        made = self._path(f"read-{folder}", ".tif")
        view = on_own_grid(job, Scene.open(made), self._view.reach, classes=classes)
        own = job.own_scene
        with self._raster(folder, place) as writer, SceneReader(view) as reader:
            for rows in resampled(reader, place):
                if own.area is not None:
                    window = rows.window.shifted(own.area_window.row, own.area_window.col)
                    rows.pixels[:, ~own.area.mask(window)] = NODATA
                writer.write(rows.pixels)
        made.unlink()


@dataclass(frozen=True)
class ResampledRows:
    """Rows of a raster on another grid.

    Attributes:
        window: The rows.
        pixels: `(band, row, col)`, 255 where there is no data.
    """

    window: Window
    pixels: Bytes


def resampled(reader: SceneReader, place: Window) -> Generator[ResampledRows]:
    """Read a window by rows, aligned with the blocks in which pixels are made."""
    row = place.row
    while row < place.row_stop:
        stop = min((row // LATTICE + 1) * LATTICE, place.row_stop)
        window = Window(row, place.col, stop - row, place.width)
        tile = reader.read(window)
        # Between two probabilities the kernel may overshoot, up to what means no data.
        pixels = np.minimum(tile.pixels, PROBABILITY_MAX)
        pixels[:, ~tile.valid] = NODATA
        yield ResampledRows(window, pixels)
        row = stop
