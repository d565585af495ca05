"""Tasks handed out to the workers of a cluster, and what comes back."""

from __future__ import annotations

import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import numpy as np
from distributed import Client, Future
from distributed.client import FutureCancelledError
from distributed.scheduler import KilledWorker

from geohr._runtime.stop import Stop
from geohr.cluster.worker import Answer, work
from geohr.errors import EngineError, GeohrError
from geohr.inference.checkpoint import WorkFolder, read_journal
from geohr.inference.pipeline import interrupted
from geohr.inference.postprocess import Strip
from geohr.tiling.blocks import Block

IDLE_SECONDS = 600.0
"""How long a run waits where no worker is left."""
POLL_SECONDS = 1.0
"""How often is looked whether the cluster is still there."""
COUNT_SECONDS = 10.0
"""How often the workers' threads are counted."""
AHEAD = 2
"""Tasks handed out for each thread of a worker: one in hand and one waiting."""
AHEAD_LEAST = 8
"""Tasks handed out where there are hardly any workers; a cluster that adapts sees work."""
TRIES = 3
"""How often a task is handed out of which Dask says that it kills workers."""

Task = Block | Strip


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        blocks: To predict, in order.
        bands: To finish, and of each the blocks among them that it needs.
    """

    blocks: Sequence[Block]
    bands: Sequence[tuple[Strip, Sequence[Block]]]

    def __len__(self) -> int:
        """How many tasks there are."""
        return len(self.blocks) + len(self.bands)


class Ready:
    """The tasks that can be handed out; bands before blocks, as the driver waits for them."""

    def __init__(self, plan: Plan) -> None:
        self._waits = {band: len(blocks) for band, blocks in plan.bands}
        self._bands_of: dict[Block, list[Strip]] = {}
        for band, blocks in plan.bands:
            for block in blocks:
                self._bands_of.setdefault(block, []).append(band)
        self._tasks: list[Task] = [*reversed(plan.blocks)]
        self._tasks += reversed([band for band, blocks in plan.bands if not blocks])

    def __bool__(self) -> bool:
        """Whether there is one."""
        return bool(self._tasks)

    def pop(self) -> Task:
        """The next one."""
        return self._tasks.pop()

    def again(self, task: Task) -> None:
        """It was handed out in vain."""
        self._tasks.append(task)

    def done(self, task: Task) -> None:
        """Bands that waited for a block may be ready with it."""
        if not isinstance(task, Block):
            return
        for band in self._bands_of.pop(task, []):
            self._waits[band] -= 1
            if self._waits[band] == 0:
                self._tasks.append(band)


@dataclass
class TaskScheduler:
    """Hands out tasks, a few for each thread of the workers, and notes those that are done.

    Attributes:
        client: Of the cluster.
        name: Of the run's plugin.
        store: Where blocks and bands are kept.
        stop: When requested, the tasks handed out are finished and no other is.
    """

    client: Client
    name: str
    store: WorkFolder
    stop: Stop
    _id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    _held: dict[Task, Future[Answer]] = field(default_factory=dict)
    _ended: SimpleQueue[tuple[Task, Future[Answer]]] = field(default_factory=SimpleQueue)
    _tries: dict[Task, int] = field(default_factory=dict)
    _threads: int = 0
    _counted: float = -np.inf
    _seen: float = field(default_factory=time.monotonic)

    def tasks(self, plan: Plan) -> Iterator[tuple[Task, Answer]]:
        """Tasks as they are done, each once, in any order but bands after their blocks.

        Raises:
            InterruptedRunError: When `stop` was requested before the last task was handed out.
        """
        ready = Ready(plan)
        processors = known_processors(self.store)
        try:
            while ready or self._held:
                if self.stop.overdue or (self.stop.requested and not self._held):
                    raise interrupted()
                while ready and not self.stop.requested and len(self._held) < self._capacity():
                    self._hand_out(ready.pop())
                try:
                    task, future = self._ended.get(timeout=POLL_SECONDS)
                except Empty:
                    self._check()
                    continue
                answer = self._answer(task, future)
                if answer is None:
                    ready.again(task)
                    continue
                warn_of_processors(processors, answer)
                self.store.note(
                    "done",
                    {
                        **number_of(task),
                        "windows": answer.windows,
                        "worker": answer.worker,
                        "processor": answer.processor,
                        "seconds": round(answer.seconds, 3),
                    },
                )
                ready.done(task)
                yield task, answer
        finally:
            with suppress(Exception):
                self.client.cancel(list(self._held.values()))

    def _hand_out(self, task: Task) -> None:
        """Give a task to the cluster."""
        tries = self._tries[task] = self._tries.get(task, 0) + 1
        self.store.note("begin", number_of(task))
        kind, number = next(iter(number_of(task).items()))
        key = f"geohr-{self._id}-{kind}-{number}-{tries}"
        future = self.client.submit(work, self.name, task, key=key, pure=False)
        self._held[task] = future
        future.add_done_callback(lambda ended: self._ended.put((task, ended)))

    def _answer(self, task: Task, future: Future[Answer]) -> Answer | None:
        """What became of a task; None where it is to be handed out again."""
        del self._held[task]
        named = " ".join(f"{kind} {number}" for kind, number in number_of(task).items())
        try:
            answer: Answer = future.result()
        except GeohrError:
            raise
        except KilledWorker as error:
            if self._tries[task] < TRIES:
                return None
            raise EngineError(
                f"{named} was with {TRIES} times as many workers as Dask gives a task "
                "when they died; they may have too little memory: give them more, or use a "
                "smaller --block"
            ) from error
        except (FutureCancelledError, OSError) as error:
            raise lost() from error
        except Exception as error:
            raise GeohrError(
                f"{named} failed on the cluster: unexpected {describe(error)}"
            ) from error
        self._seen = time.monotonic()
        return answer

    def _capacity(self) -> int:
        """How many tasks may be handed out at once."""
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


def number_of(task: Task) -> dict[str, object]:
    """A task, as the journal names it."""
    return {"block" if isinstance(task, Block) else "band": task.index}


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


def lost() -> EngineError:
    """The error of a run whose cluster is gone."""
    return EngineError(
        "the connection to the scheduler was lost; finished blocks are kept, and the same command "
        "goes on where it stopped"
    )


def describe(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
