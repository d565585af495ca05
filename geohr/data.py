"""Random windows of samples as tensors.

Window `index` is a function of the seed and the index alone: any process can prepare it, and a
run that was interrupted goes on with the same windows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from geohr.augment import augment
from geohr.errors import InputError
from geohr.grid import Window
from geohr.labels import Classes, aoi_window, read_labels
from geohr.metrics import IGNORE
from geohr.pixels import Normalizer
from geohr.samples import Sample
from geohr.scene import Mask, Pixels, Tile, cut, reach
from geohr.train_options import WindowOptions

WHOLE_PIXELS_MAX = 1 << 25
"""Images up to this size are kept whole; of larger ones only the window is read."""
STORE_BYTES = 3 << 30
"""Images that are kept take up to this much memory together; the oldest go first."""
TRIES = 16
"""Positions tried for a window that holds an object, or none, as it should."""
VALID_SHARE = 0.999
"""Share of valid ground below which a scaled pixel is invalid; the rest is rounding."""
GSD_SPREAD = (0.7, 8.0)
"""A scene is drawn from this much finer than it is to this much coarser."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Annotated:
    """Pixels with their labels.

    Attributes:
        pixels: `(band, row, col)`, in the scene's own values.
        valid: `(row, col)`, True = valid.
        classes: `(row, col)`, class ids, 255 ignored.
    """

    pixels: Pixels
    valid: Mask
    classes: Classes


class Store:
    """Samples read by windows; small images are decoded once and kept.

    Args:
        capacity: Bytes kept at most.
    """

    def __init__(self, capacity: int = STORE_BYTES) -> None:
        self._capacity = capacity
        self._held: OrderedDict[tuple[str | None, ...], Annotated] = OrderedDict()
        self._bytes = 0

    def read(self, sample: Sample, window: Window) -> Annotated:
        """The window; what lies beyond the image's edge is reflected.

        Raises:
            InputError: When the image or its labels cannot be read.
        """
        scene = sample.scene
        inside = reach(window, scene)
        if scene.height * scene.width <= WHOLE_PIXELS_MAX:
            whole = Window(0, 0, scene.height, scene.width)
            held, origin = self._whole(sample, whole), whole
        else:
            held, origin = read_annotated(sample, inside), inside
        tile = cut(held.pixels, held.valid, origin, window, scene)
        labels = cut(held.classes[None], held.valid, origin, window, scene).pixels[0]
        classes = np.where(tile.valid, labels, np.uint8(IGNORE))
        return Annotated(tile.pixels, tile.valid, classes)

    def _whole(self, sample: Sample, window: Window) -> Annotated:
        """The whole image, from memory where it is kept."""
        key = (sample.scene.path, sample.label, sample.aoi, sample.legend.attribute)
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        loaded = self._held[key] = read_annotated(sample, window)
        self._bytes += size(loaded)
        while self._bytes > self._capacity and len(self._held) > 1:
            self._bytes -= size(self._held.popitem(last=False)[1])
        return loaded


def size(held: Annotated) -> int:
    """Bytes of memory."""
    return held.pixels.nbytes + held.valid.nbytes + held.classes.nbytes


