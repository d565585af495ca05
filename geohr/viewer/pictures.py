"""A scene as a picture: few pixels, eight bits, transparent where there is no data."""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT
from rasterio.warp import calculate_default_transform

from geohr.encoding import Bytes, Mask, Pixels
from geohr.errors import InputError
from geohr.geobox import GeoBox
from geohr.scene import Scene, is_valid, open_raster

WEB = CRS.from_epsg(3857)
"""The coordinate reference system of maps on the web."""
PERCENTILES = (2.0, 98.0)
"""Of the values that become black and white, where the bands are not eight bits wide."""
OVERVIEW_SLACK = 0.2
"""An overview may be coarser than the picture by this share."""
STRETCH_SIDE = 1024
"""Longest side in pixels of the overview that percentiles are taken from."""


@dataclass(frozen=True)
class Stretch:
    """Scene values to the 0 to 255 of a picture.

    Attributes:
        low: By band, the value that becomes 0.
        high: By band, the value that becomes 255.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def of(cls, scene: Scene) -> Stretch:
        """The stretch that suits a scene: none for uint8, percentiles for anything else.

        Raises:
            InputError: When the file cannot be read.
        """
        count = len(scene.bands)
        if scene.dtype == "uint8":
            return cls((0.0,) * count, (255.0,) * count)
        pixels, valid = read_small(scene, STRETCH_SIDE)
        if not valid.any():
            return cls((0.0,) * count, (1.0,) * count)
        low, high = np.percentile(pixels[:, valid].astype(np.float64), PERCENTILES, axis=1)
        return cls(tuple(low.tolist()), tuple(np.maximum(high, low + 1e-9).tolist()))

    def apply(self, pixels: Pixels, valid: Mask) -> Bytes:
        """The picture of one band or three.

        Args:
            pixels: `(band, row, col)`.
            valid: `(row, col)`, True = valid.
        """
        low, high = (np.array(each)[:, None, None] for each in (self.low, self.high))
        shown = np.where(valid, (pixels.astype(np.float64) - low) * (255 / (high - low)), 0)
        bands = np.clip(np.rint(shown), 0, 255).astype(np.uint8)
        if len(bands) == 1:
            bands = np.repeat(bands, 3, axis=0)
        alpha = np.where(valid, 255, 0).astype(np.uint8)
        return np.dstack([*bands, alpha])


@dataclass(frozen=True)
class Picture:
    """A picture and where it lies.

    Attributes:
        pixels: `(row, col, 4)`, uint8.
        bounds: Left, bottom, right and top in the coordinates it was made in.
    """

    pixels: Bytes
    bounds: tuple[float, float, float, float]


def shown_bands(scene: Scene) -> Scene:
    """The scene with the bands that a picture shows: the first three, or the first alone."""
    return replace(scene, bands=scene.bands[: 3 if len(scene.bands) >= 3 else 1])


def overview(scene: Scene, side: int) -> Picture:
    """The whole scene on its own grid.

    Args:
        scene: What to show.
        side: The longest side of the picture in pixels.

    Raises:
        InputError: When the file cannot be read.
    """
    shown = shown_bands(scene)
    pixels, valid = read_small(shown, side)
    return Picture(Stretch.of(shown).apply(pixels, valid), scene.geobox.bounds)


def overview_on_web(scene: Scene, side: int) -> Picture:
    """The whole scene in web Mercator.

    Args:
        scene: With a coordinate reference system.
        side: The longest side of the picture in pixels, about.

    Raises:
        InputError: When the file cannot be read, or lies nowhere.
    """
    shown = shown_bands(scene)
    full = web_grid(shown)
    shrink = max(max(full.shape) / side, 1.0)
    height, width = (max(round(length / shrink), 1) for length in full.shape)
    geobox = GeoBox(full.crs, full.transform @ Affine.scale(shrink), height, width)
    return Picture(read_on_web(shown, Stretch.of(shown), geobox), geobox.bounds)


def web_grid(scene: Scene) -> GeoBox:
    """The grid of the scene in web Mercator at its own resolution.

    Raises:
        InputError: When the scene has no coordinate reference system.
    """
    if scene.crs is None:
        raise InputError(
            f"{scene.path}: has no CRS, so that it has no place on a map; "
            "give it one with gdal_edit.py -a_srs"
        )
    transform, width, height = calculate_default_transform(
        scene.crs, WEB, scene.width, scene.height, *scene.geobox.bounds
    )
    return GeoBox(WEB, transform, int(height), int(width))


def read_on_web(scene: Scene, stretch: Stretch, geobox: GeoBox) -> Bytes:
    """A part of the web Mercator plane, transparent where the scene is not.

    Args:
        scene: With one band or three.
        stretch: Its values to those of the picture.
        geobox: The grid of the part, in web Mercator.

    Raises:
        InputError: When the file cannot be read.
    """
    settings: dict[str, Any] = {
        "crs": geobox.crs,
        "transform": geobox.transform,
        "height": geobox.height,
        "width": geobox.width,
        "resampling": Resampling.bilinear,
        "add_alpha": not scene.mask_band,
        "src_nodata": scene.nodata,
    }
    try:
        with (
            open_shrunk(scene, geobox.transform.a / web_grid(scene).transform.a) as raster,
            WarpedVRT(raster, **settings) as warped,
        ):
            pixels = warped.read(list(scene.bands))
            valid = warped.dataset_mask() > 0
    except rasterio.errors.RasterioError as error:
        raise InputError(f"{scene.path}: cannot be read ({error.__cause__ or error})") from error
    if pixels.dtype.kind == "f":
        valid &= np.isfinite(pixels).all(axis=0)
    return stretch.apply(pixels, valid)


def open_shrunk(scene: Scene, shrink: float) -> rasterio.DatasetReader:
    """The file itself, or the smallest of its overviews that is fine enough.

    GDAL warps from the file's full size, however small the picture is.

    Args:
        scene: What to open.
        shrink: How many pixels of the file one pixel of the picture covers, along a side.

    Raises:
        InputError: When the file is gone or no longer a raster.
    """
    raster = open_raster(scene.path)
    levels = [
        level
        for level, factor in enumerate(raster.overviews(scene.bands[0]))
        if factor <= shrink * (1 + OVERVIEW_SLACK)
    ]
    if not levels:
        return raster
    raster.close()
    return rasterio.open(scene.path, overview_level=levels[-1])


def read_small(scene: Scene, side: int) -> tuple[Pixels, Mask]:
    """The whole scene, at most `side` pixels on its longest side; overviews are used.

    Raises:
        InputError: When the file cannot be read.
    """
    shrink = max(max(scene.height, scene.width) / side, 1.0)
    shape = (max(round(scene.height / shrink), 1), max(round(scene.width / shrink), 1))
    try:
        with open_raster(scene.path) as raster:
            pixels = raster.read(
                list(scene.bands),
                out_shape=(len(scene.bands), *shape),
                resampling=Resampling.average,
            )
            valid = is_valid(pixels, scene)
            if scene.mask_band:
                valid &= raster.dataset_mask(out_shape=shape) > 0
    except rasterio.errors.RasterioIOError as error:
        raise InputError(f"{scene.path}: cannot be read ({error.__cause__ or error})") from error
    return pixels, valid


def to_png(pixels: Bytes) -> bytes:
    """A picture as a PNG file (ISO/IEC 15948), packed quickly rather than tightly."""
    height, width = pixels.shape[:2]
    # Filter 2 of clause 9.2: each row as its difference from the one above.
    steps = np.diff(pixels.reshape(height, -1), axis=0, prepend=np.uint8(0))
    rows = np.column_stack([np.full(height, 2, np.uint8), steps])
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b""))
    packed = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + packed


def to_webp(pixels: Bytes, quality: int = 85) -> bytes:
    """A picture as a WebP file, small and with alpha."""
    height, width = pixels.shape[:2]
    profile: dict[str, Any] = {"driver": "WEBP", "height": height, "width": width, "count": 4}
    with warnings.catch_warnings(), MemoryFile() as memory:
        # A picture in a page has no place of its own, and needs none.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with memory.open(**profile, dtype="uint8", QUALITY=quality) as raster:
            raster.write(pixels.transpose(2, 0, 1))
        return bytes(memory.getbuffer())
