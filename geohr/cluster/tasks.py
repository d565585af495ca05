"""Tasks handed out to the workers of a cluster, and what comes back."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from distributed import Client, Future
from distributed.client import FutureCancelledError
from distributed.scheduler import KilledWorker

from geohr._runtime.messages import warn
from geohr._runtime.stop import Stop, interrupted
from geohr.cluster.worker import Answer, Task, carry_out
from geohr.errors import EngineError, GeohrError
from geohr.inference.checkpoint import WorkFolder, read_journal
from geohr.tiling.blocks import Block

# The seconds that a run waits for workers when none is left.
IDLE_SECONDS = 600.0
# The seconds between two checks that the cluster still answers.
POLL_SECONDS = 1.0
# The seconds between two counts of the workers' threads.
COUNT_SECONDS = 10.0
# Tasks handed out for each thread of a worker, one in hand and one waiting: a scheduler that holds
# all blocks of a large scene at once gets slow.
AHEAD = 2
# Tasks handed out where there are hardly any workers; a cluster that adapts sees work.
AHEAD_LEAST = 8
# The number of times that Dask retries a failed task: shared storage fails now and then.
RETRIES = 2
# The number of times that a task is submitted that kills workers, according to Dask.
KILLED_TRIES = 3


@dataclass
class TaskQueue:
    """Hands out tasks, a few for each thread of the workers, and notes those that are done.

    Attributes:
        client: The client of the cluster.
        name: The name of the job's plugin.
        store: The work folder of blocks, strips and edges.
        stop: When requested, the tasks handed out are finished and no other is.
    """

    client: Client
    name: str
    store: WorkFolder
    stop: Stop
    _id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    _futures: dict[Task, Future[Answer]] = field(default_factory=dict)
    # as_completed waits without end where no worker is left; a queue can be polled.
    _ended: SimpleQueue[tuple[Task, Future[Answer]]] = field(default_factory=SimpleQueue)
    _tries: dict[Task, int] = field(default_factory=dict)
    _threads: int = 0
    _counted: float = float("-inf")
    _seen: float = field(default_factory=time.monotonic)

    def results(
        self, blocks: Sequence[Block], others: Mapping[Task, Sequence[Task]]
    ) -> Iterator[tuple[Task, Answer]]:
        """Tasks as they are done, each once, in any order but after those that they need.

        Args:
            blocks: To predict, in order.
            others: Strips and edges to finish, and of each the tasks among these that it needs.

        Raises:
            InterruptedRunError: When `stop` was requested before the last task was handed out.
            EngineError: When the cluster is gone, or a task kills its workers.
        """
        missing = {task: len(needed) for task, needed in others.items()}
        after: dict[Task, list[Task]] = {}
        for task, needed in others.items():
            for each in needed:
                after.setdefault(each, []).append(task)
        # Taken from the end, and the others before blocks, as the driver waits for them.
        ready: list[Task] = [*reversed(blocks), *(each for each in others if not missing[each])]
        processors = known_processors(self.store)
        try:
            while ready or self._futures:
                if self.stop.overdue or (self.stop.requested and not self._futures):
                    raise interrupted()
                while ready and not self.stop.requested and len(self._futures) < self._capacity():
                    self._submit(ready.pop())
                try:
                    task, future = self._ended.get(timeout=POLL_SECONDS)
                except Empty:
                    self._check()
                    continue
                answer = self._answer(task, future)
                if answer is None:
                    ready.append(task)
                    continue
                warn_of_processors(processors, answer)
                self._note_done(task, answer)
                for each in after.pop(task, []):
                    missing[each] -= 1
                    if missing[each] == 0:
                        ready.append(each)
                yield task, answer
        finally:
            with suppress(Exception):
                self.client.cancel(list(self._futures.values()))

    def _submit(self, task: Task) -> None:
        """Give a task to the cluster."""
        tries = self._tries[task] = self._tries.get(task, 0) + 1
        self.store.note("begin", label(task))
        kind, number = next(iter(label(task).items()))
        key = f"geohr-{self._id}-{kind}-{number}-{tries}"
        future = self.client.submit(
            carry_out, self.name, task, key=key, pure=False, retries=RETRIES
        )
        self._futures[task] = future
        future.add_done_callback(lambda ended: self._ended.put((task, ended)))

    def _answer(self, task: Task, future: Future[Answer]) -> Answer | None:
        """The answer to a task, or None if it is to be submitted again."""
        del self._futures[task]
        kind, number = next(iter(label(task).items()))
        try:
            answer: Answer = future.result()
        except GeohrError:
            raise
        except KilledWorker as error:
            if self._tries[task] < KILLED_TRIES:
                return None
            raise EngineError(
                f"{kind} {number} was with {KILLED_TRIES} times as many workers as Dask gives a "
                "task when they died; they may have too little memory: give them more, or use a "
                "smaller --block"
            ) from error
        except (FutureCancelledError, OSError) as error:
            raise lost() from error
        except Exception as error:
            raise GeohrError(
                f"{kind} {number} failed on the cluster: unexpected {in_one_line(error)}"
            ) from error
        self._seen = time.monotonic()
        return answer

    def _note_done(self, task: Task, answer: Answer) -> None:
        """Write into the journal what a task took, and where."""
        self.store.note(
            "done",
            {
                **label(task),
                "windows": answer.windows,
                "worker": answer.worker,
                "processor": answer.processor,
                "seconds": round(answer.seconds, 3),
            },
        )

    def _capacity(self) -> int:
        """The number of tasks that may be submitted at once, by the current number of threads.

        Raises:
            EngineError: When the cluster is gone.
        """
        now = time.monotonic()
        if now - self._counted > COUNT_SECONDS:
            try:
                self._threads = sum(self.client.nthreads().values())
            except (OSError, TypeError) as error:
                raise lost() from error
            self._counted = now
            if self._threads:
                self._seen = now
        return max(AHEAD * self._threads, AHEAD_LEAST)

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


def label(task: Task) -> dict[str, object]:
    """A task, as the journal names it."""
    return {type(task).__name__.lower(): task.index}


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
        warn(
            f"worker {answer.worker} has another kind of processor than {other}: scores may "
            "differ in the last bits, by which worker a block comes to; start workers on one kind "
            "of machine where the same bytes are wanted"
        )
    known[answer.processor] = answer.worker


def lost() -> EngineError:
    """The error of a run whose cluster is gone."""
    return EngineError(
        "the connection to the scheduler was lost; finished blocks are kept, and the same command "
        "goes on where it stopped"
    )


def in_one_line(error: Exception) -> str:
    """An error's kind and what it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
