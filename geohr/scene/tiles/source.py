"""Tiles of one zoom level as the source of a scene's pixels."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from geohr.encoding import Mask, Pixels
from geohr.errors import InputError
from geohr.geobox import Window
from geohr.scene.area import Area
from geohr.scene.files import FAILURES, is_valid
from geohr.scene.source import PixelReader
from geohr.scene.tiles.client import CONNECTIONS
from geohr.scene.tiles.levels import TileLevel
from geohr.scene.tiles.origin import TileOrigin, format_of

# The largest side of a tile in pixels.
SIDE_MAX = 8192
LOG = logging.getLogger("geohr")


@dataclass(frozen=True)
class TileSource:
    """A part of a zoom level; see `geohr.scene.source.PixelSource` for what a source does.

    Attributes:
        name: What the service or file is called, without keys.
        origin: Where tiles come from.
        level: The zoom level.
        window: The pixels of the level that the source holds: whole tiles.
        area: Where tiles are asked for, on the grid of `window`; elsewhere is no data. None for
            all.
        count: Bands of a tile, without alpha.
        bands: Numbers of the bands in use, from 1.
        dtype: Name of numpy's data type of the pixels.
        nodata: The value that means no data, or None.
        nodata_match: Whether all bands or any band must hold it.
        on_read_error: Whether tiles that cannot be decoded end the run or are no data.
        seen: SHA-256 of the tiles that were looked at when the source was opened: they tell
            whether the imagery is the same in a later run.
    """

    name: str
    origin: TileOrigin
    level: TileLevel
    window: Window
    area: Area | None
    count: int
    bands: tuple[int, ...]
    dtype: str
    nodata: float | None
    nodata_match: Literal["all", "any"]
    on_read_error: Literal["fail", "nodata"]
    seen: tuple[str, ...]

    mask_band: ClassVar[bool] = True

    @property
    def files(self) -> tuple[str, ...]:
        """The files that tiles depend on; none of a service."""
        return self.origin.files

    @property
    def block_height(self) -> int:
        """The height of a tile in rows."""
        return self.level.tile[0]

    def open(self) -> PixelReader:
        """Open the service or file."""
        return TileReader(self)

    def row_block(self) -> int:
        """None: GDAL keeps no pixels of tiles."""
        return 0

    def select(self, places: Sequence[int]) -> Self:
        """The tiles with some of their bands in use."""
        return replace(self, bands=tuple(self.bands[place] for place in places))

    def describe(self) -> dict[str, object]:
        """The service, the level and the tiles that were looked at."""
        return {
            **self.origin.describe(),
            "level": self.level.name,
            "window": [self.window.row, self.window.col],
            "tiles_in": None if self.area is None else self.area.wkb.hex(),
            "bands": list(self.bands),
            "nodata": repr(self.nodata),
            "seen": list(self.seen),
        }

    def absolute(self) -> Self:
        """The tiles under names that hold in any working folder."""
        return replace(self, origin=self.origin.absolute())


class TileReader:
    """Tiles read as one raster."""

    def __init__(self, source: TileSource) -> None:
        self._source = source
        self._store = source.origin.open()
        self._pool = ThreadPoolExecutor(CONNECTIONS, "tiles")

    def close(self) -> None:
        """Ask for no further tile."""
        self._pool.shutdown(cancel_futures=True)
        self._store.close()

    def read_into(self, window: Window, pixels: Pixels, valid: Mask) -> None:
        """Read a window of the tiles; see `geohr.scene.source.PixelReader`."""
        source = self._source
        pixels[...], valid[...] = 0, False
        places = self._places(window)
        bodies = [self._pool.submit(self._store.tile, source.level, *each) for each in places]
        try:
            for place, future in zip(places, bodies, strict=True):
                body = future.result()
                if body is None:
                    continue
                try:
                    tile, fine = decode(body, source)
                except InputError as error:
                    if source.on_read_error == "fail":
                        raise
                    LOG.warning("%s", error)
                    continue
                there = self._window(*place)
                part = there.within(window)
                inside, target = part.relative_to(there).slices, part.relative_to(window).slices
                pixels[:, *target] = tile[:, *inside]
                valid[target] = fine[inside]
        finally:
            for future in bodies:
                future.cancel()
        valid &= is_valid(pixels, [source.nodata] * len(pixels), source.nodata_match)

    def _window(self, row: int, col: int) -> Window:
        """The pixels of a tile on the grid of the source."""
        return self._source.level.window(row, col).relative_to(self._source.window)

    def _places(self, window: Window) -> list[tuple[int, int]]:
        """Rows and columns of the tiles that a window needs."""
        source = self._source
        height, width = source.level.tile
        inside = window.shifted(source.window.row, source.window.col)
        return [
            (row, col)
            for row in range(inside.row // height, -(-inside.row_stop // height))
            for col in range(inside.col // width, -(-inside.col_stop // width))
            if source.area is None or source.area.touches(self._window(row, col))
        ]


def decode(body: bytes, source: TileSource) -> tuple[Pixels, Mask]:
    """The bands in use of a tile, and which pixels are valid.

    Raises:
        InputError: When it cannot be decoded, or is unlike the tile that was looked at first.
    """
    pixels, valid = decode_any(body, source.name)
    if pixels.shape[1:] != source.level.tile:
        raise InputError(
            f"{source.name}: a tile has {pixels.shape[1]} x {pixels.shape[2]} pixels and not "
            f"{source.level.tile[0]} x {source.level.tile[1]}; the service may be damaged"
        )
    if len(pixels) == 1 and source.count == 3:  # grey tiles among those in colour
        pixels = np.repeat(pixels, 3, axis=0)
    if len(pixels) != source.count or pixels.dtype != source.dtype:
        raise InputError(
            f"{source.name}: a tile has {len(pixels)} bands of {pixels.dtype}, and others "
            f"{source.count} of {source.dtype}; --on-read-error nodata goes on without it"
        )
    return pixels[[band - 1 for band in source.bands]], valid


def decode_any(body: bytes, name: str) -> tuple[Pixels, Mask]:
    """All bands of a PNG, JPEG, WebP or GeoTIFF without alpha, and which pixels are valid.

    Colours take the place of a palette; messages name the service.

    Raises:
        InputError: When it is none of them, damaged, or too large.
    """
    try:
        with MemoryFile(body) as file, placeless(), file.open(driver=format_of(body)) as raster:
            if max(raster.height, raster.width) > SIDE_MAX:
                raise InputError(
                    f"{name}: a tile has {raster.height} x {raster.width} pixels; at most "
                    f"{SIDE_MAX} are read"
                )
            colours = raster.colorinterp
            pixels, valid = raster.read(), raster.dataset_mask() > 0
            if colours[0] == ColorInterp.palette:
                table = np.zeros((256, 4), np.uint8)
                for number, colour in raster.colormap(1).items():
                    table[number] = colour
                pixels = np.moveaxis(table[pixels[0]], -1, 0)
                return pixels[:3], valid & (pixels[3] > 0)
            data = [place for place, each in enumerate(colours) if each != ColorInterp.alpha]
            return pixels[data], valid
    except FAILURES as error:
        raise InputError(
            f"{name}: a tile is damaged, or of a kind that GDAL cannot read; --on-read-error "
            "nodata goes on without it"
        ) from error


@contextmanager
def placeless() -> Iterator[None]:
    """Say nothing of a picture without a place on the ground; its level has one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield
