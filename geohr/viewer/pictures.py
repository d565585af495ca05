"""A scene as a picture: few pixels, eight bits, transparent where there is no data."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
import rasterio
from PIL import Image
from rasterio.enums import Resampling

from geohr.encoding import Bytes, Mask, Pixels
from geohr.errors import InputError
from geohr.geobox import Bounds
from geohr.scene import Scene, is_valid, open_raster
from geohr.scene.files import FAILURES, settings

# The percentiles of the values that are drawn black and white, for bands that are not uint8.
PERCENTILES = (2.0, 98.0)
# Longest side in pixels of the overview that percentiles are taken from.
STRETCH_SIDE = 1024


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
        """The picture of one band or three, `(band, row, col)`.

        `valid` is `(row, col)`, True = valid.
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
        bounds: Left, bottom, right and top in the coordinates that the picture was made in.
    """

    pixels: Bytes
    bounds: Bounds


def shown_bands(scene: Scene) -> Scene:
    """The scene with the bands that a picture shows: the first three, or the first alone."""
    return scene.with_bands(range(3 if len(scene.bands) >= 3 else 1))


def overview(scene: Scene, side: int) -> Picture:
    """The whole scene on its own grid, with `side` pixels along its longer side.

    Raises:
        InputError: When the file cannot be read.
    """
    shown = shown_bands(scene)
    pixels, valid = read_small(shown, side)
    return Picture(Stretch.of(shown).apply(pixels, valid), scene.geobox.bounds)


def read_small(scene: Scene, side: int) -> tuple[Pixels, Mask]:
    """The whole scene, at most `side` pixels on its longest side; overviews are used.

    Raises:
        InputError: When the file cannot be read.
    """
    shrink = max(max(scene.height, scene.width) / side, 1.0)
    shape = (max(round(scene.height / shrink), 1), max(round(scene.width / shrink), 1))
    try:
        with rasterio.Env(**settings(scene.path)), open_raster(scene.path) as raster:
            pixels = raster.read(
                list(scene.bands),
                out_shape=(len(scene.bands), *shape),
                resampling=Resampling.average,
            )
            valid = is_valid(pixels, [scene.nodata] * len(pixels), scene.nodata_match)
            if scene.mask_band:
                valid &= raster.dataset_mask(out_shape=shape) > 0
    except FAILURES as error:
        raise InputError(f"{scene.path}: cannot be read ({error.__cause__ or error})") from error
    return pixels, valid


def to_webp(pixels: Bytes, quality: int = 85) -> bytes:
    """A picture as a WebP file, small and with alpha."""
    packed = BytesIO()
    Image.fromarray(pixels).save(packed, "WEBP", quality=quality)
    return packed.getvalue()
