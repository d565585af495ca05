"""Locks that the system drops when their process ends, however it ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from geohr._runtime.files import as_output_error
from geohr.errors import LockedError

POLL_SECONDS = 0.05
"""How often a lock that is held is tried again."""

if sys.platform == "win32":
    import msvcrt

    def try_lock(file: int) -> bool:
        """Lock an open file if nobody holds it."""
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def try_lock(file: int) -> bool:
        """Lock an open file if nobody holds it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def locked(path: Path, *, what: str, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path`; it is removed afterwards.

    Args:
        path: A file that is made where it is missing, with its folder.
        what: What another run is writing to, for the message.
        wait: Seconds to wait for another run to end.

    Raises:
        LockedError: When another run holds it.
        OutputError: When the file cannot be made.
    """
    deadline = time.monotonic() + wait
    while (file := acquire(path)) is None:
        if time.monotonic() > deadline:
            raise LockedError(f"{what}: another run is writing there; wait until it has ended")
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        # Removed before it is let go, so that nobody locks a file that is about to go.
        with suppress(OSError):
            path.unlink()
        os.close(file)


def acquire(path: Path) -> int | None:
    """The open file with its lock, or None where another process has it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise as_output_error(error, path.parent) from error
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except FileNotFoundError:
        # The run that had the lock has just removed the folder.
        return None
    except OSError as error:
        raise as_output_error(error, path) from error
    # Whoever held the lock may have removed the file since it was opened here.
    if try_lock(file) and is_file_at(file, path):
        return file
    os.close(file)
    return None


def is_file_at(file: int, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
