"""How far a run is, shown to whoever watches: a bar on a terminal or in a notebook.

The library shows nothing of its own where nobody watches (a pipe, a log, cron), and nothing at
all where the caller passes a function of their own, or None. A run says what it does with `phase`
and `note`; who shows progress listens within `heard`.
"""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Literal

# A function that is called with the amount done and the whole amount.
Report = Callable[[int, int], None]

# A function that is called with the name of a phase.
Say = Callable[[str], None]
# A notebook's bar is drawn no more often.
UPDATE_SECONDS = 0.1
_PHASE: ContextVar[Say | None] = ContextVar("phase", default=None)
_NOTE: ContextVar[Say | None] = ContextVar("note", default=None)


def phase(name: str) -> None:
    """Say what the run in hand does from now on: reading, predicting, drawing, writing."""
    if (say := _PHASE.get()) is not None:
        say(name)


def note(text: str) -> None:
    """Say something to be shown beside the bar, such as the loss; what was said before goes."""
    if (say := _NOTE.get()) is not None:
        say(text)


@contextmanager
def heard(on_phase: Say, on_note: Say) -> Iterator[None]:
    """Within the block, hear what `phase` and `note` are called with in this thread."""
    tokens = _PHASE.set(on_phase), _NOTE.set(on_note)
    try:
        yield
    finally:
        _PHASE.reset(tokens[0])
        _NOTE.reset(tokens[1])


def watched(
    progress: Report | Literal["auto"] | None, label: str
) -> AbstractContextManager[Report | None]:
    """The function to report progress to: `progress` itself, or with `auto` a bar where one fits.

    Args:
        progress: A function, `auto`, or None for no progress.
        label: The name of the task.
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
    """A bar on stderr with the name of a task, which goes away when all is done."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[count]} {task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None, count="", note="")

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, count=f"{done}/{total}")

        def on_phase(name: str) -> None:
            # A bar without a total moves, however long the phase takes.
            bar.tasks[0].total = None
            bar.update(task, description=f"{label}: {name}", completed=0, count="")

        with heard(on_phase, lambda text: bar.update(task, note=text)):
            yield report


@contextmanager
def notebook_bar(label: str) -> Iterator[Report]:
    """A bar with the name of a task, in the output of a notebook's cell."""
    from IPython.display import display

    started = drawn = time.monotonic()
    said = {"phase": "", "note": ""}
    # IPython types neither this function nor what it returns.
    show: Callable[..., Any] = display
    handle = show({"text/html": bar_html(label, 0, 0, 0.0)}, raw=True, display_id=True)

    def draw(done: int, total: int) -> None:
        nonlocal drawn
        drawn = time.monotonic()
        text = f"{label}: {said['phase']}" if said["phase"] else label
        page = bar_html(text, done, total, drawn - started, said["note"])
        handle.update({"text/html": page}, raw=True)

    def report(done: int, total: int) -> None:
        if done == total or time.monotonic() - drawn >= UPDATE_SECONDS:
            draw(done, total)

    def on_phase(name: str) -> None:
        said["phase"] = name
        draw(0, 0)

    with heard(on_phase, lambda text: said.update(note=text)):
        yield report


def bar_html(label: str, done: int, total: int, seconds: float, note: str = "") -> str:
    """A bar as HTML; without a total it says only that work is going on."""
    value = f"value='{done}' max='{total}'" if total else ""
    count = f"{done} of {total} in {seconds:.1f} s" if total else ""
    return (
        f"<div>{html.escape(label)} <progress {value} style='width:20em'></progress> {count} "
        f"{html.escape(note)}</div>"
    )
