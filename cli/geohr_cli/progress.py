"""Progress: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from geohr._runtime.progress import Report, heard, terminal_bar

LOG_STEP = 10
"""Per cent between two lines of a log."""
PHASE_SECONDS = 1.0
"""How long a phase lasts before a log names it: an error of bad input then is the only line."""


def progress(label: str) -> AbstractContextManager[Report]:
    """A function to call with what is done and how much there is.

    Args:
        label: What is being done.
    """
    return terminal_bar(label) if sys.stderr.isatty() else log_lines(label)


@contextmanager
def log_lines(label: str) -> Iterator[Report]:
    """A line on stderr for each phase that lasts, and for each `LOG_STEP` per cent of one."""
    last, head = -1, label
    timer: threading.Timer | None = None

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def settle() -> None:
        # What is said of the phase in hand names it, so that the line of its own is not wanted.
        if timer is not None:
            timer.cancel()

    def report(done: int, total: int) -> None:
        nonlocal last
        step = done * 100 // (total * LOG_STEP)
        if step > last:
            last = step
            settle()
            say(f"{head}: {done} of {total}")

    def on_phase(name: str) -> None:
        nonlocal last, head, timer
        settle()
        last, head = -1, f"{label}: {name}"
        timer = threading.Timer(PHASE_SECONDS, say, [head])
        timer.daemon = True
        timer.start()

    with heard(on_phase, lambda _: None):
        try:
            yield report
        finally:
            settle()
