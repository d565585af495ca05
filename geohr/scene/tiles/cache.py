"""Tiles kept on disk: within a bound, for as long as the server allows (RFC 9111)."""

from __future__ import annotations

import json
import os
import re
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from threading import Lock
from uuid import uuid4

# Most bytes of tiles on disk; those that were not used for longest go first.
DISK_BYTES = 2 * 10**9
# Share of the bound that is left when tiles had to go.
KEPT = 0.8
# Most bytes of tiles in memory, for those that a server wants on no disk.
MEMORY_BYTES = 2**26
# The seconds for which a tile is fresh where the server does not say, and a missing one.
FRESH_SECONDS, MISSING_SECONDS = 7 * 24 * 3600.0, 24 * 3600.0


@dataclass(frozen=True)
class CachedTile:
    """An answer of a service.

    Attributes:
        body: The bytes of the tile; none where it is missing.
        stored: When it was fetched or found unchanged, in seconds since 1970.
        fresh_until: Until when it need not be asked for again.
        kept: Whether it may be written to disk.
        etag: The server's entity tag, or none.
        modified: The server's time of modification, or none.
    """

    body: bytes
    stored: float
    fresh_until: float
    kept: bool = True
    etag: str = ""
    modified: str = ""

    @classmethod
    def of(cls, body: bytes, headers: Mapping[str, str]) -> CachedTile:
        """An answer that has just come, for as long as its headers say."""
        now = time.time()
        until, kept = freshness(headers, now, FRESH_SECONDS if body else MISSING_SECONDS)
        etag, modified = headers.get("etag", ""), headers.get("last-modified", "")
        return cls(body, now, until, kept, etag, modified)

    @property
    def conditions(self) -> dict[str, str]:
        """The headers that ask for the tile only if it has changed."""
        told = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {name: value for name, value in told.items() if value}


def freshness(headers: Mapping[str, str], now: float, default: float) -> tuple[float, bool]:
    """Until when an answer is fresh, and whether it may be written to disk."""
    control = headers.get("cache-control", "").lower()
    kept = "no-store" not in control
    if "no-cache" in control:
        return now, kept
    if found := re.search(r"max-age\s*=\s*\"?(\d+)", control):
        age = headers.get("age", "0")
        return now + float(found[1]) - (float(age) if age.isdecimal() else 0.0), kept
    if "expires" in headers:
        try:
            return parsedate_to_datetime(headers["expires"]).timestamp(), kept
        except ValueError:  # such as 0, which means the past
            return now, kept
    return now + default, kept


class TileCache:
    """Tiles by key, in memory and on disk; to be used by several threads and processes.

    A disk that cannot be written is done without.

    Args:
        folder: The folder of the tiles.
        limit: Most bytes in it.
    """

    def __init__(self, folder: Path, limit: int = DISK_BYTES) -> None:
        self._folder = folder
        self._limit = limit
        self._recent: OrderedDict[str, CachedTile] = OrderedDict()
        self._held = 0
        # As if much had been written before: the first sweep comes early.
        self._since_sweep = limit
        self._guard = Lock()

    def get(self, key: str) -> CachedTile | None:
        """The tile of a key, or None."""
        with self._guard:
            if key in self._recent:
                self._recent.move_to_end(key)
                return self._recent[key]
        path = self._path(key)
        with suppress(OSError, ValueError, TypeError):
            head, _, body = path.read_bytes().partition(b"\n")
            tile = CachedTile(body, **json.loads(head))
            os.utime(path)
            return tile
        return None

    def put(self, key: str, tile: CachedTile) -> None:
        """Keep a tile, whole or not at all."""
        with self._guard:
            self._remember(key, tile)
        if not tile.kept:
            return
        told = {name: value for name, value in vars(tile).items() if name != "body"}
        path = self._path(key)
        part = path.with_name(f".{uuid4().hex}")
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.write_bytes(json.dumps(told).encode() + b"\n" + tile.body)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
            self._sweep_now_and_then(len(tile.body))

    def _path(self, key: str) -> Path:
        """The file of a key."""
        return self._folder / key[:2] / key[2:]

    def _remember(self, key: str, tile: CachedTile) -> None:
        """Hold a tile in memory, and forget others for it."""
        before = self._recent.pop(key, None)
        self._held += len(tile.body) - (len(before.body) if before else 0)
        self._recent[key] = tile
        while self._held > MEMORY_BYTES:
            self._held -= len(self._recent.popitem(last=False)[1].body)

    def _sweep_now_and_then(self, written: int) -> None:
        """Keep to the bound, looked at whenever a tenth of it was written."""
        with self._guard:
            self._since_sweep += written
            if self._since_sweep < self._limit / 10:
                return
            self._since_sweep = 0
        files = sorted(_files(self._folder))
        held = sum(size for _, size, _ in files)
        if held <= self._limit:
            return
        for _, size, path in files:
            if held <= KEPT * self._limit:
                break
            with suppress(OSError):
                path.unlink()
            held -= size


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """When each tile was last used, its bytes and its file."""
    for inner in folder.iterdir():
        for each in inner.iterdir():
            with suppress(OSError):  # another process may have removed it just now
                told = each.stat()
                yield told.st_mtime, told.st_size, each
