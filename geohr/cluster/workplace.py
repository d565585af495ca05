"""The driver: has blocks predicted and bands finished, and joins what comes."""

from __future__ import annotations

import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from distributed import Client
from distributed.client import FutureCancelledError

from geohr import __version__
from geohr._runtime.files import written_whole
from geohr._runtime.stop import Stop
from geohr._runtime.threads import ahead
from geohr.cluster.dealer import Plan, Task, TaskScheduler, describe, lost
from geohr.cluster.worker import Answer, Facts, Hand, Opening, WorkerJob, facts_of
from geohr.encoding import Batch
from geohr.engines.calibration import Calibration
from geohr.engines.predictor import Predictor
from geohr.errors import EngineError, GeohrError, OutputError
from geohr.inference.checkpoint import WorkFolder
from geohr.inference.job import Job
from geohr.inference.pipeline import Progress
from geohr.inference.postprocess import Chunk, Postprocessor, Products, Strip, chunks_of_strips
from geohr.models.model import Model
from geohr.options import SegmentOptions
from geohr.tiling.blocks import Block, BlockSize, square
from geohr.tiling.grid import Grid

MODEL_FILE = "model.safetensors"
FIRST_SECONDS = 600.0
"""How long the first worker may take to join and to open the model."""
SHARED_SECONDS = 30.0
"""How long a file that a worker has written may take until it is seen here."""


class Elsewhere:
    """What the workers predict with, described.

    Args:
        opening: Of the model.
        facts: What a worker said of it.
    """

    workers = 1

    def __init__(self, opening: Opening, facts: Facts) -> None:
        self.opening = opening
        self.facts = facts
        self.batch = facts.batch
        self.engine = facts.engine

    def predict(self, pixels: Batch) -> Batch:
        """Never done here.

        Raises:
            EngineError: Always.
        """
        raise EngineError("windows are predicted by the cluster, a block at a time")


@dataclass(frozen=True)
class Cluster:
    """A Dask cluster as the workplace of a run; see `geohr.api.segment.Workplace`.

    Attributes:
        client: Of the cluster.
        band_rows: Rows that a worker finishes together, as in `Postprocessor.bands`.
    """

    client: Client
    band_rows: int | None = None

    def opener(
        self, model: Model, tile: int, options: SegmentOptions, *, calibration: Calibration
    ) -> Predictor:
        """Open the model on a worker, and say what that worker predicts with.

        Raises:
            EngineError: When no worker can, or none joins.
            InputError: When the model's weights cannot be used.
        """
        shown = replace(calibration, scene=calibration.scene.absolute())
        opening = Opening(model.digest, tile, options, shown)
        with warnings.catch_warnings():
            # A model is a large argument, sent to one worker.
            warnings.simplefilter("ignore")
            future = self.client.submit(facts_of, opening, model.content(), pure=False)
        try:
            facts = future.result(timeout=FIRST_SECONDS)
        except GeohrError:
            raise
        except TimeoutError as error:
            raise EngineError(
                f"no worker has opened the model within {FIRST_SECONDS:g} s; check that workers "
                "have joined the scheduler"
            ) from error
        except (FutureCancelledError, OSError) as error:
            raise lost() from error
        except Exception as error:
            raise EngineError(f"a worker cannot open the model ({describe(error)})") from error
        return Elsewhere(opening, facts)

    def cutter(self, grid: Grid) -> BlockSize:
        """As many windows down as across, so that blocks share the fewest pixels."""
        return square(grid)

    def fingerprint(self, run: Job) -> dict[str, object]:
        """All that a block's scores depend on, besides the workers' processors.

        These are noted for each block; where a run meets several kinds, it warns.
        """
        return {**run.fingerprint(), "machine": "a core a call"}

    def pieces(
        self,
        run: Job,
        wanted: Products,
        progress: Progress | None,
        *,
        store: WorkFolder,
        stop: Stop | None,
    ) -> Generator[Chunk]:
        """What goes into the outputs, top to bottom.

        Raises:
            InputError: When the scene cannot be read by a worker.
            OutputError: When the work folder cannot be written by one, or is not shared.
            EngineError: When the cluster is gone, or a worker is unlike the others.
            InterruptedRunError: When `stop` was requested before the last task was done.
        """
        if not isinstance(run.predictor, Elsewhere):
            raise EngineError("the run was not prepared for a cluster")
        folder = store.folder.resolve()
        finishing = Postprocessor.of(run, wanted, folder)
        job = WorkerJob(
            opening=run.predictor.opening,
            facts=run.predictor.facts,
            scene=run.scene.absolute(),
            grid=run.grid,
            classes=len(run.card.classes),
            finishing=finishing,
            folder=folder,
            model=folder / MODEL_FILE,
            version=__version__,
        )
        write_model(run.model, job.model)
        # The same for the same outputs, so that a driver that is started again replaces it.
        name = f"geohr-{store.folder.parent.name}-{store.folder.name}"
        self.client.register_plugin(Hand(job, name))
        bands = finishing.bands(self.band_rows)
        plan = left_of(finishing, bands, store)
        dealer = TaskScheduler(self.client, name, store, stop or Stop())
        total, known = len(run.grid), len(run.grid) - sum(map(len, plan.blocks))
        arrivals = ahead(
            report(dealer.tasks(plan), progress, known=known, total=total), depth=len(plan) + 1
        )
        done = {band for band in bands if finishing.path(band).exists()}
        try:
            yield from ahead(
                chunks_of_strips(finishing, as_finished(finishing, bands, done, arrivals)), depth=1
            )
        finally:
            arrivals.close()
            with suppress(Exception):
                self.client.unregister_worker_plugin(name)


def left_of(finishing: Postprocessor, bands: Sequence[Strip], store: WorkFolder) -> Plan:
    """What an earlier run has not done."""
    left = [block for block in finishing.blocks if block.index not in store.finished]
    return Plan(
        left,
        [
            (band, [each for each in finishing.needs(band) if each.index not in store.finished])
            for band in bands
            if not finishing.path(band).exists()
        ],
    )


def as_finished(
    finishing: Postprocessor,
    bands: Sequence[Strip],
    done: set[Strip],
    arrivals: Iterator[tuple[Task, Answer]],
) -> Iterator[Strip]:
    """Bands in order, each when its file is there."""
    for band in bands:
        while band not in done:
            task, _ = next(arrivals)
            if isinstance(task, Strip):
                done.add(task)
        wait_for(finishing.path(band))
        yield band


def wait_for(path: Path) -> None:
    """Wait until a file that a worker has written can be seen here.

    Raises:
        OutputError: When it cannot, after a while.
    """
    deadline = time.monotonic() + SHARED_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise OutputError(
                f"{path}: a worker has written it, and it is not here; name a folder that all "
                "workers and this machine share with --work-dir"
            )
        time.sleep(SHARED_SECONDS / 100)


def report(
    arrivals: Iterator[tuple[Task, Answer]],
    progress: Progress | None,
    *,
    known: int,
    total: int,
) -> Iterator[tuple[Task, Answer]]:
    """The same, with `progress` called after each block; `known` windows were done before."""
    for task, answer in arrivals:
        if isinstance(task, Block):
            known += len(task)
            if progress is not None:
                progress(known, total)
        yield task, answer


def write_model(model: Model, path: Path) -> None:
    """Put the model where all workers find it.

    Raises:
        OutputError: When it cannot be written.
    """
    with written_whole(path) as part:
        part.write_bytes(model.content())
