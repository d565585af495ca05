"""Random windows of samples as tensors.

A window depends only on the seed and its index, so any process can prepare it, and an interrupted
run resumes with the same windows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from geohr.encoding import IGNORE, Bytes, Floats32
from geohr.geobox import Window
from geohr.scene.labels import aoi_window
from geohr.scene.prepare import ENLARGED_MAX
from geohr.tiling.normalize import Normalizer
from geohr.training.augment import augment
from geohr.training.options import WindowOptions
from geohr.training.places import group_by_place, join, pick_start, pose
from geohr.training.samples import Sample
from geohr.training.store import LabelledTile, Store

# The number of positions tried until a window has an object, or has none, as was drawn.
TRIES = 16
# The share of valid ground below which a scaled pixel is invalid; not 1, because of rounding.
VALID_SHARE = 0.999
# The range of ground sampling distances, relative to the scene's own, if none is given.
GSD_SPREAD = (0.7, 8.0)

# The share of windows onto which objects are pasted, if `paste` is among the augmentations.
PASTE_SHARE = 0.3


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """An endless series of random windows, by index.

    A window is drawn in this order: the place by weight, the image by area, the ground sampling
    distance evenly on a logarithmic scale, and the position at random, until the window has an
    object or has none, as was drawn. If an image is smaller than the window, several images of its
    place are joined.

    Args:
        samples: The samples to draw from.
        normalizer: The map from scene values to network values.
        options: The options of drawing.
        start: The index of the first window.
        stop: The index after the last window.

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
        """The number of windows between start and stop."""
        return self._stop - self._start

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Normalised pixels `(band, row, col)`, float32, and class ids `(row, col)`, uint8."""
        # By index alone, so that workers, processes and resumed runs draw the same window.
        rng = np.random.default_rng((self._options.seed, self._start + index))
        bands, classes = self._shape(rng, self._draw(rng))
        if "paste" in self._options.augment and rng.random() < PASTE_SHARE:
            bands, classes = paste((bands, classes), self._shape(rng, self._draw(rng)))
        return self._to_tensors(rng, bands, classes)

    def _draw(self, rng: np.random.Generator) -> LabelledTile:
        """Draw a window, in pixels of its scene."""
        weights = np.array([place.weight for place in self._places])
        place = self._places[rng.choice(len(weights), p=weights / weights.sum())]
        wants_object = bool(rng.random() < self._options.objects)
        # Drawn again rather than searched for: labels of large scenes are read by window alone.
        for _ in range(TRIES):
            sample = place.pick(rng)
            gsd = pick_gsd(rng, sample.gsd, self._options.gsd_range)
            side = max(round(self._options.tile * gsd / sample.gsd), 1)
            if min(sample.scene.height, sample.scene.width) < side and len(place.samples) > 1:
                return join(rng, place.alike(sample), side, self._store)
            drawn = self._store.read(sample, pick_window(rng, sample, side))
            present = (drawn.classes != 0) & (drawn.classes != IGNORE)
            if bool(present.any()) == wants_object or sample.label is None:
                break
        return drawn

    def _shape(self, rng: np.random.Generator, drawn: LabelledTile) -> tuple[Floats32, Bytes]:
        """Scale a window to the tile and rotate it; the last band is validity."""
        normalizer = self._normalizer
        span = np.float32(normalizer.high - normalizer.low)
        bands = (drawn.pixels.astype(np.float32) - np.float32(normalizer.low)) / span
        bands[:, ~drawn.valid] = 0
        # Validity goes through scaling and turning as one more band.
        bands = np.concatenate([bands, drawn.valid[None]], dtype=np.float32)
        return turn(rng, *rescale(bands, drawn.classes, self._options.tile))

    def _to_tensors(
        self, rng: np.random.Generator, bands: Floats32, classes: Bytes
    ) -> tuple[Tensor, Tensor]:
        """Augment and normalise a window."""
        normalizer = self._normalizer
        span = np.float32(normalizer.high - normalizer.low)
        valid = bands[-1] > VALID_SHARE
        image = augment(rng, bands[:-1], self._options.augment)
        pixels = np.empty_like(image)
        normalizer.apply(image * span + np.float32(normalizer.low), valid, pixels)
        return torch.from_numpy(pixels), torch.from_numpy(np.ascontiguousarray(classes))


def paste(below: tuple[Floats32, Bytes], above: tuple[Floats32, Bytes]) -> tuple[Floats32, Bytes]:
    """Paste the objects of one window onto another, cut out along their outlines.

    Ghiasi et al., Simple Copy-Paste is a Strong Data Augmentation, 2021, section 3, without
    blending.

    Args:
        below: Bands `(band, row, col)`, the last of which is validity, and classes `(row, col)`.
        above: Bands and classes of the window whose objects are pasted.
    """
    taken = (above[1] != 0) & (above[1] != IGNORE) & (above[0][-1] > VALID_SHARE)
    return np.where(taken, above[0], below[0]), np.where(taken, above[1], below[1])


def pick_gsd(rng: np.random.Generator, native: float, span: tuple[float, ...] | None) -> float:
    """Draw a ground sampling distance in metres, evenly on a logarithmic scale; see `gsd_span`."""
    low, high = gsd_span(native, span)
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def gsd_span(native: float, span: tuple[float, ...] | None) -> tuple[float, float]:
    """The smallest and the largest ground sampling distance that an image is drawn at, in metres.

    Args:
        native: The ground sampling distance of the image.
        span: The range asked for. The image is drawn in the part of it that it can give, enlarged
            no more than scenes are when they are segmented.
    """
    low, high = native * GSD_SPREAD[0], native * GSD_SPREAD[1]
    if span is not None:
        low = native / ENLARGED_MAX
        low, high = min(max(low, span[0]), high), max(min(high, span[1]), low)
    return min(low, high), max(low, high)


def pick_window(rng: np.random.Generator, sample: Sample, side: int) -> Window:
    """Draw a square window at a random position in the sample's area of interest."""
    scene = sample.scene
    region = Window(0, 0, scene.height, scene.width)
    if sample.aoi is not None:
        region = aoi_window(sample.aoi, scene)
    row = region.row + pick_start(rng, region.height, side)
    return Window(row, region.col + pick_start(rng, region.width, side), side, side)


def rescale(bands: Floats32, classes: Bytes, side: int) -> tuple[Floats32, Bytes]:
    """Scale the bands `(band, row, col)` and classes of a square to `side` pixels.

    Each pixel gets the class that covers most of it.
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


def resize(bands: Floats32, side: int) -> Floats32:
    """Scale bands bilinearly; where pixels become coarser, over the area of the new pixel."""
    scaled = F.interpolate(
        torch.from_numpy(bands)[None], (side, side), mode="bilinear", antialias=True
    )
    resized: Floats32 = scaled[0].numpy()
    return resized


def turn(rng: np.random.Generator, bands: Floats32, classes: Bytes) -> tuple[Floats32, Bytes]:
    """Rotate into one of eight poses and, half of the time, by any angle, with mirrored corners."""
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