def read_annotated(sample: Sample, window: Window) -> Annotated:
    """A window inside the scene, from the files."""
    tile: Tile = sample.scene.read(window)
    return Annotated(tile.pixels, tile.valid, read_labels(sample, window))


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """An endless series of random windows, by index.

    A window is drawn in this order: the place by weight, the image by area, the ground sampling
    distance evenly on a logarithmic scale, the position at random until it holds an object or
    holds none, as chance decided. Where an image is smaller than the window's ground, several of
    its place are laid side by side.

    Args:
        samples: To draw from.
        normalizer: From scene values to the network's.
        options: How to draw.
        start: Index of the first window wanted.
        stop: Index after the last.

    Raises:
        InputError: When there is no sample to draw from.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        normalizer: Normalizer,
        options: WindowOptions,
        *,
        start: int = 0,
        stop: int,
    ) -> None:
        self._places = group_by_place(samples)
        self._normalizer = normalizer
        self._options = options
        self._start, self._stop = start, stop
        self._store = Store()

    def __len__(self) -> int:
        """Windows between start and stop."""
        return self._stop - self._start

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Normalised pixels `(band, row, col)`, float32, and class ids `(row, col)`, uint8."""
        rng = np.random.default_rng((self._options.seed, self._start + index))
        weights = np.array([place.weight for place in self._places])
        place = self._places[rng.choice(len(weights), p=weights / weights.sum())]
        wants_object = bool(rng.random() < self._options.objects)
        for _ in range(TRIES):
            sample = place.pick(rng)
            gsd = pick_gsd(rng, sample.gsd, self._options.gsd_range)
            side = max(round(self._options.tile * gsd / sample.gsd), 1)
            if min(sample.scene.height, sample.scene.width) < side and len(place.samples) > 1:
                drawn = join(rng, place.alike(sample), side, self._store)
                break
            drawn = self._store.read(sample, pick_window(rng, sample, side))
            present = (drawn.classes != 0) & (drawn.classes != IGNORE)
            if bool(present.any()) == wants_object or sample.label is None:
                break
        return self._to_tensors(rng, drawn)

    def _to_tensors(self, rng: np.random.Generator, drawn: Annotated) -> tuple[Tensor, Tensor]:
        """Scaled to the tile, turned, augmented and normalised."""
        normalizer = self._normalizer
        span = np.float32(normalizer.high - normalizer.low)
        bands = (drawn.pixels.astype(np.float32) - np.float32(normalizer.low)) / span
        bands[:, ~drawn.valid] = 0
        # Validity goes through scaling and turning as one more band.
        bands = np.concatenate([bands, drawn.valid[None]], dtype=np.float32)
        bands, classes = rescale(bands, drawn.classes, self._options.tile)
        bands, classes = turn(rng, bands, classes)
        valid = bands[-1] > VALID_SHARE
        image = augment(rng, bands[:-1], self._options.augment)
        pixels = np.empty_like(image)
        normalizer.apply(image * span + np.float32(normalizer.low), valid, pixels)
        return torch.from_numpy(pixels), torch.from_numpy(np.ascontiguousarray(classes))


@dataclass(frozen=True)
class Place:
    """The samples of one place.

    Attributes:
        samples: At least one.
        weight: How often it is drawn, against other places.
    """

    samples: tuple[Sample, ...]
    weight: float

    @cached_property
    def _shares(self) -> NDArray[np.float64]:
        """Cumulated shares of the place's area, one a sample."""
        areas = np.array([each.scene.height * each.scene.width for each in self.samples], float)
        return np.cumsum(areas / areas.sum())

    @cached_property
    def _by_gsd(self) -> dict[float, Place]:
        """Its samples by ground sampling distance."""
        distances = {each.gsd for each in self.samples}
        return {
            gsd: Place(tuple(each for each in self.samples if each.gsd == gsd), self.weight)
            for gsd in distances
        }

    def pick(self, rng: np.random.Generator) -> Sample:
        """One of its samples, by area."""
        index = int(np.searchsorted(self._shares, rng.random(), side="right"))
        return self.samples[min(index, len(self.samples) - 1)]

    def alike(self, sample: Sample) -> Place:
        """Its samples of the same ground sampling distance."""
        return self._by_gsd[sample.gsd]


def group_by_place(samples: Sequence[Sample]) -> tuple[Place, ...]:
    """The samples by place, sorted by its name; places of weight 0 are left out.

    Raises:
        InputError: When nothing is left to draw from.
    """
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.place, []).append(sample)
    places = tuple(
        Place(tuple(group), float(np.mean([each.weight for each in group])))
        for _, group in sorted(groups.items())
        if any(each.weight > 0 for each in group)
    )
    if not places:
        raise InputError("there is no training sample; give scenes and labels or a manifest")
    return places


def pick_gsd(rng: np.random.Generator, native: float, span: tuple[float, ...] | None) -> float:
    """A ground sampling distance in metres, evenly drawn on a logarithmic scale.

    Args:
        rng: Decides.
        native: Of the image.
        span: The range asked for; the part of it that the image can give is drawn from.
    """
    low, high = native * GSD_SPREAD[0], native * GSD_SPREAD[1]
    if span is not None:
        low, high = min(max(low, span[0]), high), max(min(high, span[1]), low)
    return float(np.exp(rng.uniform(np.log(min(low, high)), np.log(max(low, high)))))


def pick_window(rng: np.random.Generator, sample: Sample, side: int) -> Window:
    """A square window at a random position, in the sample's area of interest."""
    scene = sample.scene
    region = Window(0, 0, scene.height, scene.width)
    if sample.aoi is not None:
        region = aoi_window(sample.aoi, scene)
    row = region.row + pick_start(rng, region.height, side)
    return Window(row, region.col + pick_start(rng, region.width, side), side, side)


def pick_start(rng: np.random.Generator, length: int, side: int) -> int:
    """Where a window starts along an axis; a longer one is centred on it, more or less."""
    low, high = sorted((0, length - side))
    return int(rng.integers(low, high + 1))


