"""Samples read by windows; small images are decoded once and kept."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from geohr.encoding import IGNORE, Bytes, Mask, Pixels
from geohr.geobox import Window
from geohr.scene import Tile, cut, reach
from geohr.training.samples import Sample, read_labels

# Images up to this size are kept whole; of larger ones only the window is read.
WHOLE_PIXELS_MAX = 1 << 25
# Images that are kept take up to this much memory together; the oldest go first.
STORE_BYTES = 3 << 30


@dataclass(frozen=True)
class LabelledTile:
    """The pixels of a window with their labels.

    Attributes:
        pixels: `(band, row, col)`, in the scene's own values.
        valid: `(row, col)`, True = valid.
        classes: `(row, col)`, class ids, 255 ignored.
    """

    pixels: Pixels
    valid: Mask
    classes: Bytes


class Store:
    """Samples read by windows; small images are decoded once and kept, in `capacity` bytes."""

    def __init__(self, capacity: int = STORE_BYTES) -> None:
        self._capacity = capacity
        self._held: OrderedDict[tuple[str | None, ...], LabelledTile] = OrderedDict()
        self._bytes = 0

    def read(self, sample: Sample, window: Window) -> LabelledTile:
        """The window; what lies beyond the image's edge is reflected.

        Raises:
            InputError: When the image or its labels cannot be read.
        """
        scene = sample.scene
        inside = reach(window, scene.geobox.shape)
        if scene.height * scene.width <= WHOLE_PIXELS_MAX:
            origin = scene.geobox.extent
            held = self._whole(sample, origin)
        else:
            held, origin = read_labelled(sample, inside), inside
        tile = cut(held.pixels, held.valid, origin, window, scene.geobox.shape)
        labels = cut(held.classes[None], held.valid, origin, window, scene.geobox.shape).pixels[0]
        classes = np.where(tile.valid, labels, np.uint8(IGNORE))
        return LabelledTile(tile.pixels, tile.valid, classes)

    def _whole(self, sample: Sample, window: Window) -> LabelledTile:
        """The whole image, from memory where it is kept."""
        key = (sample.scene.path, sample.label, sample.aoi, sample.legend.attribute)
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        loaded = self._held[key] = read_labelled(sample, window)
        self._bytes += size(loaded)
        # The one in hand stays, however large.
        while self._bytes > self._capacity and len(self._held) > 1:
            self._bytes -= size(self._held.popitem(last=False)[1])
        return loaded


def size(held: LabelledTile) -> int:
    """The bytes of memory that the tile takes."""
    return held.pixels.nbytes + held.valid.nbytes + held.classes.nbytes


def read_labelled(sample: Sample, window: Window) -> LabelledTile:
    """A window inside the scene, from the files."""
    tile: Tile = sample.scene.read(window)
    return LabelledTile(tile.pixels, tile.valid, read_labels(sample, window))
