"""Starts the process of `geohr.batch.worker`, gives it scenes, ends it when it hangs."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self

from geohr._runtime.stop import Stop
from geohr.batch.worker import Task
from geohr.errors import GeohrError, InterruptedRunError

POLL_SECONDS = 0.2
"""How often is looked whether to stop."""
END_SECONDS = 5.0
"""How long a process may take to end by itself."""


class Worker:
    """A process that segments scenes; started when it is first needed, and again after a crash.

    Args:
        allow_vrt: Whether VRT files can be opened at all.
    """

    def __init__(self, *, allow_vrt: bool) -> None:
        self._allow_vrt = allow_vrt
        self._process: subprocess.Popen[str] | None = None
        self._answers: SimpleQueue[dict[str, Any] | None] = SimpleQueue()

    def __enter__(self) -> Self:
        """Itself; nothing is started yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        self.end()

    def run(
        self,
        task: Task,
        *,
        timeout: float | None,
        stop: Stop,
        progress: Callable[[int, int], None],
    ) -> dict[str, Any]:
        """Segment one scene.

        Args:
            task: What to do.
            timeout: Seconds after which the process is ended.
            stop: When requested, the process is asked to stop too.
            progress: Called with windows done and windows in all.

        Returns:
            The worker's last answer: event `done` with the summary, or `failed` with code and
            error; the latter also where it crashed or took too long.
        """
        self._send(dataclasses.asdict(task))
        deadline = None if timeout is None else time.monotonic() + timeout
        asked = False
        while True:
            if deadline is not None and time.monotonic() > deadline:
                self.end(at_once=True)
                return failed(f"took longer than {timeout:g} s, and was given up")
            if stop.requested and not asked:
                asked = True
                self._send({"stop": True})
            if stop.overdue:
                self.end(at_once=True)
                return failed("stopped as asked", InterruptedRunError.exit_code)
            try:
                answer = self._answers.get(timeout=POLL_SECONDS)
            except Empty:
                continue
            if answer is None:
                return failed(self._how_it_ended())
            if answer["event"] == "progress":
                progress(answer["done"], answer["total"])
            else:
                return answer

    def end(self, *, at_once: bool = False) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        if not at_once and process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
        process.kill()
        release(process)

    def _send(self, values: dict[str, Any]) -> None:
        """Give the process a line, which is started where there is none."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(json.dumps(values, default=str) + "\n")
            self._process.stdin.flush()

    def _start(self) -> None:
        """Start the process, in a session of its own so that signals of a terminal pass it by."""
        package = str(Path(__file__).parents[2])
        paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        if not self._allow_vrt:
            # Left out by GDAL itself, so that neither a disguised file nor a mask beside a
            # scene can be one.
            environment["GDAL_SKIP"] = "VRT"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "geohr.batch.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env=environment,
            start_new_session=True,
        )
        self._answers = SimpleQueue()
        threading.Thread(target=listen, args=(self._process, self._answers), daemon=True).start()

    def _how_it_ended(self) -> str:
        """Why the process is gone, in words."""
        process, self._process = self._process, None
        code = release(process) if process is not None else 0
        if code < 0:
            return f"the process that read it was ended by signal {-code}; it may be damaged"
        return f"the process that read it ended with code {code}"


def release(process: subprocess.Popen[str]) -> int:
    """Wait for a process that is ending and close its pipes; its code."""
    code = process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError, ValueError):
                pipe.close()
    return code


def listen(process: subprocess.Popen[str], answers: SimpleQueue[dict[str, Any] | None]) -> None:
    """Queue a process's answers, and None when there are no more."""
    assert process.stdout is not None
    # ValueError: half a line of a process that was ended, or a pipe that was closed meanwhile.
    with suppress(ValueError, OSError):
        for line in process.stdout:
            answers.put(json.loads(line))
    answers.put(None)


def failed(error: str, code: int = GeohrError.exit_code) -> dict[str, Any]:
    """An answer in place of the worker's."""
    return {"event": "failed", "code": code, "error": error}
