"""Stages that run at the same time, each in a thread, joined by short queues."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from queue import Empty, Full, Queue
from threading import Event, RLock, Thread
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")

# The seconds between two checks of a waiting stage for the end of the other one.
POLL_SECONDS = 0.1
# Held where filters of warnings are changed for a moment in threads: they are the whole process's,
# and of two threads that change them and put them back, one would put back the other's.
FILTERS = RLock()


class _End:
    """The last thing in a queue: nothing more, or the error that ended the stage."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(items: Iterable[T], *, depth: int = 2) -> Generator[T]:
    """Yield the same items, made by another thread up to `depth` items ahead.

    An error in `items` is raised where they are taken. When the taker stops early, the thread
    ends after the item in hand.

    Args:
        items: Iterated in the other thread, and only there.
        depth: Items that may wait.
    """
    queue: Queue[T | _End] = Queue(depth)
    closed = Event()

    def put(item: T | _End) -> bool:
        while not closed.is_set():
            try:
                queue.put(item, timeout=POLL_SECONDS)
            except Full:
                continue
            return True
        return False

    def run() -> None:
        try:
            for item in items:
                if not put(item):
                    break
        except BaseException as error:
            put(_End(error))
        else:
            put(_End(None))
        finally:
            # What the items hold, such as an open raster, is released by the thread that took it.
            if isinstance(items, Generator):
                items.close()

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        while True:
            item = queue.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        closed.set()
        drain(queue)
        thread.join()


class Stages(ExitStack):
    """Stages that take from each other, closed from the last to the first whatever ends the run.

    One that is left to the garbage collector is ended by whichever thread happens to collect it,
    which may be the one that it waits for.
    """

    def ahead(self, items: Iterable[T], *, depth: int = 2) -> Generator[T]:
        """Start a stage; see `ahead`."""
        return self.enter_context(closing(ahead(items, depth=depth)))


def mapped(function: Callable[[T], U], items: Iterable[T], *, workers: int) -> Iterator[U]:
    """`function` of each item, in the items' order, worked out by several threads.

    Args:
        function: Called by any of the threads.
        items: Iterated in the calling thread, at most two a worker ahead of what is taken.
        workers: Threads.
    """
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[U]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                while waiting and (len(waiting) >= 2 * workers or waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def drain(queue: Queue[T]) -> None:
    """Empty a queue so that whoever waits to put something sees that nobody takes."""
    while True:
        try:
            queue.get_nowait()
        except Empty:
            return
