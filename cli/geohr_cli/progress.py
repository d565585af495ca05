"""Progress: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[int, int], None]

LOG_STEP = 10
"""Per cent between two lines of a log."""


@contextmanager
def progress(label: str) -> Iterator[Report]:
    """A function to call with what is done and how much there is.

    Args:
        label: What is being done.
    """
    if not sys.stderr.isatty():
        yield log_lines(label)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield report


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
