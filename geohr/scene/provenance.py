"""What identifies the files of a scene, and when they were last changed."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from geohr._runtime.files import local_part
from geohr._runtime.redact import redact
from geohr._runtime.stores import object_address, state_of
from geohr.scene.files import files_of, open_raster

HTTP_SECONDS = 20.0
"""The seconds that a server may take to say whether a scene has changed."""


def files_behind(path: str | Path) -> tuple[str, ...]:
    """Names of all files that a raster is read from: itself, its sources and its sidecars.

    Raises:
        InputError: When it cannot be opened.
    """
    with open_raster(path) as raster:
        return tuple(files_of(raster, (str(path),)))


def identify(files: Iterable[str]) -> list[list[object]]:
    """The identity of an input: name, size, time of modification or entity tag of its files.

    Args:
        files: Paths and URLs that make up an input. One whose state cannot be asked for
            counts as changed each time.
    """
    return [[redact(name), *state(name)] for name in files]


def changed(files: Iterable[str], before: Iterable[list[object]]) -> str | None:
    """The first file whose state is not as `identify` gave it `before`; None where all are."""
    for name, (_, *old) in zip(files, before, strict=True):
        new = list(state(name))
        # Where one of the two could not be asked for, it says nothing of a change.
        unknown = len(old) == 1 or (len(new) == 1 and "://" in name)
        if not unknown and new != old:
            return name
    return None


def state(name: str) -> tuple[object, ...]:
    """Size and time of a file, entity tag and length at a URL."""
    stored = object_address(name)
    if stored is not None:
        return state_of(stored)
    address = name[name.index("http") :] if "http" in name else ""
    if address.startswith(("http://", "https://")):
        return state_at(address)
    path = local_part(name)
    if path is None:
        return (uuid4().hex,)
    return (str(path.resolve()), *(file_version(path) or ()))


def file_version(path: str | Path) -> tuple[int, ...] | None:
    """What changes when a file on disk does: size, times and inode; None where there is no file.

    The time of modification alone can be set back, and is, by what unpacks and copies files; the
    time of the inode's last change cannot.
    """
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def modified(files: Iterable[str]) -> str | None:
    """When the newest of the files was last changed, UTC; None where none is on disk."""
    paths = [path for path in map(local_part, files) if path is not None]
    if not paths:
        return None
    return stamp(datetime.fromtimestamp(max(path.stat().st_mtime for path in paths), UTC))


def stamp(moment: datetime) -> str:
    """A time in UTC as RFC 3339 writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def state_at(address: str) -> tuple[object, ...]:
    """Entity tag, time and length that a server gives; a fresh token where it gives none."""
    request = urllib.request.Request(address, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=HTTP_SECONDS) as answer:
            told = [answer.headers[each] for each in ("ETag", "Last-Modified", "Content-Length")]
    except (OSError, urllib.error.URLError, http.client.HTTPException, ValueError):
        return (uuid4().hex,)
    return tuple(told) if any(told[:2]) else (uuid4().hex,)
