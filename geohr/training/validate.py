"""A network's scores on whole validation images, blended as a segmented scene is.

For one class, pixels are counted by probability, so that every threshold can be scored from the
same pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geohr.encoding import IGNORE, PROBABILITY_MAX, Bytes, Ints
from geohr.errors import InputError
from geohr.evaluation.metrics import confusion, iou, mean_iou
from geohr.geobox import Window
from geohr.models.card import Card
from geohr.options import GridOptions, StitchOptions
from geohr.stitching.mosaic import Mosaic, classify
from geohr.tiling.grid import Grid, lattice
from geohr.tiling.normalize import Normalizer
from geohr.training.losses import probabilities
from geohr.training.samples import Sample
from geohr.training.store import Store

OVERLAP = GridOptions().overlap
# The weights with which `geohr segment` blends windows by default.
BLEND = StitchOptions().blend
# Steps of probability that are told apart; the same as in probability rasters.
LEVELS = PROBABILITY_MAX


def count_pixels(
    network: nn.Module,
    card: Card,
    samples: Sequence[Sample],
    *,
    store: Store,
    device: str,
    watch: Callable[[Sample, Window, Bytes, Bytes], None] | None = None,
) -> dict[str, Ints]:
    """Counts by place, at the images' own resolution; places without an annotated pixel have none.

    Args:
        network: The network, in evaluation mode on `device`.
        card: The card of the network.
        samples: With labels.
        store: Reads them.
        device: The device to predict on.
        watch: Called with each sample, window, true classes and what `predict` found there.

    Returns:
        For one class `(truth 0 or 1, probability level)`, else `(true class, found class)`.

    Raises:
        InputError: When a label holds a class that the card does not name.
    """
    counts: dict[str, Ints] = {}
    for sample in samples:
        for window, found in predict(network, card, sample, store=store, device=device):
            truth = store.read(sample, window).classes
            check_target(torch.from_numpy(truth), len(card.classes), label=sample.label)
            if watch is not None:
                watch(sample, window, truth, found)
            table = (
                confusion(truth, found, len(card.classes))
                if card.background
                else histogram(truth, found)
            )
            counts[sample.place] = counts.get(sample.place, 0) + table
    return {place: table for place, table in sorted(counts.items()) if table.any()}


def check_target(target: Tensor, classes: int, *, label: str | None = None) -> None:
    """Refuse class ids that the card does not name.

    Args:
        target: Class ids, of any shape.
        classes: The number of classes of the card.
        label: The file that they come from, for the message.

    Raises:
        InputError: With the id and the range allowed.
    """
    highest = int(target.masked_fill(target == IGNORE, 0).max())
    if highest > classes:
        where = "" if label is None else f"{label}: "
        raise InputError(
            f"{where}a label holds class {highest}, but the model has {classes}; allowed are 0 to "
            f"{classes}, and 255 where nothing is annotated"
        )


def histogram(truth: Bytes, levels: Bytes) -> Ints:
    """Pixels by truth, 0 or 1, and probability level."""
    kept = truth != IGNORE
    pairs = (truth[kept] > 0) * (LEVELS + 1) + levels[kept].astype(np.int64)
    return np.bincount(pairs, minlength=2 * (LEVELS + 1)).reshape(2, LEVELS + 1)


def scores(counts: Mapping[str, Ints], card: Card) -> dict[str, float]:
    """Intersection over union by place: the class's at the card's threshold, or the classes' mean.

    Args:
        counts: The result of `count_pixels`.
        card: Says whether there is one class, and the threshold.
    """
    if card.background:
        return {place: mean_iou(table) for place, table in counts.items()}
    # From which level a pixel belongs to the class, as in `geohr.stitching.mosaic.classify`.
    level = math.ceil((card.threshold or 0.5) * LEVELS)
    return {place: float(threshold_ious(table)[level]) for place, table in counts.items()}


def threshold_ious(table: Ints) -> NDArray[np.float64]:
    """`(level,)` intersection over union when pixels from that level on are taken for objects."""
    from_level = table[:, ::-1].cumsum(axis=1)[:, ::-1]
    false, true = from_level
    return iou(true, false, table[1].sum() - true)


def best_threshold(counts: Mapping[str, Ints]) -> float:
    """The probability at which the mean of the places' intersection over union is largest."""
    mean = np.mean([threshold_ious(table) for table in counts.values()], axis=0)
    # Rounded down: rounded up, it would ask for the level above the best.
    return math.floor(float(mean[1:].argmax() + 1) / LEVELS * 1000) / 1000


def predict(
    network: nn.Module, card: Card, sample: Sample, *, store: Store, device: str
) -> Iterator[tuple[Window, Bytes]]:
    """Probability levels of one class, or class ids, in pieces that cover the image once.

    Overlapping windows are blended as `geohr segment` blends them, so that a threshold is chosen on
    the probabilities that it will be used on.

    Args:
        network: The network, in evaluation mode on `device`.
        card: The card of the network.
        sample: The sample to predict.
        store: Reads it.
        device: The device to predict on.
    """
    scene, side = sample.scene, card.tile
    overlap = round(side * OVERLAP)
    grid = Grid(scene.height, scene.width, side, overlap, step=lattice(side, overlap))
    normalizer = Normalizer.of(card, None)
    mosaic = Mosaic(scene.height, scene.width, classes=len(card.classes), reach=side, blend=BLEND)
    # A window may lie so far beyond an edge that its part of the image is empty.
    inner = {start + overlap // 2 for start in grid.col_starts[1:]}
    cols = [0, *sorted(col for col in inner if 0 < col < scene.width), scene.width]
    pixels = np.empty((len(card.bands), side, side), np.float32)
    for row in range(grid.shape[0]):
        for window in grid.row(row):
            drawn = store.read(sample, window)
            normalizer.apply(drawn.pixels, drawn.valid, pixels)
            batch = torch.from_numpy(pixels)[None].to(device)
            mosaic.add(window, drawn.valid, predict_window(network, batch, card))
        rows = mosaic.finish(grid.finished(row)[1])
        if rows.probabilities.shape[1] == 0:
            continue
        found = classify(rows.probabilities, card.threshold) if card.background else None
        levels = rows.probabilities[0] if found is None else found
        for left, right in pairwise(cols):
            yield Window(rows.start, left, len(levels), right - left), levels[:, left:right]


@torch.inference_mode()
def predict_window(network: nn.Module, pixels: torch.Tensor, card: Card) -> NDArray[np.float32]:
    """Foreground scores `(class, row, col)` of one normalised window `(1, band, row, col)`."""
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    likely = probabilities(network(pixels).float())[0, int(card.background) :]
    scores: NDArray[np.float32] = likely.cpu().numpy()
    return scores
