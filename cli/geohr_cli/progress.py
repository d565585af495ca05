"""Progress: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext

from geohr._runtime.progress import Report, terminal_bar

LOG_STEP = 10
"""Per cent between two lines of a log."""


def progress(label: str) -> AbstractContextManager[Report]:
    """A function to call with what is done and how much there is.

    Args:
        label: What is being done.
    """
    return terminal_bar(label) if sys.stderr.isatty() else nullcontext(log_lines(label))


def log_lines(label: str) -> Report:
    """A line on stderr for each `LOG_STEP` per cent."""
    last = -1

    def report(done: int, total: int) -> None:
        nonlocal last
        step = done * 100 // (total * LOG_STEP)
        if step > last:
            last = step
            print(f"{label}: {done} of {total}", file=sys.stderr, flush=True)

    return report
