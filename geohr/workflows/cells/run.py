"""One cell from its scenes to its files, in any process, at any time, once."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rasterio

from geohr import __version__
from geohr._runtime.depots import FolderDepot
from geohr._runtime.progress import phase
from geohr._runtime.redact import redact
from geohr._runtime.stop import Stop
from geohr.encoding import NODATA, PROBABILITY_MAX, Bytes
from geohr.engines.predictor import Engine
from geohr.errors import GeohrError, InputError, InterruptedRunError, LockedError
from geohr.geobox import Window
from geohr.inference.checkpoint import WORK_FOLDER, work_folder
from geohr.inference.executor import LocalExecutor
from geohr.inference.pipeline import Progress, predict_rows
from geohr.models.model import Model
from geohr.outputs.cog import RasterWriter
from geohr.outputs.write import class_raster, share_raster, vector_writer
from geohr.polygons import Polygons
from geohr.scene import Scene, SceneReader
from geohr.scene.warped import LATTICE
from geohr.stitching.mosaic import classify
from geohr.tiling.blocks import cut_blocks, downward
from geohr.workflows.cells.plan import Cell, CellPlan
from geohr.workflows.cells.scene import CellView, cell_view, on_own_grid, zone_job
from geohr.workflows.cells.trace import CellTracer

# Folders of what cells write, and the extensions of their files.
OBJECTS, FRAGMENTS = "objects", "fragments"
CLASSES, PROBABILITIES = "classes", "probabilities"
# What may become of a cell.
STATES = ("done", "skipped", "locked", "failed")
# The folders of files that say what became of a cell.
DONE, FAILED = "done", "failed"


def objects_name(cell: str) -> str:
    """The name of the objects of a cell, a partition of a data set."""
    return f"{OBJECTS}/cell={cell}/objects.parquet"


@dataclass(frozen=True)
class CellResult:
    """What a marker says.

    Attributes:
        cell: The name of the cell.
        objects: Objects that were finished in it; those that cross its edges come with the join.
        windows: Windows that were predicted.
        km2: Square kilometres.
        seconds: From start to end.
        engine: The engine that predicted.
        finished: Seconds since 1970, by the clock of who made it.
        version: The version of geohr.
    """

    cell: str
    objects: int
    windows: int
    km2: float
    seconds: float
    engine: str
    finished: float
    version: str = __version__

    @classmethod
    def read(cls, content: bytes) -> CellResult:
        """The result in a marker."""
        return cls(**json.loads(content))


class CellListener(Protocol):
    """Told what becomes of cells."""

    def began(self, cell: Cell, *, place: int, count: int) -> None:
        """A cell is being made."""

    def ended(self, cell: Cell, state: str, detail: str) -> None:
        """A cell is done, was done before (skipped), is another task's (locked), or failed."""


class CellRunner:
    """Makes cells of a plan, with one engine for all of them.

    Args:
        plan: The plan.
        model: Its model.
        work_dir: The folder of finished blocks and of files until they are whole; by default
            inside of the plan's folder, or the system's for temporary files.
        resume: Keep finished blocks, and use those of an earlier run.
        stop: When requested, the blocks in hand are finished and no other is begun.
        executor: The executor; by default this process.

    Raises:
        InputError: When the model is not the one that the plan was made for.
    """

    def __init__(
        self,
        plan: CellPlan,
        model: Model,
        *,
        work_dir: Path | None = None,
        resume: bool = True,
        stop: Stop | None = None,
        executor: LocalExecutor | None = None,
    ) -> None:
        if model.digest != plan.model_digest:
            raise InputError(
                f"{plan.model}: is another model than the plan was made for; make the plan again"
            )
        self._plan = plan
        self._model = model
        self._resume = resume
        self._stop = stop or Stop()
        self._executor = executor or LocalExecutor()
        self._engine: Engine | None = None
        depot = plan.depot
        home = depot.root / WORK_FOLDER if isinstance(depot, FolderDepot) else None
        self._work = work_dir or home or Path(tempfile.gettempdir()) / "geohr-cells"

    def run(self, cell: Cell, progress: Progress | None = None) -> CellResult | None:
        """Make a cell, unless it is done; see `run_cells`.

        Returns:
            What was made; None where it was done before.

        Raises:
            InputError: When a scene cannot be read, or was changed since the plan was made.
            OutputError: When its files cannot be written.
            EngineError: When the engine is not there.
            LockedError: When another task is making it.
            InterruptedRunError: When asked to stop.
        """
        plan, depot = self._plan, self._plan.depot
        marker = plan.marker(cell, DONE)
        if depot.read(marker) is not None:
            return None
        with depot.locked(cell.name, what=f"cell {cell.name}"):
            if depot.read(marker) is not None:
                return None
            for name in depot.sizes(DONE):
                # Of an earlier plan, whose files are about to be written over.
                if name.startswith(f"{DONE}/{cell.name}-"):
                    depot.delete(name)
            result = self._make(cell, progress)
            depot.put(marker, json.dumps(asdict(result)).encode())
            depot.delete(plan.marker(cell, FAILED))
        return result

    def _make(self, cell: Cell, progress: Progress | None) -> CellResult:
        """Make a cell's files and put them into their place."""
        started = time.monotonic()
        view = self._view(cell)
        fingerprint = {
            "cell": self._plan.marker(cell),
            "gdal": rasterio.__gdal_version__,
            "machine": self._executor.machine,
            "engine": view.job.engine.name,
        }
        blocks = len(cut_blocks(view.grid, downward(view.grid)))
        with work_folder(
            self._work, _work_name(self._plan.marker(cell)), fingerprint, resume=self._resume
        ) as work:
            files = CellFiles(self._plan, view, cell, work.folder)
            rows = predict_rows(
                view.scene,
                view.grid,
                self._executor.predictor,
                normalizer=view.job.normalizer,
                classes=len(view.job.card.classes),
                blend=view.job.options.blend,
                progress=progress,
                store=work if blocks > 1 and self._resume else None,
                stop=self._stop,
            )
            phase("predicting")
            windows = 0
            with files.writing(), closing(rows):
                for each in rows:
                    windows += each.windows
                    files.push(each.start, each.probabilities)
            phase("writing")
            files.deliver()
        return CellResult(
            cell.name,
            files.objects,
            windows,
            cell.km2,
            round(time.monotonic() - started, 3),
            view.job.engine.name,
            time.time(),
        )

    def _view(self, cell: Cell) -> CellView:
        """What a cell is made from, with the engine ready."""
        plan = self._plan
        zone = plan.zones[cell.zone]
        job = zone_job(plan, zone, [zone.scenes[each] for each in cell.scenes], self._model)
        if self._engine is None:
            self._engine = self._executor.open(
                self._model, job.grid.tile, job.options, job.calibration
            )
        job = replace(job, engine=self._engine)
        return cell_view(job, cell.place(zone), cell.own_place(zone))


