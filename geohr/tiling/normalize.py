"""The map from scene values to network values, for training, prediction and export alike.

A value is mapped from the scene's scale to [0, 1] and then by the card's mean and standard
deviation. An invalid pixel becomes 0, which is the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geohr.encoding import Mask
from geohr.errors import InputError
from geohr.geobox import Window
from geohr.models.card import Card
from geohr.scene import Scene, SceneReader, Tile

SAMPLES = 16
"""The number of windows that are checked before a run for values that do not fit the card."""
SAMPLE_SIDE = 256
"""The side of such a window, in pixels."""


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
        """Write normalised values to `out`.

        Args:
            pixels: `(band, row, col)`, scene values.
            valid: `(row, col)`, True = valid.
            out: `(band, row, col)`; overwritten.
        """
        span = self.high - self.low
        for band, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            target = out[band]
            source = np.clip(pixels[band], self.low, self.high) if self.clip else pixels[band]
            np.multiply(source, np.float32(1 / (span * std)), out=target, casting="unsafe")
            target -= np.float32((self.low / span + mean) / std)
        if not valid.all():
            out[:, ~valid] = 0

    def fits(self, pixels: NDArray[Any], valid: Mask) -> bool:
        """Whether all valid values are in the range; always true if values are clipped."""
        if self.clip or (pixels.dtype == np.uint8 and self.low <= 0 and self.high >= 255):
            return True
        seen = pixels[:, valid]
        return seen.size == 0 or bool(self.low <= seen.min() and seen.max() <= self.high)


SCALE_REMEDY = "give the scene's own range with --scale MIN,MAX"


def check_range(scene: Scene, normalizer: Normalizer, *, remedy: str = SCALE_REMEDY) -> None:
    """Check windows spread over the scene, and refuse values outside the model's range.

    Args:
        scene: The scene, with the model's bands.
        normalizer: The map of the model.
        remedy: The advice that the message ends with.

    Raises:
        InputError: With the values seen and the advice to give a scale.
    """
    if normalizer.clip or scene.dtype == "uint8":
        return
    seen = list(sample_values(scene))
    if not seen:
        return
    low, high = min(values[0] for values in seen), max(values[1] for values in seen)
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


def sample_values(scene: Scene) -> list[tuple[float, float]]:
    """The smallest and the largest valid value of each of some windows spread over the scene."""
    side = int(np.sqrt(SAMPLES))
    height, width = min(SAMPLE_SIDE, scene.height), min(SAMPLE_SIDE, scene.width)
    found = []
    with SceneReader(scene) as reader:
        for row in np.linspace(0, scene.height - height, side).astype(int):
            for col in np.linspace(0, scene.width - width, side).astype(int):
                tile = reader.read(Window(int(row), int(col), height, width))
                values = tile.pixels[:, tile.valid]
                if values.size:
                    found.append((float(values.min()), float(values.max())))
    return found
