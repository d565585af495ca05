"""The driver: hands out blocks, waits for them, and joins them in order."""

from __future__ import annotations

import time
import uuid
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np
from distributed import Client, Future
from distributed.client import FutureCancelledError
from distributed.scheduler import KilledWorker

from geohr.blocks import Assembler, Block, Cut, square
from geohr.calibration import Calibration
from geohr.cluster.worker import Answer, Facts, Hand, Job, Opening, facts_of, predict
from geohr.errors import EngineError, GeohrError, OutputError
from geohr.files import written_whole
from geohr.grid import Grid
from geohr.journal import WorkFolder, block_path, read_journal
from geohr.model import Model
from geohr.mosaic import Rows
from geohr.options import SegmentOptions
from geohr.pipeline import ahead
from geohr.predictor import Batch, Predictor
from geohr.run import Run
from geohr.stopping import Stop
from geohr.streaming import Progress, interrupted
from geohr.version import __version__

MODEL_FILE = "model.safetensors"
FIRST_SECONDS = 600.0
"""How long the first worker may take to join and to open the model."""
IDLE_SECONDS = 600.0
"""How long a run waits where no worker is left."""
POLL_SECONDS = 1.0
"""How often is looked whether the cluster is still there."""
COUNT_SECONDS = 10.0
"""How often the workers' threads are counted."""
AHEAD = 2
"""Blocks handed out for each thread of a worker: one in hand and one waiting."""
AHEAD_LEAST = 8
"""Blocks handed out where there are hardly any workers; a cluster that adapts sees work."""
SHARED_SECONDS = 30.0
"""How long a file that a worker has written may take until it is seen here."""
TRIES = 3
"""How often a block is handed out of which Dask says that it kills workers."""


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
    """A Dask cluster as the workplace of a run; see `geohr.segmenting.Workplace`.

    Attributes:
        client: Of the cluster.
    """

    client: Client

    def opener(
        self, model: Model, tile: int, options: SegmentOptions, *, calibration: Calibration
    ) -> Predictor:
        """Open the model on a worker, and say what that worker predicts with.

        Raises:
            EngineError: When no worker can, or none joins.
            InputError: When the model's weights cannot be used.
        """
        opening = Opening(model.digest, tile, options, calibration)
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

    def cutter(self, grid: Grid) -> Cut:
        """As many windows down as across, so that blocks share the fewest pixels."""
        return square(grid)

    def fingerprint(self, run: Run) -> dict[str, object]:
        """All that a block's scores depend on, besides the workers' processors.

        These are noted for each block; where a run meets several kinds, it warns.
        """
        return {**run.fingerprint(), "machine": "a core a call"}

    def rows(
        self, run: Run, progress: Progress | None, *, store: WorkFolder, stop: Stop | None
    ) -> Generator[Rows]:
        """Finished rows, top to bottom.

        Raises:
            InputError: When the scene cannot be read by a worker.
            OutputError: When the work folder cannot be written by one, or is not shared.
            EngineError: When the cluster is gone, or a worker is unlike the others.
            InterruptedRunError: When `stop` was requested before the last block was done.
        """
        if not isinstance(run.predictor, Elsewhere):
            raise EngineError("the run was not prepared for a cluster")
        job = Job(
            opening=run.predictor.opening,
            facts=run.predictor.facts,
            scene=run.scene,
            grid=run.grid,
            classes=len(run.card.classes),
            folder=store.folder.resolve(),
            model=store.folder.resolve() / MODEL_FILE,
            version=__version__,
        )
        write_model(run.model, job.model)
        # The same for the same outputs, so that a driver that is started again replaces it.
        name = f"geohr-{store.folder.parent.name}-{store.folder.name}"
        self.client.register_plugin(Hand(job, name))
        left = [block for block in run.blocks if block.index not in store.finished]
        dealer = Dealer(self.client, name, store, stop or Stop())
        total, known = len(run.grid), len(run.grid) - sum(map(len, left))
        arrivals = ahead(
            report(dealer.blocks(left), progress, known=known, total=total), depth=len(left) + 1
        )
        try:
            yield from ahead(join(run, store, arrivals), depth=1)
        finally:
            arrivals.close()
            with suppress(Exception):
                self.client.unregister_worker_plugin(name)


