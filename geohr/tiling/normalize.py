"""The map from scene values to network values, for training, prediction and export alike.

A value is mapped from the scene's scale to [0, 1] and then by the card's mean and standard
deviation. Invalid pixels show a reflection of what lies beside them, as the surroundings of a scene
do: a network that has learnt from images without holes is led astray by a flat colour far into what
is valid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geohr._runtime.messages import warn
from geohr.encoding import Mask
from geohr.errors import InputError
from geohr.models.card import Card
from geohr.scene import Scene, Tile
from geohr.tiling.grid import Grid
from geohr.tiling.spread import spread_tiles

Indices = NDArray[np.intp]

# The number of windows that are checked before a run for values that do not fit the card.
SAMPLES = 16
# The side of such a window, in pixels.
SAMPLE_SIDE = 256


@dataclass(frozen=True)
class Normalizer:
    """An affine map for each band, and the range of values that it is meant for.

    Attributes:
        low: The scene value that is mapped to 0, before mean and standard deviation are applied.
        high: The scene value that is mapped to 1.
        mean: The mean of each band, of values in [0, 1].
        std: The standard deviation of each band, of values in [0, 1].
        clip: Whether values outside [low, high] are clipped (as with a given scale) or refused.
    """

    low: float
    high: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    clip: bool

    @classmethod
    def of(cls, card: Card, scale: tuple[float, ...] | None) -> Normalizer:
        """The map of a model card; `scale` replaces the card's range of values."""
        low, high = scale or card.range
        return cls(low, high, card.mean, card.std, clip=scale is not None)

    def apply(self, pixels: NDArray[Any], valid: Mask, out: NDArray[np.float32]) -> None:
        """Write normalised values, `(band, row, col)`, to `out`.

        Args:
            pixels: `(band, row, col)`, scene values.
            valid: `(row, col)`, True = valid.
            out: Overwritten.
        """
        span = self.high - self.low
        for band, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            target = out[band]
            source = np.clip(pixels[band], self.low, self.high) if self.clip else pixels[band]
            np.multiply(source, np.float32(1 / (span * std)), out=target, casting="unsafe")
            target -= np.float32((self.low / span + mean) / std)
        if not valid.all():
            fill(out, valid)

    def fits(self, pixels: NDArray[Any], valid: Mask) -> bool:
        """Whether all valid values are in the range; always true if values are clipped."""
        if self.clip or (pixels.dtype == np.uint8 and self.low <= 0 and self.high >= 255):
            return True
        seen = pixels[:, valid]
        return seen.size == 0 or bool(self.low <= seen.min() and seen.max() <= self.high)


def fill(pixels: NDArray[np.float32], valid: Mask) -> None:
    """Overwrite invalid pixels by the reflection of valid ones.

    An invalid pixel takes the value that lies as far behind its nearest valid pixel as it lies
    before it; where that one is not valid either, the value of the nearest.

    Args:
        pixels: `(band, row, col)`; without a valid pixel all become 0.
        valid: `(row, col)`, True = valid.
    """
    if not valid.any():
        pixels[:] = 0
        return
    rows, cols = np.nonzero(~valid)
    nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    edge_rows, edge_cols = nearest[:, rows, cols]
    far_rows = behind(edge_rows, rows, valid.shape[0])
    far_cols = behind(edge_cols, cols, valid.shape[1])
    there = valid[far_rows, far_cols]
    source = np.where(there, far_rows, edge_rows), np.where(there, far_cols, edge_cols)
    pixels[:, rows, cols] = pixels[:, source[0], source[1]]


def behind(edge: Indices, index: Indices, length: int) -> Indices:
    """Indices as far behind an edge as `index` is before it, reflected at the ends of an axis."""
    found = 2 * edge - index
    return np.where(found < 0, -1 - found, np.minimum(found, 2 * length - 1 - found))


SCALE_REMEDY = "give the scene's own range with --scale MIN,MAX"


def check_range(scene: Scene, normalizer: Normalizer, *, remedy: str = SCALE_REMEDY) -> None:
    """Check windows spread over the scene, and refuse values outside the model's range.

    Raises:
        InputError: With the values seen and `remedy`, the advice to give a scale.
    """
    if normalizer.clip:
        return
    tiles = sample_tiles(scene)
    if scene.dtype == "uint8":
        # No value of uint8 is beyond a card's range, but a mask in an image's place is all dark.
        first = next(tiles, None)
        if first is not None and all(is_dark(tile) for tile in chain([first], tiles)):
            warn(
                f"{scene.path}: holds no value but 0 and 1 where it was looked at, but the model "
                f"expects {normalizer.low:g} to {normalizer.high:g}; is it a mask? If 1 means "
                "bright, give --scale 0,1"
            )
        return
    values = [tile.pixels[:, tile.valid] for tile in tiles]
    if not values:
        return
    low, high = float(min(map(np.min, values))), float(max(map(np.max, values)))
    outside = low < normalizer.low or high > normalizer.high
    # A float scene in [0, 1] lies inside [0, 255] and is still on another scale.
    reflectance = scene.dtype.startswith("float") and high <= 1 < normalizer.high / 16
    if outside or reflectance:
        raise InputError(range_message(scene, normalizer, low, high, remedy=remedy))


def check_tile(tile: Tile, scene: Scene, normalizer: Normalizer) -> None:
    """Refuse a tile with values outside the model's range.

    Raises:
        InputError: With the values seen and the advice to give a scale.
    """
    if not normalizer.fits(tile.pixels, tile.valid):
        seen = tile.pixels[:, tile.valid]
        raise InputError(range_message(scene, normalizer, float(seen.min()), float(seen.max())))


def range_message(
    scene: Scene,
    normalizer: Normalizer,
    low: float,
    high: float,
    *,
    remedy: str = SCALE_REMEDY,
) -> str:
    """The message for values outside the range: what came, what is allowed, what to do."""
    return (
        f"{scene.path}: {scene.dtype} values from {low:g} to {high:g}, but the model expects "
        f"{normalizer.low:g} to {normalizer.high:g}; {remedy}"
    )


def is_dark(tile: Tile) -> bool:
    """Whether no valid pixel has a value over 1."""
    return bool(tile.pixels[:, tile.valid].max() <= 1)


def sample_tiles(scene: Scene) -> Iterator[Tile]:
    """Small windows spread over a scene, those that have a valid pixel."""
    grid = Grid(scene.height, scene.width, SAMPLE_SIDE, 0)
    return (tile for tile in spread_tiles(scene, grid, SAMPLES) if tile.valid.any())
