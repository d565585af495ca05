"""Parts of a raster put together, from top to bottom, into a cloud-optimised GeoTIFF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from geohr.encoding import Ints
from geohr.errors import OutputError
from geohr.outputs.tiff import HEIGHT, TILE_OFFSETS, TILE_SIZES, WIDTH, Directory, Tag, header
from geohr.outputs.tiles import CogPart, Pixels, TileEncoder, Tiles

# GDAL writes the bytes of a tile before it, and its last bytes once more behind it.
_LEADER = 4
# The size from which a file becomes a BigTIFF: where it must, and by default.
_CLASSIC_MAX, _SAFE_MAX = 2**32 - 1, 2**31


@dataclass
class _Level:
    """What there is of full resolution, or of one overview.

    Attributes:
        came: The number of rows that came, as tiles or as rows.
        rows: Rows that wait for others of their tiles.
        odd: A row that waits for the one with which it makes a row of the next overview.
        sizes: `(plane, row, col)` bytes of tiles, part by part.
        places: Where they are in the file of tiles, likewise.
    """

    came: int = 0
    rows: list[Pixels] = field(default_factory=list)
    odd: list[Pixels] = field(default_factory=list)
    sizes: list[Ints] = field(default_factory=list)
    places: list[Ints] = field(default_factory=list)


class CogAssembly:
    """Puts parts of a raster together.

    Overviews come first in a COG, so tiles wait in a file of their own until all are there.

    Args:
        encoder: How the raster becomes tiles.
        file: The file of tiles, open to write and to read.

    Attributes:
        counts: `(band, 256)` how often each value came, where statistics are asked for.
    """

    def __init__(self, encoder: TileEncoder, file: BinaryIO) -> None:
        self._encoder = encoder
        self._file = file
        self._end = 0
        self._levels = [_Level() for _ in encoder.shapes]
        self.counts: Ints = np.zeros((encoder.bands, 256 if encoder.counted else 0), np.int64)

    @property
    def came(self) -> int:
        """The number of rows that came."""
        return self._levels[0].came

    def add(self, part: CogPart) -> None:
        """Take the next part.

        Raises:
            OSError: When the disk is full or went away.
            rasterio.errors.RasterioError: When GDAL cannot compress.
        """
        self.counts += part.counts
        last = len(part.levels) - 1
        for level, (tiles, rows) in enumerate(part.levels):
            self._keep(level, tiles)
            self._push(level, rows, reduce=level == last)

    def _push(self, level: int, rows: Pixels, *, reduce: bool) -> None:
        """Take rows of a level, and make tiles of them, and rows of the next level if asked."""
        if rows.shape[1] == 0:
            return
        held, (height, _) = self._levels[level], self._encoder.shapes[level]
        held.rows.append(rows)
        held.came += rows.shape[1]
        ends, waiting = held.came == height, sum(each.shape[1] for each in held.rows)
        if ends or waiting >= self._encoder.tile:
            every = np.concatenate(held.rows, axis=1)
            whole = waiting if ends else waiting // self._encoder.tile * self._encoder.tile
            held.rows = [every[:, whole:]]
            held.came -= whole
            self._keep(level, self._encoder.encode(every[:, :whole]))
        if reduce and level + 1 < len(self._levels):
            both = np.concatenate([*held.odd, rows], axis=1)
            even = both.shape[1] if ends else both.shape[1] // 2 * 2
            held.odd = [both[:, even:]]
            if even:
                self._push(level + 1, self._encoder.halved(both[:, :even]), reduce=True)

    def _keep(self, level: int, tiles: Tiles) -> None:
        """Append the tiles of the next rows to the file."""
        count = tiles.sizes.shape[1]
        if count == 0:
            return
        held, (height, _) = self._levels[level], self._encoder.shapes[level]
        held.came = min(held.came + count * self._encoder.tile, height)
        sizes = tiles.sizes.reshape(-1)
        taken = np.where(sizes > 0, sizes + 2 * _LEADER, 0)
        stops = np.cumsum(sizes).tolist()
        self._file.seek(self._end)
        for size, stop in zip(sizes.tolist(), stops, strict=True):
            if size:
                tile = tiles.content[stop - size : stop]
                self._file.write(size.to_bytes(_LEADER, "little") + tile)
                self._file.write(tile[-_LEADER:].rjust(_LEADER, b"\0"))
        held.sizes.append(tiles.sizes)
        held.places.append((self._end + np.cumsum(taken) - taken).reshape(tiles.sizes.shape))
        self._end += int(taken.sum())

    def finish(
        self, target: Path, between: bytes, directories: Sequence[Directory], *, bigtiff: str
    ) -> None:
        """Write the COG.

        Args:
            target: The file.
            between: What lies between its header and its first directory.
            directories: The tags of full resolution and of an overview, but for sizes and places.
            bigtiff: The creation option of this name.

        Raises:
            OutputError: When it would be too large for the TIFF that was asked for.
            OSError: When the disk is full or went away.
        """
        assert self.came == self._encoder.height
        sizes = [np.concatenate(each.sizes, axis=1).reshape(-1) for each in self._levels]
        taken = [np.where(each > 0, each + 2 * _LEADER, 0) for each in sizes]
        least = _SAFE_MAX if bigtiff == "IF_SAFER" else _CLASSIC_MAX
        about = self._end + 64 * sum(map(len, sizes)) + 2**20
        big = bigtiff == "YES" or (bigtiff != "NO" and about > least)
        if not big and about > _CLASSIC_MAX:
            raise OutputError(
                f"{target.name}: more than 4 GB; ask for BIGTIFF=YES, or leave it out"
            )

        def made(places: Sequence[Ints]) -> bytes:
            described = [
                {
                    **directories[min(level, 1)],
                    HEIGHT: Tag.of(np.array([height])),
                    WIDTH: Tag.of(np.array([width])),
                    TILE_OFFSETS: Tag.of(places[level], large=big),
                    TILE_SIZES: Tag.of(sizes[level]),
                }
                for level, (height, width) in enumerate(self._encoder.shapes)
            ]
            return header(between, described, big=big)

        end = len(made(sizes))
        places: list[Ints] = []
        # The smallest overview comes first, and full resolution last.
        for level in reversed(range(len(sizes))):
            place = end + _LEADER + np.cumsum(taken[level]) - taken[level]
            places.insert(0, np.where(sizes[level] > 0, place, 0))
            end += int(taken[level].sum())
        with target.open("wb") as file:
            file.write(made(places))
            for level in reversed(range(len(sizes))):
                starts = np.concatenate(self._levels[level].places, axis=1).reshape(-1)
                for start, count in zip(starts.tolist(), taken[level].tolist(), strict=True):
                    self._file.seek(start)
                    file.write(self._file.read(count))