@dataclass
class Dealer:
    """Hands out blocks, a few for each thread of the workers, and notes those that are done.

    Attributes:
        client: Of the cluster.
        name: Of the run's plugin.
        store: Where blocks are kept.
        stop: When requested, the blocks handed out are finished and no other is.
    """

    client: Client
    name: str
    store: WorkFolder
    stop: Stop
    _id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    _held: dict[int, Future[Answer]] = field(default_factory=dict)
    _ended: SimpleQueue[tuple[Block, Future[Answer]]] = field(default_factory=SimpleQueue)
    _tries: dict[int, int] = field(default_factory=dict)
    _threads: int = 0
    _counted: float = -np.inf
    _seen: float = field(default_factory=time.monotonic)

    def blocks(self, blocks: Sequence[Block]) -> Iterator[tuple[Block, Answer]]:
        """Blocks as they are done, in any order, each once.

        Raises:
            InterruptedRunError: When `stop` was requested before the last block was handed out.
        """
        left = list(reversed(blocks))
        processors = known_processors(self.store)
        try:
            while left or self._held:
                if self.stop.overdue or (self.stop.requested and not self._held):
                    raise interrupted()
                while left and not self.stop.requested and len(self._held) < self._capacity():
                    self._hand_out(left.pop())
                try:
                    block, future = self._ended.get(timeout=POLL_SECONDS)
                except Empty:
                    self._check()
                    continue
                answer = self._answer(block, future)
                if answer is None:
                    left.append(block)
                    continue
                warn_of_processors(processors, answer)
                self.store.done(
                    block,
                    {
                        "windows": answer.windows,
                        "worker": answer.worker,
                        "processor": answer.processor,
                        "seconds": round(answer.seconds, 3),
                    },
                )
                yield block, answer
        finally:
            with suppress(Exception):
                self.client.cancel(list(self._held.values()))

    def _hand_out(self, block: Block) -> None:
        """Give a block to the cluster."""
        tries = self._tries[block.index] = self._tries.get(block.index, 0) + 1
        self.store.begin(block)
        future = self.client.submit(
            predict, self.name, block, key=f"geohr-{self._id}-{block.index}-{tries}", pure=False
        )
        self._held[block.index] = future
        future.add_done_callback(lambda ended: self._ended.put((block, ended)))

    def _answer(self, block: Block, future: Future[Answer]) -> Answer | None:
        """What became of a block; None where it is to be handed out again."""
        del self._held[block.index]
        try:
            answer: Answer = future.result()
        except GeohrError:
            raise
        except KilledWorker as error:
            if self._tries[block.index] < TRIES:
                return None
            raise EngineError(
                f"block {block.index} was with {TRIES} times as many workers as Dask gives a task "
                "when they died; they may have too little memory: give them more, or use a "
                "smaller --block"
            ) from error
        except (FutureCancelledError, OSError) as error:
            raise lost() from error
        except Exception as error:
            raise GeohrError(
                f"block {block.index} failed on the cluster: unexpected {describe(error)}"
            ) from error
        self._seen = time.monotonic()
        return answer

    def _capacity(self) -> int:
        """How many blocks may be handed out at once."""
        if time.monotonic() - self._counted > COUNT_SECONDS:
            self._count()
        return max(AHEAD * self._threads, AHEAD_LEAST)

    def _count(self) -> None:
        """Count the workers' threads."""
        try:
            self._threads = sum(self.client.nthreads().values())
        except (OSError, TypeError) as error:
            raise lost() from error
        self._counted = time.monotonic()
        if self._threads:
            self._seen = self._counted

    def _check(self) -> None:
        """Look whether the cluster is still there.

        Raises:
            EngineError: When it is not.
        """
        if self.client.status != "running":
            raise lost()
        self._capacity()
        if time.monotonic() - self._seen > IDLE_SECONDS:
            raise EngineError(
                f"the cluster has had no worker for {IDLE_SECONDS:g} s; finished blocks are kept, "
                "and the same command goes on where it stopped"
            )


def join(run: Run, store: WorkFolder, arrivals: Iterator[tuple[Block, Answer]]) -> Iterator[Rows]:
    """Finished rows out of the blocks in the work folder, each as soon as it is there."""
    assembler = Assembler(run.grid, classes=len(run.card.classes))
    done = set(store.finished)
    for block in run.blocks:
        while block.index not in done:
            done.add(next(arrivals)[0].index)
        wait_for(block, store)
        rows = assembler.add(block, store.load(block))
        if rows is not None:
            yield rows


def wait_for(block: Block, store: WorkFolder) -> None:
    """Wait until a block that a worker has written can be seen here.

    Raises:
        OutputError: When it cannot, after a while.
    """
    path = block_path(store.folder, block)
    deadline = time.monotonic() + SHARED_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise OutputError(
                f"{path}: a worker has written it, and it is not here; name a folder that all "
                "workers and this machine share with --work-dir"
            )
        time.sleep(SHARED_SECONDS / 100)


def report(
    arrivals: Iterator[tuple[Block, Answer]],
    progress: Progress | None,
    *,
    known: int,
    total: int,
) -> Iterator[tuple[Block, Answer]]:
    """The same, with `progress` called after each block; `known` windows were done before."""
    for block, answer in arrivals:
        known += len(block)
        if progress is not None:
            progress(known, total)
        yield block, answer


def known_processors(store: WorkFolder) -> dict[str, str]:
    """Kinds of processors that finished blocks are of, and a worker with each."""
    events = read_journal(store.folder)
    return {str(each["processor"]): str(each["worker"]) for each in events if "processor" in each}


def warn_of_processors(known: dict[str, str], answer: Answer) -> None:
    """Warn once of each further kind of processor."""
    if answer.processor in known:
        return
    if known:
        other = next(iter(known.values()))
        warnings.warn(
            f"worker {answer.worker} has another kind of processor than {other}: scores may "
            "differ in the last bits, by which worker a block comes to; start workers on one kind "
            "of machine where the same bytes are wanted",
            stacklevel=2,
        )
    known[answer.processor] = answer.worker


def write_model(model: Model, path: Path) -> None:
    """Put the model where all workers find it.

    Raises:
        OutputError: When it cannot be written.
    """
    with written_whole(path) as part:
        part.write_bytes(model.content())


def lost() -> EngineError:
    """The error of a run whose cluster is gone."""
    return EngineError(
        "the connection to the scheduler was lost; finished blocks are kept, and the same command "
        "goes on where it stopped"
    )


def describe(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
