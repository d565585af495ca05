"""Windows of a scene that show a network what it will see, to fit int8 to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from geohr.errors import InputError
from geohr.grid import Grid
from geohr.pixels import Normalizer, check_tile
from geohr.predictor import Batch
from geohr.scene import Scene, SceneReader, Tile

WINDOWS = 48
"""Windows taken, where a scene has as many."""
TRIES = 4
"""Windows looked at for each one taken, as those without a valid pixel show nothing."""


@dataclass(frozen=True)
class Calibration:
    """Windows spread evenly over a scene, the same for the same scene and grid.

    Attributes:
        scene: What to read.
        grid: How it is cut into windows.
        normalizer: From the scene's values to the network's.
    """

    scene: Scene
    grid: Grid
    normalizer: Normalizer

    def tiles(self) -> Iterator[Tile]:
        """The windows with a valid pixel, one at a time.

        Raises:
            InputError: When the scene cannot be read or has values that the model cannot mean.
        """
        with SceneReader(self.scene) as reader:
            for index in spread(len(self.grid)):
                tile = reader.read(self.grid[index])
                if tile.valid.any():
                    check_tile(tile, self.scene, self.normalizer)
                    yield tile

    def windows(self) -> Batch:
        """All windows, normalised: `(n, band, row, col)` with n at least 1.

        Raises:
            InputError: When the scene cannot be read, or has no valid pixel where looked at.
        """
        tiles = list(islice(self.tiles(), WINDOWS))
        if not tiles:
            raise InputError(
                f"{self.scene.path}: no valid pixel in {len(spread(len(self.grid)))} windows "
                "spread over it; name another scene with --calibrate"
            )
        windows = np.empty((len(tiles), *tiles[0].pixels.shape), np.float32)
        for tile, target in zip(tiles, windows, strict=True):
            self.normalizer.apply(tile.pixels, tile.valid, target)
        return windows

    def digest(self) -> str:
        """SHA-256 of all that `windows` depends on; hexadecimal.

        Raises:
            InputError: When the scene cannot be read.
        """
        hashed = hashlib.sha256(repr(self.normalizer).encode())
        for tile in islice(self.tiles(), WINDOWS):
            hashed.update(f"{tile.pixels.shape} {tile.pixels.dtype}".encode())
            hashed.update(tile.pixels.data)
            hashed.update(tile.valid.data)
        return hashed.hexdigest()


def spread(count: int) -> list[int]:
    """Some of `count` indices in an order whose every beginning is spread over all of them.

    Multiples of the golden ratio, folded into the unit interval, keep apart from each other
    (Knuth, The Art of Computer Programming, volume 3, section 6.4).
    """
    ratio = (5**0.5 - 1) / 2
    places = (int((number * ratio) % 1 * count) for number in range(1, WINDOWS * TRIES + 1))
    return list(dict.fromkeys(places))
