"""Several scenes as one, on a common pixel grid; nothing is written."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geohr.encoding import Mask, Pixels
from geohr.geobox import Window
from geohr.scene.warped import PixelReader

if TYPE_CHECKING:
    from geohr.scene.scene import Scene

OPEN_MAX = 64
"""Scenes of a mosaic that are open at once."""


@dataclass(frozen=True)
class PlacedScene:
    """A scene and its window in the mosaic."""

    scene: Scene
    window: Window


@dataclass(frozen=True)
class MosaicSource:
    """Scenes on one grid.

    Attributes:
        parts: The scenes; where several have a valid pixel, the later one's is taken.
    """

    parts: tuple[PlacedScene, ...]


class MosaicReader:
    """Reads several scenes as one.

    Args:
        mosaicked: The scenes.
        open_part: Opens one of them.
    """

    def __init__(self, mosaicked: MosaicSource, open_part: Callable[[Scene], PixelReader]) -> None:
        self._parts = mosaicked.parts
        self._open_part = open_part
        self._open: OrderedDict[int, PixelReader] = OrderedDict()

    def close(self) -> None:
        """Close the scenes that are open."""
        while self._open:
            self._open.popitem()[1].close()

    def read_inside(self, window: Window, pixels: Pixels, valid: Mask) -> None:
        """Read a window of the mosaic; see `geohr.scene.SceneReader.read_inside`."""
        pixels[...], valid[...] = 0, False
        for number, (scene, place) in enumerate((each.scene, each.window) for each in self._parts):
            if not window.intersects(place):
                continue
            part = window.within(place)
            held = np.empty((len(pixels), part.height, part.width), pixels.dtype)
            fine = np.empty((part.height, part.width), bool)
            self._reader(number, scene).read_inside(part.relative_to(place), held, fine)
            where = part.relative_to(window).slices
            np.copyto(pixels[:, *where], held, where=fine)
            valid[where] |= fine

    def _reader(self, number: int, scene: Scene) -> PixelReader:
        """The reader of a scene; the one that was not read for longest is closed for it."""
        if number not in self._open:
            if len(self._open) >= OPEN_MAX:
                self._open.popitem(last=False)[1].close()
            self._open[number] = self._open_part(scene)
        self._open.move_to_end(number)
        return self._open[number]
