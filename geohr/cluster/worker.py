"""What runs on the workers of a cluster."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import cast

from distributed import Worker, WorkerPlugin, get_worker

from geohr import __version__
from geohr._runtime.messages import amount
from geohr.engines import open_predictor
from geohr.engines.calibration import Calibration
from geohr.engines.cores import share_cores
from geohr.engines.predictor import Engine, Predictor
from geohr.errors import EngineError, GeohrError, InputError
from geohr.inference.checkpoint import load_block, processor, save_block
from geohr.inference.job import Job
from geohr.inference.pipeline import predict_block
from geohr.inference.postprocess import Edge, Strip, finish_edge, finish_strip
from geohr.models.model import Model
from geohr.options import EngineOptions
from geohr.scene import SceneReader
from geohr.tiling.blocks import Block

# Models that a worker holds at once.
MODELS_MAX = 4
# A task of a worker: a block to predict, a strip of rows to finish, an edge of it to draw.
Task = Block | Strip | Edge


@dataclass(frozen=True)
class Answer:
    """The answer of a worker that has done a task.

    Attributes:
        windows: Windows that were predicted.
        processor: The kind of the worker's processor.
        worker: The worker's address.
        seconds: The duration of the task.
    """

    windows: int
    processor: str
    worker: str
    seconds: float


class JobPlugin(WorkerPlugin):
    """A job on a worker: one plugin, so that a task is only a name and a number.

    Args:
        job: The job; the names of its files are valid on all workers.
        folder: The work folder, which all share.
        model: The model file in it.
        name: The name of the plugin; the same for the same outputs.
    """

    def __init__(self, job: Job, folder: Path, model: Path, name: str) -> None:
        self.name = name
        self._job = job
        self._folder = folder
        self._model = model
        self._version = __version__

    def setup(self, worker: Worker) -> None:
        """Remember the worker."""
        self._worker = worker

    def carry_out(self, task: Task) -> Answer:
        """Predict a block, finish a strip or draw an edge, and write it to the work folder.

        Raises:
            InputError: When the scene cannot be read here.
            OutputError: When the work folder cannot be read or written here.
            EngineError: When this worker predicts with something else than the others.
        """
        started = time.monotonic()
        if self._version != __version__:
            raise EngineError(
                f"has geohr {__version__}, but the run uses {self._version}; install the "
                "same version everywhere"
            )
        windows = 0
        if isinstance(task, Block):
            windows = self._predict(task)
        elif isinstance(task, Strip):
            finish_strip(self._job, task, self._folder, partial(load_block, self._folder))
        else:
            finish_edge(self._job, task, self._folder)
        seconds = time.monotonic() - started
        return Answer(windows, processor(), self._worker.address, seconds)

    def _predict(self, block: Block) -> int:
        """Predict a block; how many windows that took."""
        job = self._job
        predictor = open_once(self._model, job.digest, job.grid.tile, job.options, job.calibration)
        here = Engine(predictor.engine, predictor.batch)
        if here != job.engine:
            raise EngineError(
                f"predicts with {here.name}, {amount(here.batch, 'window')} at once, and others "
                f"with {job.engine.name}, {job.engine.batch} at once; start workers of one "
                "kind, or name --backend, --device and --batch"
            )
        with SceneReader(job.scene) as reader:
            scores = predict_block(
                reader,
                job.grid,
                block,
                predictor,
                normalizer=job.normalizer,
                classes=len(job.card.classes),
                blend=job.options.blend,
            )
        save_block(self._folder, block, scores)
        return scores.windows


def geohr_version() -> str:
    """The version of geohr here."""
    return __version__


def carry_out(name: str, task: Task) -> Answer:
    """Do a task of the job whose plugin has this name; see `JobPlugin.carry_out`."""
    worker = get_worker()
    share_cores(worker.state.nthreads)
    try:
        return cast(JobPlugin, worker.plugins[name]).carry_out(task)
    except GeohrError as error:
        named = with_worker(error)
    # Raised where the other error is no longer handled, it goes without its causes: those of GDAL
    # cannot be sent, and Dask would send a text in place of all.
    raise named


def with_worker(error: GeohrError) -> GeohrError:
    """Add the name of the worker to an error."""
    return type(error)(f"worker {get_worker().address}: {error}")


def engine_of(
    content: bytes, digest: str, tile: int, options: EngineOptions, calibration: Calibration
) -> Engine:
    """Open a model by its bytes, and say what this worker predicts it with; see `open_once`.

    Raises:
        EngineError: When no engine can be used.
        InputError: When the weights cannot be used.
    """
    share_cores(get_worker().state.nthreads)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(content)
        try:
            predictor = open_once(path, digest, tile, options, calibration)
            return Engine(predictor.engine, predictor.batch)
        except GeohrError as error:
            named = with_worker(error)
    raise named


_PREDICTORS: dict[object, Predictor] = {}
# The threads of a worker share a model, so that one opens it and the others wait.
_OPENING = Lock()


def open_once(
    path: Path, digest: str, tile: int, options: EngineOptions, calibration: Calibration
) -> Predictor:
    """A model on its engine for windows of `tile` pixels, opened once in this process.

    The file is read only when the model of this SHA-256 is not open yet.

    Raises:
        InputError: When there is no such file, or another one.
        EngineError: When no engine can be used.
    """
    fitted_to = calibration.scene.path if options.precision == "int8" else None
    key = (digest, tile, options, fitted_to)
    with _OPENING:
        if key in _PREDICTORS:
            return _PREDICTORS[key]
        if not path.exists():
            raise InputError(
                f"does not find {path}; name a folder that all workers and this machine share "
                "with --work-dir"
            )
        model = Model.load(path)
        if model.digest != digest:
            raise InputError(f"finds another model at {path} than the one that was asked for")
        if len(_PREDICTORS) >= MODELS_MAX:
            _PREDICTORS.pop(next(iter(_PREDICTORS)))
        return _PREDICTORS.setdefault(
            key, open_predictor(model, tile, options, calibration=calibration)
        )
