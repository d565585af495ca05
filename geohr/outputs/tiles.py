"""Pixels to the compressed tiles of a cloud-optimised GeoTIFF, by whoever has the pixels.

Rows of a raster become a part: the compressed tiles of its levels, as far as they lie within these
rows, and the rows of those that do not. Parts are made anywhere and put together in order by
`geohr.outputs.cog`; the file is the same, however the rows were cut. GDAL compresses the tiles.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from geohr.encoding import NODATA, Ints
from geohr.outputs.tiff import PLANAR, TILE_OFFSETS, TILE_SIZES, read_tags

Pixels = NDArray[np.uint8]
# Mean of up to four values, rounded half up, by how many and by their sum.
_MEANS = np.array(
    [
        [NODATA] * 1021,
        *([min((2 * x + n) // (2 * n), 255) for x in range(1021)] for n in range(1, 5)),
    ],
    np.uint8,
)


@dataclass(frozen=True)
class Tiles:
    """Compressed tiles, whole rows of them.

    Attributes:
        sizes: `(plane, row, col)` bytes of each; 0 where it holds no data and is left out.
        content: Their bytes, one after the other in this order.
    """

    sizes: Ints
    content: bytes


@dataclass(frozen=True)
class CogPart:
    """Rows of a raster.

    Attributes:
        levels: Of full resolution and of each overview that these rows make up by themselves:
            tiles, perhaps none, and the rows `(band, row, col)` after them.
        counts: `(band, 256)` how often each value comes; `(band, 0)` where nobody asks.
    """

    levels: tuple[tuple[Tiles, Pixels], ...]
    counts: Ints

    def to_arrays(self, prefix: str) -> dict[str, Any]:
        """The fields as named arrays, with a prefix before each name."""
        arrays: dict[str, Any] = {f"{prefix}counts": self.counts}
        for level, (tiles, rows) in enumerate(self.levels):
            arrays[f"{prefix}sizes{level}"] = tiles.sizes
            arrays[f"{prefix}tiles{level}"] = np.frombuffer(tiles.content, np.uint8)
            arrays[f"{prefix}rows{level}"] = rows
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], prefix: str) -> Self:
        """Read what `to_arrays` made."""
        count = sum(name.startswith(f"{prefix}sizes") for name in arrays)
        levels = tuple(
            (
                Tiles(arrays[f"{prefix}sizes{level}"], arrays[f"{prefix}tiles{level}"].tobytes()),
                arrays[f"{prefix}rows{level}"],
            )
            for level in range(count)
        )
        return cls(levels, arrays[f"{prefix}counts"])


@dataclass(frozen=True)
class TileEncoder:
    """How the rows of a raster of uint8 become tiles.

    Attributes:
        height: Rows of the raster.
        width: Its columns.
        bands: Its bands.
        resampling: That of overviews, `nearest` or `average`.
        settings: Those of GDAL's COG driver, by name.
    """

    height: int
    width: int
    bands: int
    resampling: str
    settings: Mapping[str, str]

    @property
    def tile(self) -> int:
        """Side of a tile in pixels."""
        return int(self.settings["BLOCKSIZE"])

    @property
    def counted(self) -> bool:
        """Whether statistics are asked for."""
        return self.settings.get("STATISTICS", "").upper() == "YES"

    @cached_property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of full resolution, and of overviews until one is a tile."""
        shapes = [(self.height, self.width)]
        asked = self.settings.get("OVERVIEW_COUNT")
        most = None if asked is None else int(asked)
        if self.settings.get("OVERVIEWS", "").upper() == "NONE":
            most = 0
        while max(shapes[-1]) > (self.tile if most is None else 1):
            if most is not None and len(shapes) > most:
                break
            shapes.append(((shapes[-1][0] + 1) // 2, (shapes[-1][1] + 1) // 2))
        return tuple(shapes)

    def part(self, start: int, rows: Pixels) -> CogPart:
        """Make the part of the rows `(band, row, col)` from `start` on."""
        stop = start + rows.shape[1]
        ends, last = stop == self.height, len(self.shapes) - 1
        depth = 0
        while depth < last and start >> depth & 1 == 0 and (ends or stop >> depth & 1 == 0):
            depth += 1
        counts = np.zeros((self.bands, 0), np.int64)
        if self.counted:
            counts = np.stack([np.bincount(each.reshape(-1), minlength=256) for each in rows])
        levels = []
        for level in range(depth + 1):
            if level:
                rows = self.halved(rows)
            whole = 0
            # Of the last level of all that these rows make up, the next ones may need the rows.
            if (start >> level) % self.tile == 0 and (level < depth or depth == last):
                whole = rows.shape[1] if ends else rows.shape[1] // self.tile * self.tile
            levels.append((self.encode(rows[:, :whole]), rows[:, whole:]))
        return CogPart(tuple(levels), counts)

    def halved(self, rows: Pixels) -> Pixels:
        """Rows of the next overview; an odd row or column is taken by itself."""
        if self.resampling == "nearest":
            return np.ascontiguousarray(rows[:, ::2, ::2])
        height, width = rows.shape[1:]
        if height % 2 or width % 2:
            rows = np.pad(rows, ((0, 0), (0, height % 2), (0, width % 2)), constant_values=NODATA)
        four = [rows[:, row::2, col::2] for row in (0, 1) for col in (0, 1)]
        valid = [each != NODATA for each in four]
        count = sum(each.view(np.uint8) for each in valid)
        total = sum(
            np.multiply(each, known, dtype=np.uint16)
            for each, known in zip(four, valid, strict=True)
        )
        return np.asarray(_MEANS[count, total])

    def encode(self, rows: Pixels) -> Tiles:
        """Compress the tiles of rows `(band, row, col)`, which begin with a row of tiles.

        Raises:
            rasterio.errors.RasterioError: When GDAL cannot.
        """
        tops = range(0, rows.shape[1], self.tile)
        made = [self._encode_row(rows[:, top : top + self.tile]) for top in tops]
        if not made:
            return Tiles(np.zeros((1, 0, 0), np.int64), b"")
        sizes = np.concatenate([each[:, None] for each, _ in made], axis=1)
        planes = range(len(sizes))
        return Tiles(sizes, b"".join(content[plane] for plane in planes for _, content in made))

    def _encode_row(self, rows: Pixels) -> tuple[Ints, list[bytes]]:
        """Compress a row of tiles: the size of each, `(plane, col)`, and the bytes of a plane."""
        bands, height, width = rows.shape
        left_out = ("OVERVIEWS", "OVERVIEW_COUNT", "STATISTICS", "BIGTIFF")
        settings = {name: each for name, each in self.settings.items() if name not in left_out}
        with without_georeference(), MemoryFile(ext=".tif") as file:
            with file.open(
                driver="COG", width=width, height=height, count=bands, dtype="uint8",
                nodata=NODATA, OVERVIEWS="NONE", BIGTIFF="IF_SAFER", **settings,
            ) as raster:  # fmt: skip
                raster.write(rows)
            content = file.read()
        _, (tags, *_) = read_tags(content)
        planes = bands if tags[PLANAR].numbers[0] == 2 else 1
        offsets, sizes = (
            tags[each].numbers.reshape(planes, -1) for each in (TILE_OFFSETS, TILE_SIZES)
        )
        return sizes, [
            b"".join(
                content[start : start + size]
                for start, size in zip(starts.tolist(), lengths.tolist(), strict=True)
            )
            for starts, lengths in zip(offsets, sizes, strict=True)
        ]


@contextmanager
def without_georeference() -> Iterator[None]:
    """Say nothing of a raster without a place on the ground; its scene has none either."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
