"""Where the bytes of tiles come from: a service that is asked for each."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from functools import cache
from threading import Lock
from typing import Protocol, Self

from geohr._runtime.files import cache_folder
from geohr.errors import InputError
from geohr.scene.tiles.address import TileAddress, host_of, shown
from geohr.scene.tiles.cache import CachedTile, TileCache
from geohr.scene.tiles.client import Reply, client_of
from geohr.scene.tiles.levels import TileLevel

# The folder of tiles in the cache folder.
TILES = "tiles"
# The first bytes of the formats in which tiles come, and GDAL's drivers for them.
FORMATS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"RIFF": "WEBP",
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
}
# The statuses of a tile that the service does not have.
MISSING = (204, 404, 410)
# A header by which Bing's service tells a picture that says so from imagery.
NO_TILE = ("x-ve-tile-info", "no-tile")
# Threads that ask for different tiles at once seldom share one of these.
_ASKED = tuple(Lock() for _ in range(64))


class TileStore(Protocol):
    """An origin that is open; its tiles are asked for by several threads."""

    def tile(self, level: TileLevel, row: int, col: int) -> bytes | None:
        """The bytes of a tile; None where there is none.

        Raises:
            InputError: When it cannot be had.
        """

    def close(self) -> None:
        """Close what is open."""


class TileOrigin(Protocol):
    """Where tiles come from. It holds no connection, so that it can be pickled."""

    @property
    def files(self) -> tuple[str, ...]:
        """The files that tiles depend on; none of a service."""

    def open(self) -> TileStore:
        """Open it."""

    def describe(self) -> dict[str, object]:
        """What tells it from others, as JSON, without keys."""

    def absolute(self) -> Self:
        """The origin under names that hold in any working folder."""


@dataclass(frozen=True)
class HttpOrigin:
    """A service of tiles; see `TileOrigin`.

    Attributes:
        address: The addresses of its tiles.
        rate: Requests a second.
        pictures: SHA-256 of pictures that it sends in place of tiles that it does not have.
        since: A tile that was fetched after this time, in seconds since 1970, is not asked for
            again, whatever its headers say: a run sees one state of each tile.
    """

    address: TileAddress
    rate: float
    pictures: tuple[str, ...] = ()
    since: float = field(default_factory=time.time, compare=False)

    @property
    def files(self) -> tuple[str, ...]:
        """None: a service is no file."""
        return ()

    def open(self) -> TileStore:
        """The service, through the cache."""
        return HttpTiles(self)

    def describe(self) -> dict[str, object]:
        """Its address without keys, and its error pictures."""
        return {"address": shown(self.address.template), "pictures": list(self.pictures)}

    def absolute(self) -> Self:
        """Itself: addresses hold everywhere."""
        return self


class HttpTiles:
    """Tiles of a service, each asked for once and kept."""

    def __init__(self, origin: HttpOrigin) -> None:
        self._origin = origin
        self._client = client_of(origin.rate)
        self._cache = tile_cache()

    def close(self) -> None:
        """Nothing: connections are kept for the next reader."""

    def tile(self, level: TileLevel, row: int, col: int) -> bytes | None:
        """The bytes of a tile; see `TileStore.tile`."""
        url = self._origin.address.url(level, row, col)
        key = hashlib.sha256(url.encode()).hexdigest()
        with _ASKED[int(key[:4], 16) % len(_ASKED)]:
            held = self._cache.get(key)
            if (
                held is None
                or max(held.stored - self._origin.since, held.fresh_until - time.time()) < 0
            ):
                reply = self._client.get(url, {} if held is None else held.conditions)
                held = as_tile(reply, held, host_of(url))
                self._cache.put(key, held)
        if not held.body or digest(held.body) in self._origin.pictures:
            return None
        return held.body


@cache
def tile_cache() -> TileCache:
    """The cache of this process."""
    return TileCache(cache_folder() / TILES)


def digest(body: bytes) -> str:
    """SHA-256 of a tile, hexadecimal."""
    return hashlib.sha256(body).hexdigest()


def as_tile(reply: Reply, before: CachedTile | None, host: str) -> CachedTile:
    """What an answer says of a tile, which was kept as `before` if it may not have changed.

    Raises:
        InputError: For a refusal, an error of the service, or a page in place of a picture; it
            names the host.
    """
    if reply.status == 304 and before is not None:
        kept = {"etag": before.etag, "last-modified": before.modified}
        return CachedTile.of(before.body, kept | dict(reply.headers))
    name, value = NO_TILE
    empty = reply.status == 200 and not reply.body
    if reply.status in MISSING or empty or reply.headers.get(name) == value:
        return CachedTile.of(b"", reply.headers)
    if reply.status in (401, 403):
        raise InputError(
            f"{host}: refuses access (status {reply.status}); check the key in the address, and "
            "that the service allows such use"
        )
    if reply.status != 200:
        raise InputError(
            f"{host}: answers with status {reply.status} where a tile was asked for; check the "
            "address"
        )
    if format_of(reply.body) is None:
        told = reply.headers.get("content-type", "of no type").partition(";")[0]
        raise InputError(
            f"{host}: sends {told} where a tile was asked for, such as a page that wants a sign-in "
            "or tells of an error; look at the address of a tile in a browser"
        )
    return CachedTile.of(reply.body, reply.headers)


def format_of(body: bytes) -> str | None:
    """GDAL's driver for a tile, by its first bytes; None for what is no picture."""
    return next((driver for first, driver in FORMATS.items() if body.startswith(first)), None)
