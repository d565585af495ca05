"""What runs on the workers of a cluster."""

from __future__ import annotations

import tempfile
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import cast

from distributed import Worker, WorkerPlugin, get_worker

from geohr import __version__
from geohr.engines import open_predictor
from geohr.engines.calibration import Calibration
from geohr.engines.cores import share_cores
from geohr.engines.predictor import Predictor
from geohr.errors import EngineError, GeohrError, InputError
from geohr.inference.checkpoint import load_block, processor, save_block
from geohr.inference.pipeline import predict_block
from geohr.inference.postprocess import Postprocessor, Strip, finish_strip
from geohr.models.model import Model
from geohr.options import SegmentOptions
from geohr.scene import Scene, SceneReader
from geohr.tiling.blocks import Block
from geohr.tiling.grid import Grid

MODELS_MAX = 4
"""Models that a worker holds at once."""


@dataclass(frozen=True)
class Facts:
    """What a worker predicts with.

    Attributes:
        engine: Name and version of what computes.
        batch: Windows at once.
    """

    engine: str
    batch: int


@dataclass(frozen=True)
class Opening:
    """All that opening a model on an engine depends on.

    Attributes:
        digest: Of the model file.
        tile: Side of a window in pixels.
        options: Of the engine.
        calibration: Windows to fit int8 to.
    """

    digest: str
    tile: int
    options: SegmentOptions
    calibration: Calibration


@dataclass(frozen=True)
class WorkerJob:
    """One run, for the workers.

    Attributes:
        opening: Of the model.
        facts: What every worker must predict with.
        scene: What to read.
        grid: How it is cut into windows.
        classes: Channels of the scores.
        finishing: What becomes of blocks.
        folder: Where blocks are written.
        model: The model file, where all workers find it.
        version: Of geohr.
    """

    opening: Opening
    facts: Facts
    scene: Scene
    grid: Grid
    classes: int
    finishing: Postprocessor
    folder: Path
    model: Path
    version: str


@dataclass(frozen=True)
class Answer:
    """What a worker says of a block or band that it has written.

    Attributes:
        windows: Windows that were predicted for it.
        processor: What the bits of its scores may depend on besides the engine.
        worker: Its address.
        seconds: That it took.
    """

    windows: int
    processor: str
    worker: str
    seconds: float


class Hand(WorkerPlugin):
    """A run on a worker; each worker gets one, also those that join later.

    Args:
        job: The run.
        name: Of the plugin.
    """

    def __init__(self, job: WorkerJob, name: str) -> None:
        self.name = name
        self._job = job

    def setup(self, worker: Worker) -> None:
        """Take note of the worker."""
        self._worker = worker

    def predict(self, block: Block) -> Answer:
        """Predict a block and write it to the work folder.

        Raises:
            InputError: When the scene cannot be read here.
            OutputError: When the work folder cannot be written here.
            EngineError: When this worker predicts with something else than the others.
        """
        started = time.monotonic()
        job = self._checked()
        predictor = opened(job.opening, job.model)
        facts = Facts(predictor.engine, predictor.batch)
        if facts != job.facts:
            raise EngineError(
                f"predicts with {facts.engine}, {facts.batch} windows at once, and others with "
                f"{job.facts.engine}, {job.facts.batch} at once; start workers of one kind, or "
                "name --backend, --device and --batch"
            )
        options = job.opening.options
        with SceneReader(job.scene) as reader:
            scores = predict_block(
                reader,
                job.grid,
                block,
                predictor,
                normalizer=job.opening.calibration.normalizer,
                classes=job.classes,
                blend=options.blend,
            )
        save_block(job.folder, block, scores)
        return self._answer(scores.windows, started)

    def finish(self, band: Strip) -> Answer:
        """Finish a band of which all blocks are in the work folder, and write it there.

        Raises:
            OutputError: When the work folder cannot be read or written here.
        """
        started = time.monotonic()
        job = self._checked()
        finish_strip(job.finishing, band, partial(load_block, job.folder))
        return self._answer(0, started)

    def _checked(self) -> WorkerJob:
        """The run, if it is of the version here.

        Raises:
            EngineError: When it is not.
        """
        if self._job.version != __version__:
            raise EngineError(
                f"has geohr {__version__}, and the run is of {self._job.version}; install the "
                "same version everywhere"
            )
        return self._job

    def _answer(self, windows: int, started: float) -> Answer:
        return Answer(windows, processor(), self._worker.address, time.monotonic() - started)


def geohr_version() -> str:
    """Of geohr here."""
    return __version__


def work(name: str, task: Block | Strip) -> Answer:
    """Predict a block, or finish a band, of the run whose plugin has this name; see `Hand`."""
    worker = get_worker()
    share_cores(worker.state.nthreads)
    try:
        hand = cast(Hand, worker.plugins[name])
        return hand.predict(task) if isinstance(task, Block) else hand.finish(task)
    except GeohrError as error:
        told = of_worker(error)
    raise told


def of_worker(error: GeohrError) -> GeohrError:
    """The same error with the worker's name, for the driver.

    Raised where the other is no longer handled, it goes without its causes: those of GDAL cannot
    be sent, and Dask would send a text in place of all.
    """
    return type(error)(f"worker {get_worker().address}: {error}")


def facts_of(opening: Opening, content: bytes) -> Facts:
    """What a worker predicts a model with.

    Args:
        opening: Of the model.
        content: Of the model file.

    Raises:
        EngineError: When no engine can be used.
        InputError: When the weights cannot be used.
    """
    worker = get_worker()
    share_cores(worker.state.nthreads)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(content)
        try:
            predictor = opened(opening, path)
            return Facts(predictor.engine, predictor.batch)
        except GeohrError as error:
            told = of_worker(error)
    raise told


_OPENED: OrderedDict[object, Predictor] = OrderedDict()
_OPENING = Lock()


def opened(opening: Opening, path: Path) -> Predictor:
    """A model on its engine, opened once in this process.

    Args:
        opening: All that it depends on.
        path: The model file; read only when the model is not open yet.

    Raises:
        InputError: When there is no such file, or another one.
        EngineError: When no engine can be used.
    """
    fitted = opening.calibration if opening.options.precision == "int8" else None
    key = (opening.digest, opening.tile, opening.options, fitted and fitted.scene.path)
    with _OPENING:
        if key in _OPENED:
            _OPENED.move_to_end(key)
            return _OPENED[key]
        if not path.exists():
            raise InputError(
                f"does not find {path}; name a folder that all workers and this machine share "
                "with --work-dir"
            )
        model = Model.load(path)
        if model.digest != opening.digest:
            raise InputError(f"finds another model at {path} than the one that was asked for")
        predictor = open_predictor(
            model, opening.tile, opening.options, calibration=opening.calibration
        )
        _OPENED[key] = predictor
        while len(_OPENED) > MODELS_MAX:
            _OPENED.popitem(last=False)
    return predictor
