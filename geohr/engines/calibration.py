"""Windows of a scene that show a network what it will see, to fit int8 to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from geohr._runtime.messages import amount
from geohr.encoding import Batch
from geohr.errors import InputError
from geohr.scene import Scene, Tile
from geohr.tiling.grid import Grid
from geohr.tiling.normalize import Normalizer, check_tile
from geohr.tiling.spread import WINDOWS, spread, spread_tiles


@dataclass(frozen=True)
class Calibration:
    """Windows spread evenly over a scene, the same for the same scene and grid.

    Attributes:
        scene: The scene to read.
        grid: The grid of windows of the scene.
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
        for tile in spread_tiles(self.scene, self.grid):
            if tile.valid.any():
                check_tile(tile, self.scene, self.normalizer)
                yield tile

    def windows(self) -> Batch:
        """Read and normalise the windows: `(n, band, row, col)` with n at least 1.

        Raises:
            InputError: When the scene cannot be read, or has no valid pixel where looked at.
        """
        tiles = list(islice(self.tiles(), WINDOWS))
        if not tiles:
            raise InputError(
                f"{self.scene.path}: no valid pixel in "
                f"{amount(len(spread(len(self.grid))), 'window')} spread over it; "
                "name another scene with --calibrate"
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
