"""Weights of a window's pixels where windows overlap, as whole numbers.

A window's weight at (row, col) is the product of one profile along rows and one along columns.
Profiles hold whole numbers from 1 to `WEIGHT_MAX`: never zero, so that a pixel with one window
only is still predicted, and whole, so that sums do not depend on their order.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

# The largest weight along one axis.
WEIGHT_MAX = 255


def hann(tile: int) -> NDArray[np.float64]:
    """A raised cosine, in (0, 1]."""
    return np.sin(np.pi * (np.arange(tile) + 0.5) / tile) ** 2


def gaussian(tile: int) -> NDArray[np.float64]:
    """A normal curve whose standard deviation is a quarter of the window."""
    offset = (np.arange(tile) + 0.5) / tile - 0.5
    return np.exp(-8 * offset**2)


def linear(tile: int) -> NDArray[np.float64]:
    """A ramp from both sides to the middle."""
    return 1 - np.abs((np.arange(tile) + 0.5) / tile - 0.5) * 2


def flat(tile: int) -> NDArray[np.float64]:
    """The same weight for every pixel, which gives a plain mean."""
    return np.ones(tile)


BLENDS: dict[str, Callable[[int], NDArray[np.float64]]] = {
    "hann": hann,
    "gaussian": gaussian,
    "linear": linear,
    "flat": flat,
}


def weights(blend: str, tile: int) -> NDArray[np.uint32]:
    """The profile of a name in `BLENDS` along an axis: `(tile,)` whole, in [1, WEIGHT_MAX]."""
    profile = BLENDS[blend](tile)
    # The mean with the mirrored profile is the same to the last bit on both sides.
    mirrored = (profile + profile[::-1]) / 2
    return np.maximum(np.rint(mirrored * WEIGHT_MAX), 1).astype(np.uint32)
