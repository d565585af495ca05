"""Bands of several rasters as one scene, on the pixel grid of the first; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from geohr.encoding import Mask, Pixels
from geohr.geobox import Window
from geohr.scene.scene import Scene, SceneReader
from geohr.scene.source import PixelReader


@dataclass(frozen=True)
class BandStack:
    """Scenes of one grid, of which each gives some bands; see `geohr.scene.source.PixelSource`.

    Attributes:
        parts: The scenes, all of one height and width. A pixel is valid where it is in each.
    """

    parts: tuple[Scene, ...]

    nodata: ClassVar[float | None] = None
    nodata_match: ClassVar[Literal["all", "any"]] = "all"
    mask_band: ClassVar[bool] = True

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files of all scenes, each once."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.files))

    @property
    def bands(self) -> tuple[int, ...]:
        """Numbers of the bands in use: their places in the stack, from 1."""
        return tuple(range(1, sum(len(part.bands) for part in self.parts) + 1))

    @property
    def dtype(self) -> str:
        """Name of numpy's data type that holds the pixels of all scenes."""
        return str(np.result_type(*(part.dtype for part in self.parts)))

    @property
    def block_height(self) -> int:
        """The height in rows of the highest block of any scene."""
        return max(part.block_height for part in self.parts)

    def open(self) -> PixelReader:
        """Open all scenes."""
        return StackReader(self)

    def row_block(self) -> int:
        """Bytes of a row of blocks of all scenes."""
        return sum(part.source.row_block() for part in self.parts)

    def select(self, places: Sequence[int]) -> BandStack:
        """The stack of some of the bands, in their order."""
        owners = [(part, place) for part in self.parts for place in range(len(part.bands))]
        return BandStack(tuple(owners[each][0].with_bands([owners[each][1]]) for each in places))

    def describe(self) -> dict[str, object]:
        """The scenes, in order."""
        return {"stack": [part.describe() for part in self.parts]}

    def absolute(self) -> BandStack:
        """The stack of the scenes under names that hold in any working folder."""
        return BandStack(tuple(part.absolute() for part in self.parts))


class StackReader:
    """A stack of scenes that are open."""

    def __init__(self, stack: BandStack) -> None:
        self._readers = [SceneReader(part) for part in stack.parts]

    def close(self) -> None:
        """Close the scenes."""
        for reader in self._readers:
            reader.close()

    def read_into(self, window: Window, pixels: Pixels, valid: Mask) -> None:
        """Read a window of the stack; see `geohr.scene.source.PixelReader`."""
        valid[...] = True
        first = 0
        for reader in self._readers:
            scene = reader.scene
            held = np.empty((len(scene.bands), window.height, window.width), scene.dtype)
            fine = np.empty((window.height, window.width), bool)
            reader.read_into(window, held, fine)
            pixels[first : first + len(held)] = held
            valid &= fine
            first += len(held)
