"""Tiles of imagery in one PMTiles file, on disk, at a URL or in an object store (PMTiles 3)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Self
from urllib.parse import urlsplit

from geohr._runtime.redact import redact
from geohr._runtime.stores import is_object, open_store
from geohr.errors import InputError, UsageError
from geohr.scene.files import absolute
from geohr.scene.tiles.client import client_of
from geohr.scene.tiles.levels import TileLevel

SUFFIX = ".pmtiles"
# Bytes of the header.
HEADER = 127
# Directories that are held at once.
DIRECTORIES = 64
# How deep directories may be nested.
DEPTH = 4
# Kinds of tiles that are pictures.
PICTURES = {2: "PNG", 3: "JPEG", 4: "WebP"}


def is_pmtiles(name: str) -> bool:
    """Whether a name is that of a PMTiles file."""
    return Path(urlsplit(name).path if "://" in name else name).suffix.lower() == SUFFIX


@dataclass(frozen=True)
class PmtilesOrigin:
    """A PMTiles file; see `geohr.scene.tiles.origin.TileOrigin`.

    Attributes:
        path: A path, an http(s) URL, or the address of an object.
        rate: Requests a second.
    """

    path: str
    rate: float

    @property
    def files(self) -> tuple[str, ...]:
        """The file."""
        return (self.path,)

    def open(self) -> PmtilesArchive:
        """Open the file."""
        return PmtilesArchive(self)

    def describe(self) -> dict[str, object]:
        """The file's name."""
        return {"tiles": redact(self.path)}

    def absolute(self) -> Self:
        """The file under a name that holds in any working folder."""
        return replace(self, path=absolute(self.path))


class PmtilesArchive:
    """A PMTiles file that is open; to be used by several threads.

    Raises:
        InputError: When it cannot be read, is no PMTiles, or holds no pictures.
        UsageError: When the package pmtiles is not installed.
    """

    def __init__(self, origin: PmtilesOrigin) -> None:
        try:
            from pmtiles import tile
        except ImportError as error:
            raise UsageError(
                "PMTiles need the package pmtiles; pip install 'geohr[services]'"
            ) from error
        self._format = tile
        self._bytes = ByteRanges(origin)
        self._name = redact(origin.path)
        self._directories: OrderedDict[int, Any] = OrderedDict()
        self._guard = Lock()
        start = self._bytes.read(0, HEADER)
        try:
            self.header = tile.deserialize_header(start)
            kind = self.header["tile_type"].value
        except (
            tile.MagicNumberNotFound,
            tile.SpecVersionUnsupported,
            IndexError,
            ValueError,
        ) as error:
            raise InputError(f"{self._name}: not a PMTiles file of version 3") from error
        if kind not in PICTURES:
            raise InputError(
                f"{self._name}: holds {self.header['tile_type'].name} tiles; imagery is "
                f"{', '.join(PICTURES.values())}"
            )

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east and north in degrees, as the file says."""
        told = self.header
        west, south = told["min_lon_e7"] / 1e7, told["min_lat_e7"] / 1e7
        return west, south, told["max_lon_e7"] / 1e7, told["max_lat_e7"] / 1e7

    def close(self) -> None:
        """Close the file."""
        self._bytes.close()

    def tile(self, level: TileLevel, row: int, col: int) -> bytes | None:
        """The bytes of a tile; see `geohr.scene.tiles.origin.TileStore.tile`."""
        number = self._format.zxy_to_tileid(int(level.name), col, row)
        offset, length = self.header["root_offset"], self.header["root_length"]
        for _ in range(DEPTH):
            found = self._format.find_tile(self._directory(offset, length), number)
            if found is None:
                return None
            if found.run_length:
                return self._bytes.read(
                    self.header["tile_data_offset"] + found.offset, found.length
                )
            offset, length = self.header["leaf_directory_offset"] + found.offset, found.length
        raise InputError(f"{self._name}: its directories are nested too deep; it is damaged")

    def _directory(self, offset: int, length: int) -> Any:
        """A directory, decoded."""
        with self._guard:
            if offset not in self._directories:
                packed = self._bytes.read(offset, length)
                try:
                    read = self._format.deserialize_directory(packed)
                except (OSError, EOFError, IndexError, ValueError) as error:
                    raise InputError(f"{self._name}: a directory in it is damaged") from error
                if len(self._directories) >= DIRECTORIES:
                    self._directories.popitem(last=False)
                self._directories[offset] = read
            self._directories.move_to_end(offset)
            return self._directories[offset]


class ByteRanges:
    """Ranges of bytes of a file, wherever it is.

    Raises:
        InputError: When it cannot be opened.
    """

    def __init__(self, origin: PmtilesOrigin) -> None:
        self._path, self._rate = origin.path, origin.rate
        self._remote = "://" in origin.path
        self._guard = Lock()
        self._file = None
        if not self._remote:
            try:
                self._file = Path(origin.path).open("rb")  # noqa: SIM115  closed by `close`
            except OSError as error:
                raise InputError(f"{origin.path}: cannot be read ({error.strerror})") from error

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def read(self, start: int, length: int) -> bytes:
        """`length` bytes from `start`.

        Raises:
            InputError: When they cannot be had.
        """
        try:
            body = self._read(start, length)
        except OSError as error:
            raise InputError(f"{redact(self._path)}: cannot be read ({error.strerror})") from error
        if len(body) != length:
            raise InputError(f"{redact(self._path)}: ends before its last tile; it was cut short")
        return body

    def _read(self, start: int, length: int) -> bytes:
        """Bytes of a file on disk, in an object store or at a URL; perhaps fewer at its end."""
        if self._file is not None:
            with self._guard:
                self._file.seek(start)
                return self._file.read(length)
        if is_object(self._path):
            store, key = open_store(self._path)
            try:
                return bytes(store.get_range(key, start=start, length=length))
            except Exception as error:  # the library raises its own kinds
                told = type(error).__name__
                raise InputError(f"{redact(self._path)}: cannot be read ({told})") from error
        wanted = {"Range": f"bytes={start}-{start + length - 1}"}
        reply = client_of(self._rate).get(self._path, wanted)
        if reply.status != 206:
            raise InputError(
                f"{redact(self._path)}: the server answers with status {reply.status} where a part "
                "of the file was asked for; it must be there and support range requests"
            )
        return reply.body
