"""Several scenes as one, on a common pixel grid; nothing is written."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from geohr.encoding import Mask, Pixels
from geohr.geobox import Window
from geohr.scene.scene import Scene, SceneReader
from geohr.scene.source import PixelReader

# Scenes of a mosaic that are open at once.
OPEN_MAX = 64


@dataclass(frozen=True)
class PlacedScene:
    """A scene and its window in the mosaic."""

    scene: Scene
    window: Window


@dataclass(frozen=True)
class MosaicSource:
    """Scenes on one grid; see `geohr.scene.source.PixelSource` for what a source does.

    Attributes:
        parts: The scenes; where several have a valid pixel, the later one's is taken.
        width: Columns of the mosaic.
    """

    parts: tuple[PlacedScene, ...]
    width: int

    nodata: ClassVar[float | None] = None
    nodata_match: ClassVar[Literal["all", "any"]] = "all"
    mask_band: ClassVar[bool] = True

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files of all scenes, each once."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.scene.files))

    @property
    def bands(self) -> tuple[int, ...]:
        """Numbers of the bands in use in the first scene; others may count them otherwise."""
        return self.parts[0].scene.bands

    @property
    def dtype(self) -> str:
        """Name of numpy's data type of the pixels, which all scenes share."""
        return self.parts[0].scene.dtype

    @property
    def block_height(self) -> int:
        """The height in rows of the highest block of any scene."""
        return max(part.scene.block_height for part in self.parts)

    def open(self) -> PixelReader:
        """The mosaic; its scenes are opened as they are read."""
        return MosaicReader(self)

    def row_block(self) -> int:
        """Bytes of the scene with the most in a row of blocks, as if it were as wide as all."""
        return max(
            part.scene.source.row_block() * self.width // part.scene.width for part in self.parts
        )

    def select(self, places: Sequence[int]) -> MosaicSource:
        """The mosaic of some of the bands."""
        return self._each(lambda scene: scene.with_bands(places))

    def describe(self) -> dict[str, object]:
        """The scenes, and where they lie."""
        parts = [[each.window.row, each.window.col, each.scene.describe()] for each in self.parts]
        return {"parts": parts}

    def absolute(self) -> MosaicSource:
        """The mosaic of the scenes under names that hold in any working folder."""
        return self._each(Scene.absolute)

    def _each(self, change: Callable[[Scene], Scene]) -> MosaicSource:
        """The mosaic of changed scenes."""
        parts = (replace(part, scene=change(part.scene)) for part in self.parts)
        return replace(self, parts=tuple(parts))


class MosaicReader:
    """Several scenes read as one."""

    def __init__(self, mosaic: MosaicSource) -> None:
        self._parts = mosaic.parts
        self._open: OrderedDict[int, SceneReader] = OrderedDict()

    def close(self) -> None:
        """Close the scenes that are open."""
        while self._open:
            self._open.popitem()[1].close()

    def read_into(self, window: Window, pixels: Pixels, valid: Mask) -> None:
        """Read a window of the mosaic; see `geohr.scene.source.PixelReader`."""
        pixels[...], valid[...] = 0, False
        for number, (scene, place) in enumerate((each.scene, each.window) for each in self._parts):
            if not window.intersects(place):
                continue
            part = window.within(place)
            held = np.empty((len(pixels), part.height, part.width), pixels.dtype)
            fine = np.empty((part.height, part.width), bool)
            self._reader(number, scene).read_into(part.relative_to(place), held, fine)
            where = part.relative_to(window).slices
            # Later scenes lie on top, but only where they have data.
            np.copyto(pixels[:, *where], held, where=fine)
            valid[where] |= fine

    def _reader(self, number: int, scene: Scene) -> SceneReader:
        """The reader of a scene; the one that was not read for longest is closed for it."""
        if number not in self._open:
            if len(self._open) >= OPEN_MAX:
                self._open.popitem(last=False)[1].close()
            self._open[number] = SceneReader(scene)
        self._open.move_to_end(number)
        return self._open[number]
