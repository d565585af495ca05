"""How far a run is, shown to whoever watches: a bar on a terminal or in a notebook.

The library shows nothing of its own where nobody watches (a pipe, a log, cron), and nothing at
all where the caller passes a function of their own, or None.
"""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

Report = Callable[[int, int], None]
"""Called with what is done and how much there is."""

UPDATE_SECONDS = 0.1
"""A notebook's bar is drawn no more often."""


def watched(
    progress: Report | Literal["auto"] | None, label: str
) -> AbstractContextManager[Report | None]:
    """What to call with progress: `progress` itself, or with `auto` the bar that fits the place.

    Args:
        progress: A function, `auto`, or None for no progress.
        label: What is being done.
    """
    if progress != "auto":
        return nullcontext(progress)
    if in_notebook():
        return notebook_bar(label)
    if sys.stderr is not None and sys.stderr.isatty():
        return terminal_bar(label)
    return nullcontext(None)


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


@contextmanager
def terminal_bar(label: str) -> Iterator[Report]:
    """A bar on stderr that goes away when all is done.

    Args:
        label: What is being done.
    """
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


@contextmanager
def notebook_bar(label: str) -> Iterator[Report]:
    """A bar in the output of a notebook's cell.

    Args:
        label: What is being done.
    """
    from IPython.display import display

    started = drawn = time.monotonic()
    # IPython types neither this function nor what it returns.
    show: Callable[..., Any] = display
    handle = show({"text/html": bar_html(label, 0, 0, 0.0)}, raw=True, display_id=True)

    def report(done: int, total: int) -> None:
        nonlocal drawn
        now = time.monotonic()
        if done < total and now - drawn < UPDATE_SECONDS:
            return
        drawn = now
        handle.update({"text/html": bar_html(label, done, total, now - started)}, raw=True)

    yield report


def bar_html(label: str, done: int, total: int, seconds: float) -> str:
    """A bar as HTML; without a total it says only that work is going on."""
    value = f"value='{done}' max='{total}'" if total else ""
    count = f"{done} of {total} in {seconds:.1f} s" if total else ""
    return (
        f"<div>{html.escape(label)} <progress {value} style='width:20em'></progress> {count}</div>"
    )
