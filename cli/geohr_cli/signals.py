"""SIGINT and SIGTERM: the first asks a run to stop in order, the second ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from geohr._runtime.stop import Stop
from geohr.errors import InterruptedRunError

LEAVE_SECONDS = 20.0
"""When a run has not left by itself this long after the first signal, it is ended."""
NOTE = b"geohr: stopping after the blocks in hand; a second signal leaves at once\n"


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """A request to stop, which SIGINT and SIGTERM make within the block.

    Leaving at once loses nothing but the blocks in hand: outputs have no final name yet, and
    temporary files are removed by the next run.
    """
    stop = Stop()
    timer = threading.Timer(LEAVE_SECONDS, leave)
    timer.daemon = True

    def note(_: int, __: FrameType | None) -> None:
        if stop.requested:
            leave()
        stop.request()
        timer.start()
        os.write(2, NOTE)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        timer.cancel()
        for number, handler in before.items():
            # A process that is leaving as asked keeps its exit code, whatever signal comes yet.
            signal.signal(number, signal.SIG_IGN if stop.requested else handler)


def leave() -> None:
    """End the process here and now."""
    os._exit(InterruptedRunError.exit_code)
