"""Locks that the system drops when their process ends, however it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from geohr._runtime.files import as_output_error
from geohr.errors import LockedError

# The seconds between two tries of a lock that another process holds.
POLL_SECONDS = 0.05


@contextmanager
def locked(path: Path, *, what: str, wait: float = 0.0) -> Iterator[None]:
    """Hold a lock file, made with its folder where it is missing, and removed afterwards.

    If another run is writing `what`, wait up to `wait` seconds for it to end.

    Raises:
        LockedError: When another run holds it.
        OutputError: When the file cannot be made.
    """
    lock = FileLock(path, thread_local=False)
    deadline = time.monotonic() + wait
    while not lock.is_locked:
        left = max(deadline - time.monotonic(), 0)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=left, poll_interval=POLL_SECONDS)
        except Timeout as error:
            raise LockedError(
                f"{what}: another run is writing there; wait until it has ended"
            ) from error
        except FileNotFoundError:
            # The run that had the lock has just removed the folder.
            continue
        except OSError as error:
            raise as_output_error(error, path) from error
    try:
        yield
    finally:
        # Removed before it is let go, so that nobody locks a file that is about to go.
        with suppress(OSError):
            path.unlink()
        lock.release()
