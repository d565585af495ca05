"""Progress: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from geohr._runtime.progress import Report, heard, terminal_bar

LOG_STEP = 10
"""Per cent between two lines of a log."""


def progress(label: str) -> AbstractContextManager[Report]:
    """A function to call with what is done and how much there is.

    Args:
        label: What is being done.
    """
    return terminal_bar(label) if sys.stderr.isatty() else log_lines(label)


@contextmanager
def log_lines(label: str) -> Iterator[Report]:
    """A line on stderr for each phase, and for each `LOG_STEP` per cent of one."""
    last, head = -1, label

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def report(done: int, total: int) -> None:
        nonlocal last
        step = done * 100 // (total * LOG_STEP)
        if step > last:
            last = step
            say(f"{head}: {done} of {total}")

    def on_phase(name: str) -> None:
        nonlocal last, head
        last, head = -1, f"{label}: {name}"
        say(head)

    with heard(on_phase, lambda _: None):
        yield report