def _work_name(marker: str) -> str:
    """The name of a cell's work folder, as `geohr clean` knows them."""
    name, _, digest = Path(marker).stem.rpartition("-")
    return f"{name}-{digest[:8]}"


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
        self._tracer: CellTracer | None = None
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
                self._tracer = CellTracer(job.trace_settings, self._view.place, self._view.reach)
            yield
            if self._tracer is not None:
                polygons, fragments = self._tracer.finish()
                self._write(polygons)
                self._path(FRAGMENTS, ".npz").write_bytes(fragments.to_bytes())
        if not self._own:
            for folder, _, is_class in self._rasters:
                self._bring(folder, classes=is_class)

    def push(self, start: int, probabilities: Bytes) -> None:
        """Take rows of the windows of the cell.

        Args:
            start: First row, counted from that of the cell's first window.
            probabilities: `(class, row, col)`.
        """
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
        depot, name = self._plan.depot, self._cell.name
        for folder, _, _ in self._rasters:
            depot.put(f"{folder}/{name}.tif", self._path(folder, ".tif"))
        if self._tracer is not None:
            depot.put(objects_name(name), self._path(OBJECTS, ".parquet"))
            depot.put(f"{FRAGMENTS}/{name}.npz", self._path(FRAGMENTS, ".npz"))

    def _write(self, polygons: Polygons) -> None:
        """Append objects to their file."""
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


def attempt(
    runner: CellRunner, plan: CellPlan, cell: Cell, progress: Progress | None = None
) -> tuple[str, str, Exception | None]:
    """Make a cell, or find why not.

    Returns:
        Whether it is done, skipped, locked or failed; a detail for people; the error.

    Raises:
        InterruptedRunError: When asked to stop.
    """
    try:
        result = runner.run(cell, progress)
    except InterruptedRunError:
        raise
    except LockedError as error:
        return "locked", str(error), error
    except (GeohrError, OSError) as error:
        reason = redact(" ".join(str(error).split()))
        _note_failure(plan, cell, reason, error)
        return "failed", reason, error
    if result is None:
        return "skipped", "", None
    return "done", f"{result.objects} objects, {result.seconds:.1f} s", None


def run_cells(
    runner: CellRunner, plan: CellPlan, cells: Sequence[Cell], listener: CellListener
) -> dict[str, int]:
    """Make cells one after the other; one that fails does not end the rest.

    Args:
        runner: What makes them.
        plan: The plan.
        cells: Which.
        listener: Told what becomes of each.

    Returns:
        How many are done, skipped, locked and failed.

    Raises:
        InterruptedRunError: When asked to stop.
        GeohrError: Where there is one cell, whatever it failed for.
    """
    counts = dict.fromkeys(STATES, 0)
    for place, cell in enumerate(cells, start=1):
        listener.began(cell, place=place, count=len(cells))
        state, detail, error = attempt(runner, plan, cell)
        if error is not None and len(cells) == 1:
            raise error
        counts[state] += 1
        listener.ended(cell, state, detail)
    return counts


def _note_failure(plan: CellPlan, cell: Cell, reason: str, error: Exception) -> None:
    """Leave word of why a cell failed, where that can be written."""
    code = error.exit_code if isinstance(error, GeohrError) else GeohrError.exit_code
    told = {"cell": cell.name, "error": reason, "code": code, "time": time.time()}
    try:
        plan.depot.put(plan.marker(cell, FAILED), json.dumps(told).encode())
    except (GeohrError, OSError):
        # Where nothing can be written, the task's own exit code says it.
        return
