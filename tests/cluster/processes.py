"""A Dask scheduler and its workers, each a process that can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from distributed import Client

SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "500ms",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "5s",
}
"""Of Dask's processes, as docs/clusters.md has them."""
START_SECONDS = 120.0
"""How long processes may take to start on a busy machine."""


@contextmanager
def scheduler(home: Path) -> Iterator[str]:
    """A scheduler in a process of its own; its address."""
    file = home / "scheduler.json"
    file.unlink(missing_ok=True)
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show"]
    process = start("scheduler", [*options, "--scheduler-file", str(file)], home)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not file.exists() or not file.read_text().strip():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((home / "scheduler.log").read_text())
            time.sleep(0.05)
        with Client(scheduler_file=str(file), set_as_default=False) as client:
            address = str(client.scheduler_info()["address"])
        yield address
    finally:
        end(process)


@contextmanager
def workers(
    address: str, count: int, home: Path, options: Sequence[str] = ()
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Worker processes with one thread each, once all have joined.

    Args:
        address: Of the scheduler.
        count: How many processes.
        home: For their logs and temporary files.
        options: Further ones of `dask worker`.
    """
    plain = [address, "--nthreads", "1", "--no-dashboard", "--memory-limit", "0", *options]
    processes = [start("worker", plain, home, name=f"worker{number}") for number in range(count)]
    try:
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=START_SECONDS)
        yield processes
    finally:
        for process in processes:
            end(process)


def start(
    kind: str, options: Sequence[str], home: Path, *, name: str | None = None
) -> subprocess.Popen[bytes]:
    """A process of Dask's in a session of its own, which logs to a file in `home`."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / f"{name or kind}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options],
            stdout=log,
            stderr=log,
            cwd=home,
            env=SETTINGS | os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def children(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes that a nanny has started, by what they run: the worker itself."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes()
        except (OSError, IndexError, ValueError):
            continue
        if parent == process.pid and b"spawn_main" in command:
            found.append(int(folder.name))
    return found
