"""Places: samples of the same ground, which are drawn together and joined if they are small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geohr.errors import InputError
from geohr.geobox import Window
from geohr.training.samples import Sample
from geohr.training.store import LabelledTile, Store


@dataclass(frozen=True)
class Place:
    """The samples of one place.

    Attributes:
        samples: The samples, at least one.
        weight: The frequency with which the place is drawn, relative to other places.
    """

    samples: tuple[Sample, ...]
    weight: float

    @cached_property
    def _shares(self) -> NDArray[np.float64]:
        """The cumulative share of each sample in the area of the place."""
        areas = np.array([each.scene.height * each.scene.width for each in self.samples], float)
        return np.cumsum(areas / areas.sum())

    @cached_property
    def _by_gsd(self) -> dict[float, Place]:
        """The samples of the place, grouped by ground sampling distance."""
        distances = {each.gsd for each in self.samples}
        return {
            gsd: Place(tuple(each for each in self.samples if each.gsd == gsd), self.weight)
            for gsd in distances
        }

    def pick(self, rng: np.random.Generator) -> Sample:
        """Draw a sample with a probability proportional to its area."""
        index = int(np.searchsorted(self._shares, rng.random(), side="right"))
        return self.samples[min(index, len(self.samples) - 1)]

    def alike(self, sample: Sample) -> Place:
        """The part of the place with the ground sampling distance of a sample."""
        return self._by_gsd[sample.gsd]


def group_by_place(samples: Sequence[Sample]) -> tuple[Place, ...]:
    """Group samples by place, sorted by name, without places of weight 0.

    Raises:
        InputError: When no place is left to draw from.
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


def pick_start(rng: np.random.Generator, length: int, side: int) -> int:
    """Draw the start of a window along an axis; a window longer than the axis covers all of it."""
    low, high = sorted((0, length - side))
    return int(rng.integers(low, high + 1))


def join(rng: np.random.Generator, place: Place, side: int, store: Store) -> LabelledTile:
    """Join several small images of one place, in random poses, into a square.

    Args:
        rng: The random generator.
        place: The place, whose images have one ground sampling distance.
        side: The side of the square, in pixels.
        store: The reader of the images.
    """
    # Squares of one side fit together; one more than needed leaves room to shift the canvas.
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
    return LabelledTile(canvas.pixels[:, *there], canvas.valid[there], canvas.classes[there])


def pick_cell(rng: np.random.Generator, place: Place, cell: int, store: Store) -> LabelledTile:
    """Read a random square of one image of the place, `cell` pixels wide, in one of eight poses."""
    sample = place.pick(rng)
    row = pick_start(rng, sample.scene.height, cell)
    col = pick_start(rng, sample.scene.width, cell)
    read = store.read(sample, Window(row, col, cell, cell))
    quarters, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    return LabelledTile(
        pose(read.pixels, quarters, mirrored=mirrored),
        pose(read.valid, quarters, mirrored=mirrored),
        pose(read.classes, quarters, mirrored=mirrored),
    )


def join_axis(parts: Sequence[LabelledTile], *, axis: int) -> LabelledTile:
    """Concatenate tiles along rows (0) or columns (1)."""
    return LabelledTile(
        np.concatenate([part.pixels for part in parts], axis=axis + 1),
        np.concatenate([part.valid for part in parts], axis=axis),
        np.concatenate([part.classes for part in parts], axis=axis),
    )


def pose(array: NDArray[Any], quarters: int, *, mirrored: bool) -> NDArray[Any]:
    """Rotate the last two axes by quarter turns, and mirror them."""
    turned = np.rot90(array, quarters, axes=(-2, -1))
    return np.flip(turned, -1) if mirrored else turned