def join(rng: np.random.Generator, place: Place, side: int, store: Store) -> Annotated:
    """A square of ground out of several small images of one place, each turned at random.

    Args:
        rng: Decides.
        place: Of images of one ground sampling distance.
        side: Of the square, in pixels.
        store: Reads the images.
    """
    first = place.pick(rng)
    cell = min(first.scene.height, first.scene.width)
    count = -(-side // cell) + 1
    rows = [
        join_axis([pick_cell(rng, place, cell, store) for _ in range(count)], axis=1)
        for _ in range(count)
    ]
    canvas = join_axis(rows, axis=0)
    row, col = rng.integers(0, count * cell - side + 1, 2)
    there = (slice(row, row + side), slice(col, col + side))
    return Annotated(canvas.pixels[:, *there], canvas.valid[there], canvas.classes[there])


def pick_cell(rng: np.random.Generator, place: Place, cell: int, store: Store) -> Annotated:
    """A random square of one image of the place, `cell` pixels wide, in one of eight poses."""
    sample = place.pick(rng)
    row = pick_start(rng, sample.scene.height, cell)
    col = pick_start(rng, sample.scene.width, cell)
    read = store.read(sample, Window(row, col, cell, cell))
    quarters, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    return Annotated(
        pose(read.pixels, quarters, mirrored=mirrored),
        pose(read.valid, quarters, mirrored=mirrored),
        pose(read.classes, quarters, mirrored=mirrored),
    )


def join_axis(parts: Sequence[Annotated], *, axis: int) -> Annotated:
    """Parts side by side along rows (0) or columns (1)."""
    return Annotated(
        np.concatenate([part.pixels for part in parts], axis=axis + 1),
        np.concatenate([part.valid for part in parts], axis=axis),
        np.concatenate([part.classes for part in parts], axis=axis),
    )


def pose(array: NDArray[Any], quarters: int, *, mirrored: bool) -> NDArray[Any]:
    """The last two axes turned by quarters and mirrored."""
    turned = np.rot90(array, quarters, axes=(-2, -1))
    return np.flip(turned, -1) if mirrored else turned


def rescale(bands: Floats, classes: Classes, side: int) -> tuple[Floats, Classes]:
    """Bands and classes of a square at `side` pixels; a class wins where it covers most.

    Args:
        bands: `(band, row, col)`.
        classes: `(row, col)`.
        side: Pixels of the result.
    """
    if bands.shape[-1] == side:
        return bands, classes
    # A histogram tells the classes some ten times quicker than sorting does.
    present = np.flatnonzero(np.bincount(classes.ravel(), minlength=256)).astype(np.uint8)
    if len(present) == 1:
        return resize(bands, side), np.full((side, side), present[0], np.uint8)
    shares = classes[None] == present[1:, None, None]
    scaled = resize(np.concatenate([bands, shares], dtype=np.float32), side)
    others = scaled[len(bands) :]
    first = 1 - others.sum(axis=0, keepdims=True)
    return scaled[: len(bands)], present[np.concatenate([first, others]).argmax(axis=0)]


def resize(bands: Floats, side: int) -> Floats:
    """Bilinear, over the area that a new pixel covers where it is coarser."""
    scaled = F.interpolate(
        torch.from_numpy(bands)[None], (side, side), mode="bilinear", antialias=True
    )
    resized: Floats = scaled[0].numpy()
    return resized


def turn(rng: np.random.Generator, bands: Floats, classes: Classes) -> tuple[Floats, Classes]:
    """One of eight poses and, half the time, any angle, with the corners mirrored in."""
    quarters, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    bands = np.ascontiguousarray(pose(bands, quarters, mirrored=mirrored))
    classes = np.ascontiguousarray(pose(classes, quarters, mirrored=mirrored))
    if rng.random() < 0.5:
        return bands, classes
    angle = rng.uniform(-np.pi / 4, np.pi / 4)
    sine, cosine = np.sin(angle), np.cos(angle)
    matrix = torch.tensor([[[cosine, -sine, 0], [sine, cosine, 0]]], dtype=torch.float32)
    where = F.affine_grid(matrix, [1, 1, *classes.shape], align_corners=False)
    turned = F.grid_sample(
        torch.from_numpy(bands)[None], where, padding_mode="reflection", align_corners=False
    )
    nearest = F.grid_sample(
        torch.from_numpy(classes)[None, None].float(),
        where,
        mode="nearest",
        padding_mode="reflection",
        align_corners=False,
    )
    return turned[0].numpy(), nearest[0, 0].numpy().astype(np.uint8)
