"""Files that appear under their name only when they are whole."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from geohr.errors import OutputError, UsageError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it when the block ends without an error.

    The temporary file keeps the suffix, because drivers choose by it. After an error nothing is
    left behind and a file that was there before is untouched.

    Raises:
        OutputError: When the folder is missing or not writable, or the disk is full.
    """
    part = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)  # noqa: PTH105  the one call that is atomic on every system
    except OSError as error:
        raise as_output_error(error, path) from error
    finally:
        for leftover in part.parent.glob(f"{part.name}*"):
            with suppress(OSError):
                leftover.unlink()


def as_output_error(error: OSError, path: Path) -> OSError:
    """`error` as one about writing `path`; an error of geohr's own stays as it is."""
    if isinstance(error, OutputError):
        return error
    if error.errno == errno.ENOSPC:
        return OutputError(f"{path}: no space left on the device; make room and run again")
    return OutputError(f"{path}: cannot be written ({error.strerror or error})")


def check_writable(path: Path, *, overwrite: bool) -> None:
    """Refuse an output before any work is done for it.

    Raises:
        UsageError: When it exists and `overwrite` is not set.
        OutputError: When its folder is missing or not writable.
    """
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file")
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: exists; choose another name or pass --overwrite")
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{path}: folder {folder} does not exist; make it first")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{path}: folder {folder} is not writable")
