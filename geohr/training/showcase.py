"""The validation windows that a network does best and worst on, for the report."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from geohr.encoding import IGNORE, PROBABILITY_MAX, Bytes
from geohr.geobox import Window
from geohr.models.card import Card
from geohr.training.samples import Sample
from geohr.training.store import Store

# Best and worst windows of a run that are shown.
KEPT = 4
# Windows with less of their ground covered by objects, true or found, are left out.
OBJECT_SHARE = 0.01
# Red, green, blue, opacity: green where truth and prediction agree on an object, orange where only
# the prediction has one, blue where only the truth has.
TRUE, FALSE, MISSED = (58, 125, 68, 153), (228, 87, 46, 153), (27, 108, 168, 153)


@dataclass(frozen=True)
class ShownWindow:
    """A window of a validation sample.

    Attributes:
        score: The intersection over union of all classes together, in the window.
        sample: The sample that the window lies in.
        window: The window, in the pixels of the sample.
        truth: `(row, col)` class ids.
        found: `(row, col)` class ids.
    """

    score: float
    sample: Sample
    window: Window
    truth: Bytes
    found: Bytes

    def overlay(self) -> NDArray[np.uint8]:
        """`(row, col, 4)` what is right, false and missed, in its colours."""
        drawn = np.zeros((*self.truth.shape, 4), np.uint8)
        known, right = self.truth != IGNORE, self.truth == self.found
        drawn[known & (self.truth > 0) & right] = TRUE
        drawn[known & (self.found > 0) & ~right] = FALSE
        drawn[known & (self.truth > 0) & (self.found == 0)] = MISSED
        return drawn


@dataclass
class Showcase:
    """Keeps the best and the worst windows of those that it sees.

    Attributes:
        store: Reads their pixels again for the pictures.
        card: The card of the network, which says how probabilities become classes.
        best: The best first.
        worst: The worst first.
    """

    store: Store
    card: Card
    best: list[ShownWindow] = field(default_factory=list)
    worst: list[ShownWindow] = field(default_factory=list)

    def see(self, sample: Sample, window: Window, truth: Bytes, found: Bytes) -> None:
        """Take a window in; see `geohr.training.validate.count_pixels`."""
        levels = (self.card.threshold or 0.5) * PROBABILITY_MAX
        classes = found if self.card.background else (found >= levels).astype(np.uint8)
        known = truth != IGNORE
        either = known & ((truth > 0) | (classes > 0))
        if either.sum() < OBJECT_SHARE * truth.size:
            return
        score = float((known & (truth > 0) & (truth == classes)).sum() / either.sum())
        shown = ShownWindow(score, sample, window, truth, classes)
        self.best = sorted([*self.best, shown], key=lambda each: -each.score)[:KEPT]
        self.worst = sorted([*self.worst, shown], key=lambda each: each.score)[:KEPT]

    def image(self, shown: ShownWindow) -> NDArray[np.uint8]:
        """`(row, col, 3)` a window's first three bands, stretched, or its first one in grey."""
        pixels = self.store.read(shown.sample, shown.window).pixels[:3].astype(np.float32)
        if len(pixels) < 3:
            pixels = np.repeat(pixels[:1], 3, axis=0)
        low, high = np.percentile(pixels, (1, 99))
        stretched = np.clip((pixels - low) / max(high - low, 1e-6), 0, 1) * 255
        image: NDArray[np.uint8] = np.moveaxis(stretched, 0, -1).astype(np.uint8)
        return image
