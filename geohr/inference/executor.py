"""Executors of a job: this process, or another place with the same `chunks`."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

from geohr._runtime.stop import Stop
from geohr.engines import open_predictor
from geohr.engines.calibration import Calibration
from geohr.engines.predictor import Engine, Predictor
from geohr.errors import EngineError
from geohr.inference.checkpoint import WorkFolder, machine
from geohr.inference.job import Job
from geohr.inference.pipeline import Progress, WriteRows, predict_rows
from geohr.inference.postprocess import Chunk, postprocess
from geohr.models.model import Model
from geohr.options import EngineOptions
from geohr.tiling.blocks import BlockSize, downward
from geohr.tiling.grid import Grid


class Executor(Protocol):
    """Opens a model, predicts the blocks of a job with it, and gives finished rows and polygons.

    Attributes:
        machine: The kind of machine, on which the last bits of scores depend.
        shares_blocks: Whether blocks pass through the work folder, so that a job always has one.
    """

    machine: str
    shares_blocks: bool

    def open(
        self, model: Model, tile: int, options: EngineOptions, calibration: Calibration
    ) -> Engine:
        """Make a model ready to predict windows of one size, and say what it computes with.

        Raises:
            EngineError: When no engine can be used.
            InputError: When the model's weights cannot be used.
        """

    def block_size(self, grid: Grid) -> BlockSize:
        """The default size of blocks."""

    def chunks(
        self,
        job: Job,
        *,
        progress: Progress | None = None,
        store: WorkFolder | None = None,
        stop: Stop | None = None,
        disagreement: WriteRows | None = None,
    ) -> Generator[Chunk]:
        """Yield what the outputs receive, from top to bottom; close it if it is not exhausted.

        Args:
            job: A job that was prepared with this executor.
            progress: Called with windows done and windows in all.
            store: Keeps finished blocks, and has those of an earlier run.
            stop: When requested, the blocks in hand are finished and no other is begun.
            disagreement: Given rows `(row, col)` of the whole scene, top to bottom, of how far
                overlapping windows differ. Not with a store, as a block that is kept has no
                scores by window, and not where `shares_blocks`.

        Raises:
            InputError: When the scene cannot be read or its values are out of the card's range.
            OutputError: When the store cannot be written.
            EngineError: When what predicts is gone.
            InterruptedRunError: When `stop` was requested before the last block was begun.
        """


class LocalExecutor:
    """The executor that predicts in this process.

    Without a predictor it opens one on the engine that the options of a job name.
    """

    # Blocks are handed on in memory; the work folder only serves to resume.
    shares_blocks = False

    def __init__(self, predictor: Predictor | None = None) -> None:
        self.machine = machine()
        self._predictor = predictor
        self._given = predictor is not None

    @property
    def predictor(self) -> Predictor:
        """The model that was opened last.

        Raises:
            EngineError: When none was.
        """
        if self._predictor is None:
            raise EngineError("no model was opened; prepare the job with this executor first")
        return self._predictor

    def open(
        self, model: Model, tile: int, options: EngineOptions, calibration: Calibration
    ) -> Engine:
        """Open a model on an engine here; see `Executor.open`."""
        if not self._given:
            self._predictor = open_predictor(model, tile, options, calibration=calibration)
        return Engine(self.predictor.engine, self.predictor.batch)

    def block_size(self, grid: Grid) -> BlockSize:
        """Blocks that read the scene downwards."""
        return downward(grid)

    def chunks(
        self,
        job: Job,
        *,
        progress: Progress | None = None,
        store: WorkFolder | None = None,
        stop: Stop | None = None,
        disagreement: WriteRows | None = None,
    ) -> Generator[Chunk]:
        """Predict, join, classify and trace, each in a thread; see `Executor.chunks`."""
        rows = predict_rows(
            job.scene,
            job.grid,
            self.predictor,
            normalizer=job.normalizer,
            classes=len(job.card.classes),
            blend=job.options.blend,
            block_size=job.block_size,
            progress=progress,
            store=store,
            stop=stop,
            disagreement=disagreement,
        )
        return postprocess(job, rows)
