"""The driver: has blocks predicted and strips finished by workers, and joins what comes."""

from __future__ import annotations

import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from distributed import Client
from distributed.client import FutureCancelledError

from geohr._runtime.files import written_whole
from geohr._runtime.stop import Stop
from geohr._runtime.threads import ahead
from geohr.cluster.tasks import TaskQueue, in_one_line, lost
from geohr.cluster.worker import Answer, JobPlugin, Task, engine_of
from geohr.engines.calibration import Calibration
from geohr.engines.predictor import Engine
from geohr.errors import EngineError, GeohrError, OutputError
from geohr.inference.checkpoint import WorkFolder
from geohr.inference.job import Job
from geohr.inference.pipeline import Progress, WriteRows
from geohr.inference.postprocess import (
    Chunk,
    Edge,
    Strip,
    chunks_of_strips,
    cut_edges,
    cut_strips,
    needed_blocks,
)
from geohr.models.model import Model
from geohr.options import EngineOptions
from geohr.tiling.blocks import Block, BlockSize, square
from geohr.tiling.grid import Grid

MODEL_FILE = "model.safetensors"
# The seconds that the first worker may take to join and to open the model.
FIRST_SECONDS = 600.0
# The seconds until a file that a worker has written must be visible here.
SHARED_SECONDS = 30.0


class DaskExecutor:
    """Predicts on the workers of a Dask cluster; see `geohr.inference.executor.Executor`.

    Blocks, strips and edges pass through the work folder, which all workers and this machine share;
    names and numbers pass the scheduler.

    Args:
        client: The client of the cluster.
    """

    # Workers' processors are noted for each block; where a job meets several kinds, it warns.
    machine = "a core a call"
    shares_blocks = True

    def __init__(self, client: Client) -> None:
        self._client = client
        self._content = b""

    def open(
        self, model: Model, tile: int, options: EngineOptions, calibration: Calibration
    ) -> Engine:
        """Open the model on a worker; see `Executor.open`.

        Raises:
            EngineError: When no worker can, or none joins.
            InputError: When the model's weights cannot be used.
        """
        self._content = model.content()
        shown = replace(calibration, scene=calibration.scene.absolute())
        with warnings.catch_warnings():
            # A model is a large argument, sent to one worker.
            warnings.simplefilter("ignore")
            future = self._client.submit(
                engine_of, self._content, model.digest, tile, options, shown, pure=False
            )
        try:
            engine: Engine = future.result(timeout=FIRST_SECONDS)
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
            raise EngineError(f"a worker cannot open the model ({in_one_line(error)})") from error
        return engine

    def block_size(self, grid: Grid) -> BlockSize:
        """Square blocks, which share the fewest pixels."""
        return square(grid)

    def chunks(
        self,
        job: Job,
        *,
        progress: Progress | None = None,
        store: WorkFolder | None = None,
        stop: Stop | None = None,
        disagreement: WriteRows | None = None,
    ) -> Generator[Chunk]:
        """Predict and trace on the workers, and join here; see `Executor.chunks`.

        Raises:
            InputError: When the scene cannot be read by a worker.
            OutputError: When the work folder cannot be written by one, or is not shared.
            EngineError: When the cluster is gone, or a worker is unlike the others.
            InterruptedRunError: When `stop` was requested before the last task was done.
        """
        if store is None or disagreement is not None:
            raise EngineError("a cluster needs a work folder, and sends no scores of windows")
        folder = store.folder.resolve()
        model = folder / MODEL_FILE
        with written_whole(model) as part:
            part.write_bytes(self._content)
        shown = replace(job.calibration, scene=job.calibration.scene.absolute())
        job = replace(job, scene=job.scene.absolute(), calibration=shown)
        # The same for the same outputs, so that a driver that is started again replaces it.
        name = f"geohr-{store.folder.parent.name}-{store.folder.name}"
        self._client.register_plugin(JobPlugin(job, folder, model, name))
        strips = cut_strips(job)
        edges = cut_edges(job, strips)
        finishing: tuple[Strip | Edge, ...] = (*strips, *edges)
        done: set[Task] = {each for each in finishing if each.path(folder).exists()}
        blocks = [block for block in job.blocks if block.index not in store.finished]
        needs: dict[Task, list[Task]] = {
            strip: [each for each in needed_blocks(job, strip) if each.index not in store.finished]
            for strip in strips
            if strip not in done
        }
        needs |= {
            edge: [strip for strip in (edge.upper, edge.lower) if strip not in done]
            for edge in edges
            if edge not in done
        }
        results = TaskQueue(self._client, name, store, stop or Stop()).results(blocks, needs)
        # Workers are given tasks whatever the writing of outputs takes.
        arrivals = ahead(
            report(results, progress, known=len(job.grid) - sum(map(len, blocks)), job=job),
            depth=len(blocks) + len(needs) + 1,
        )
        try:
            finished = as_finished(strips, edges, folder, done, arrivals)
            yield from ahead(chunks_of_strips(job, folder, finished), depth=1)
        finally:
            arrivals.close()
            with suppress(Exception):
                self._client.unregister_worker_plugin(name)


def report(
    results: Iterator[tuple[Task, Answer]], progress: Progress | None, *, known: int, job: Job
) -> Iterator[Task]:
    """The tasks, with `progress` called after each block; `known` windows were done before."""
    for task, _ in results:
        if isinstance(task, Block):
            known += len(task)
            if progress is not None:
                progress(known, len(job.grid))
        yield task


def as_finished(
    strips: Sequence[Strip],
    edges: Sequence[Edge],
    folder: Path,
    done: set[Task],
    arrivals: Iterator[Task],
) -> Iterator[Strip]:
    """Strips in order, each when its file and that of its upper edge are there."""
    above = {edge.lower: edge for edge in edges}
    for strip in strips:
        for task in (strip, above.get(strip, strip)):
            while task not in done:
                done.add(next(arrivals))
            wait_for(task.path(folder))
        yield strip


def wait_for(path: Path) -> None:
    """Wait until a file that a worker has written can be seen here.

    Raises:
        OutputError: When it cannot, after a while.
    """
    deadline = time.monotonic() + SHARED_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise OutputError(
                f"{path}: a worker wrote it, but it is not visible here; name a folder that all "
                "workers and this machine share with --work-dir"
            )
        time.sleep(SHARED_SECONDS / 100)
