"""Child processes: messages, stopping, and what is left of them."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from queue import Empty

import pytest

from geohr._runtime.child import Child, Parent


def echo(prefix: str, parent: Parent) -> None:
    """Send back what comes, and whether to stop, until the last; what is printed is no message."""
    parent.send(os.getpid())
    message = None
    while message != "last":
        print("not a message", flush=True)
        message = parent.receive()
        parent.send((f"{prefix} {message}", parent.stop.requested))


def leave(code: int, parent: Parent) -> None:
    """End with an exit code."""
    os._exit(code)


def hear(child: Child) -> object:
    """The next message, waited for."""
    for _ in range(600):
        try:
            return child.receive(0.1)
        except Empty:
            continue
    raise AssertionError("no message in a minute")


def test_messages_go_both_ways_and_it_stops_when_asked() -> None:
    child = Child(partial(echo, "you said"))
    assert isinstance(hear(child), int)
    child.send("hello")
    assert hear(child) == ("you said hello", False)
    child.stop()
    child.send("last")
    assert [hear(child) for _ in range(2)] == [("you said last", True), None]
    assert child.end() == 0


def test_signals_of_a_terminal_pass_by_and_a_kill_is_told() -> None:
    child = Child(partial(echo, ""))
    pid = hear(child)
    assert isinstance(pid, int)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    child.send("still")
    assert hear(child) == (" still", False)
    os.kill(pid, signal.SIGKILL)
    assert hear(child) is None
    assert child.end() == -signal.SIGKILL


def test_how_it_ended_and_that_it_ends() -> None:
    child = Child(partial(leave, 3))
    assert hear(child) is None
    assert child.end() == 3
    busy = Child(partial(echo, ""))
    assert isinstance(hear(busy), int)
    started = time.monotonic()
    assert busy.end() == 130  # its stdin has ended: whoever started it seems to be gone
    assert time.monotonic() - started < 15
    slow = Child(partial(echo, ""))
    with pytest.raises(Empty):
        slow.receive(0)
    slow.end(at_once=True)
