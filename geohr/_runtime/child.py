"""Child processes: they exchange messages with this one, stop when asked, and never outlive it.

Messages are pickles over the child's stdin and stdout. A child whose stdin ends knows that its
parent is gone, however it went, and ends too. `multiprocessing` has no such tie on every system,
and a script that starts its processes must be importable.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, BinaryIO

from geohr._runtime.messages import take_over_messages
from geohr._runtime.stop import Stop
from geohr.errors import InterruptedRunError

# The seconds that a child may take to end by itself.
END_SECONDS = 20.0
# The message that sets a child's `Parent.stop`.
STOP = "stop"


class Child:
    """A process that runs a function, in a session of its own so that a terminal's signals pass by.

    Args:
        function: Called in the child with its `Parent`; pickled, with all that it holds.
        environment: Variables that the child has besides those of this process.
    """

    def __init__(
        self, function: Callable[[Parent], object], environment: Mapping[str, str] | None = None
    ) -> None:
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)  # noqa: PTH109
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from geohr._runtime.child import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths, **(environment or {})},
            start_new_session=True,
        )
        self._messages: SimpleQueue[Any] = SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        self.send(function)

    def send(self, message: object) -> None:
        """Give the child a message; one that has ended is found out by `receive`."""
        assert self._process.stdin is not None
        data = pickle.dumps(message)
        with suppress(OSError, ValueError):
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def stop(self) -> None:
        """Ask the child to stop in order."""
        self.send(STOP)

    def receive(self, timeout: float) -> Any:
        """The child's next message; None once it has ended and there are no more.

        Raises:
            Empty: When there is none within `timeout` seconds.
        """
        try:
            return self._messages.get(timeout=timeout)
        except Empty:
            # A grandchild may hold the pipe open, so that no end of it is seen.
            if self._process.poll() is not None and self._messages.empty():
                return None
            raise

    def end(self, *, at_once: bool = False) -> int:
        """End the child, where it has not ended by itself; `at_once` without waiting for it.

        Returns:
            Its exit code, below 0 the signal that ended it.
        """
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        if not at_once:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)
        self._process.kill()
        return self._process.wait()

    def _listen(self) -> None:
        """Queue what the child says, and None when it has ended."""
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            # Half a message of a child that was killed is no message.
            with suppress(EOFError, OSError, ValueError, pickle.UnpicklingError):
                while True:
                    self._messages.put(pickle.load(pipe))
            self._messages.put(None)


class Parent:
    """The process that started this one.

    Attributes:
        stop: Set when the parent asks to stop.
    """

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self.stop = Stop()
        self._sink = sink
        self._messages: SimpleQueue[Any] = SimpleQueue()
        threading.Thread(target=self._listen, args=(source,), daemon=True).start()

    def send(self, message: object) -> None:
        """Give the parent a message."""
        self._sink.write(pickle.dumps(message))
        self._sink.flush()

    def receive(self) -> Any:
        """The parent's next message."""
        return self._messages.get()

    def _listen(self, source: BinaryIO) -> None:
        """Queue what the parent says; end this process when the parent has gone."""
        with suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                message = pickle.load(source)
                if message == STOP:
                    self.stop.request()
                else:
                    self._messages.put(message)
        os._exit(InterruptedRunError.exit_code)


def main() -> None:
    """Run the function that the parent sends first, with what it prints sent to stderr."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # systemd and Slurm signal every process of a job; this one is told by its parent.
        signal.signal(number, signal.SIG_IGN)
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.dup2(2, 1)
    take_over_messages()
    function: Callable[[Parent], object] = pickle.load(source)
    function(Parent(source, sink))
