"""Compiled networks kept between runs.

An entry is a folder named by a digest of all that its content depends on. It is written beside
its final name and renamed, so it is whole or not there; one that an engine cannot read is removed
and made again. Before one is made, those that were used longest ago make room.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from geohr._runtime.files import CACHE_VARIABLE, cache_folder
from geohr.errors import OutputError

T = TypeVar("T")

# Changes when what lies in an entry changes.
FORMAT = "1"
# The prefix of temporary folders, in which entries are made.
MAKING = ".making-"
# Seconds after which such a folder belongs to no process any more: making takes minutes.
ABANDONED = 24 * 3600
# Bytes that entries may take before one more is made. One of a large network takes a fifth of it.
KEPT_BYTES = 2_000_000_000
# The file of an entry that is written last, and touched whenever it is used.
KEY = "key.json"


def cached(
    key: Mapping[str, object], build: Callable[[Path], None], load: Callable[[Path], T]
) -> T:
    """Load the entry for `key` with `load`, after filling it with `build` if there is none.

    Args:
        key: All that the content depends on.
        build: Writes the entry's files into an empty folder.
        load: Reads them; any exception means that the entry is damaged.

    Raises:
        OutputError: When the cache folder cannot be written.
    """
    text = json.dumps({**key, "format": FORMAT}, sort_keys=True)
    entry = cache_folder() / hashlib.sha256(text.encode()).hexdigest()[:32]
    if entry.is_dir():
        with suppress(OSError):  # a cache may be another user's, and only be read
            os.utime(entry / KEY)
        try:
            return load(entry)
        except Exception:
            shutil.rmtree(entry, ignore_errors=True)
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        sweep(entry.parent)
        with tempfile.TemporaryDirectory(dir=entry.parent, prefix=MAKING) as made:
            build(Path(made) / "entry")
            (Path(made) / "entry" / KEY).write_text(text)
            publish(Path(made) / "entry", entry)
    except OSError as error:
        raise OutputError(
            f"{entry.parent}: the cache of compiled networks cannot be written "
            f"({error.strerror or error}); name another folder with ${CACHE_VARIABLE}"
        ) from error
    return load(entry)


def sweep(folder: Path) -> None:
    """Remove what killed processes have left, and the entries for which there is no room."""
    for left in folder.glob(f"{MAKING}*"):
        with suppress(FileNotFoundError):  # its process may end, or another sweep, just now
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
    used: list[tuple[float, int, Path]] = []
    for key in folder.glob(f"*/{KEY}"):
        with suppress(FileNotFoundError):  # as above
            files = [each for each in key.parent.iterdir() if each.is_file()]
            size = sum(each.stat().st_size for each in files)
            used.append((key.stat().st_mtime, size, key.parent))
    held = 0
    for _, size, entry in sorted(used, reverse=True):
        held += size
        if held > KEPT_BYTES:
            # Who has loaded it holds it in memory; who is about to load it makes it again.
            shutil.rmtree(entry, ignore_errors=True)


def publish(made: Path, entry: Path) -> None:
    """Give a finished entry its name; one that another process finished first stays."""
    try:
        made.rename(entry)
    except OSError:
        if not entry.is_dir():
            raise
