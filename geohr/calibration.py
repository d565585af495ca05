"""Windows of a scene that show a network what it will see, to fit int8 to."""

from __future__ import annotations

import numpy as np

from geohr.errors import InputError
from geohr.grid import Grid
from geohr.pixels import Normalizer, check_tile
from geohr.predictor import Batch
from geohr.scene import Scene, SceneReader

WINDOWS = 48
"""Windows taken, where a scene has as many."""
TRIES = 4
"""Windows looked at for each one taken, as those without a valid pixel show nothing."""


def calibration_windows(scene: Scene, grid: Grid, normalizer: Normalizer) -> Batch:
    """Normalised windows spread evenly over a scene, the same for the same scene and grid.

    Args:
        scene: What to read.
        grid: How it is cut into windows.
        normalizer: From the scene's values to the network's.

    Returns:
        `(n, band, row, col)`; n is at least 1.

    Raises:
        InputError: When the scene cannot be read, has no valid pixel where it was looked at, or
            has values that the model cannot mean.
    """
    tiles = []
    with SceneReader(scene) as reader:
        for index in spread(len(grid)):
            tile = reader.read(grid[index])
            if tile.valid.any():
                check_tile(tile, scene, normalizer)
                tiles.append(tile)
            if len(tiles) == WINDOWS:
                break
    if not tiles:
        raise InputError(
            f"{scene.path}: no valid pixel in {min(len(grid), WINDOWS * TRIES)} windows spread "
            "over it; name another scene with --calibrate"
        )
    windows = np.empty((len(tiles), *tiles[0].pixels.shape), np.float32)
    for tile, target in zip(tiles, windows, strict=True):
        normalizer.apply(tile.pixels, tile.valid, target)
    return windows


def spread(count: int) -> list[int]:
    """Some of `count` indices in an order whose every beginning is spread over all of them.

    Multiples of the golden ratio, folded into the unit interval, keep apart from each other
    (Knuth, The Art of Computer Programming, volume 3, section 6.4).
    """
    ratio = (5**0.5 - 1) / 2
    places = (int((number * ratio) % 1 * count) for number in range(1, WINDOWS * TRIES + 1))
    return list(dict.fromkeys(places))
