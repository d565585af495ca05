"""One cell from its scenes to its files, in any process, at any time, once."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import rasterio

from geohr import __version__
from geohr._runtime.file_store import FolderStore
from geohr._runtime.messages import amount
from geohr._runtime.progress import phase
from geohr._runtime.redact import redact
from geohr._runtime.stop import Stop
from geohr.engines.predictor import Engine
from geohr.errors import GeohrError, InputError, InterruptedRunError, LockedError
from geohr.inference.checkpoint import WORK_FOLDER, work_folder
from geohr.inference.executor import LocalExecutor
from geohr.inference.pipeline import Progress, predict_rows
from geohr.models.model import Model, resolve_model
from geohr.tiling.blocks import cut_blocks, downward
from geohr.workflows.cells.files import CellFiles
from geohr.workflows.cells.plan import Cell, CellPlan
from geohr.workflows.cells.scene import CellView, cell_view, zone_job

# What may become of a cell.
STATES = ("done", "skipped", "locked", "failed")
# The folders of files that say what became of a cell.
DONE, FAILED = "done", "failed"


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
        store = plan.store
        home = store.root / WORK_FOLDER if isinstance(store, FolderStore) else None
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
        plan, store = self._plan, self._plan.store
        marker = plan.marker(cell, DONE)
        if store.read(marker) is not None:
            return None
        with store.locked(cell.name, what=f"cell {cell.name}"):
            if store.read(marker) is not None:
                return None
            for name in store.sizes(DONE):
                # Of an earlier plan, whose files are about to be written over.
                if name.startswith(f"{DONE}/{cell.name}-"):
                    store.delete(name)
            result = self._make(cell, progress)
            store.put(marker, json.dumps(asdict(result)).encode())
            store.delete(plan.marker(cell, FAILED))
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
    return "done", f"{amount(result.objects, 'object')}, {result.seconds:.1f} s", None


def run_cells(
    plan: CellPlan,
    cells: Sequence[Cell] | None = None,
    *,
    listener: CellListener | None = None,
    work_dir: Path | None = None,
    resume: bool = True,
    stop: Stop | None = None,
) -> dict[str, int]:
    """Make cells of a plan one after the other, in this process.

    One that fails does not end the rest. A cell that is done is skipped, one that was cut short
    goes on, and one that another task is making is left to it.

    Args:
        plan: The plan.
        cells: Which of its cells, such as `plan.task(17, 400)`; by default all.
        listener: Told what becomes of each.
        work_dir: The folder of finished blocks and of files until they are whole; by default
            inside of the plan's folder, or the system's for temporary files.
        resume: Keep finished blocks, and use those of an earlier run.
        stop: When requested, the blocks in hand are finished and no other is begun.

    Returns:
        How many are `done`, `skipped`, `locked` and `failed`; why these failed says
        `geohr.cells_status`.

    Raises:
        InputError: When the model is not the one that the plan was made for.
        InterruptedRunError: When asked to stop.
        GeohrError: Where there is one cell, whatever it failed for.
    """
    runner = CellRunner(
        plan, resolve_model(plan.model), work_dir=work_dir, resume=resume, stop=stop
    )
    cells = plan.cells if cells is None else cells
    counts = dict.fromkeys(STATES, 0)
    for place, cell in enumerate(cells, start=1):
        if listener is not None:
            listener.began(cell, place=place, count=len(cells))
        state, detail, error = attempt(runner, plan, cell)
        if error is not None and len(cells) == 1:
            raise error
        counts[state] += 1
        if listener is not None:
            listener.ended(cell, state, detail)
    return counts


def _note_failure(plan: CellPlan, cell: Cell, reason: str, error: Exception) -> None:
    """Leave word of why a cell failed, where that can be written."""
    code = error.exit_code if isinstance(error, GeohrError) else GeohrError.exit_code
    failure = {"cell": cell.name, "error": reason, "code": code, "time": time.time()}
    try:
        plan.store.put(plan.marker(cell, FAILED), json.dumps(failure).encode())
    except (GeohrError, OSError):
        # Where nothing can be written, the task's own exit code says it.
        return
