"""Removing what runs that were cut short have left."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from geohr._runtime.files import remove_empty
from geohr._runtime.locks import locked
from geohr.errors import LockedError, UsageError
from geohr.inference.checkpoint import LOCK, WORK_FOLDER


def clean_folder(folder: Path, *, dry_run: bool = False) -> Iterator[tuple[Path, int]]:
    """Remove work folders that no run holds, and temporary files beside outputs.

    Args:
        folder: A folder of outputs, or one that was given as work folder.
        dry_run: Remove nothing.

    Yields:
        What was removed, and how many bytes it had.

    Raises:
        UsageError: When there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    root = folder / WORK_FOLDER
    root = root if root.is_dir() else folder
    for home in sorted(path for path in root.iterdir() if is_work(path)):
        try:
            with locked(home / LOCK, what=home.name):
                inside = [path for path in home.iterdir() if path.is_dir()]
                size = sum(size_of(path) for path in inside)
                if not dry_run:
                    for path in inside:
                        shutil.rmtree(path, ignore_errors=True)
        except LockedError:
            # A run is using these blocks.
            continue
        if not dry_run:
            remove_empty(home, root if root != folder else home)
        yield home, size
    if not dry_run and root != folder:
        remove_empty(root)


def is_work(folder: Path) -> bool:
    """Whether a folder is one that blocks are kept in: named after an output and a digest."""
    name, _, digest = folder.name.rpartition("-")
    hexadecimal = len(digest) == 8 and not set(digest) - set("0123456789abcdef")
    return folder.is_dir() and bool(name) and hexadecimal


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
