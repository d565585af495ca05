"""A network's scores on whole validation images, in one pass of windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from geohr.card import Card
from geohr.data import Store
from geohr.grid import Grid, Window
from geohr.labels import Classes
from geohr.losses import probabilities
from geohr.metrics import confusion, mean_iou
from geohr.pixels import Normalizer
from geohr.samples import Sample

OVERLAP = 0.25
"""Share of a window that is context; the middle is what is scored."""


def validate(
    network: nn.Module, card: Card, samples: Sequence[Sample], *, store: Store, device: str
) -> dict[str, float]:
    """Mean intersection over union of the classes, by place, at the images' own resolution.

    Args:
        network: In evaluation mode, on `device`.
        card: What it expects.
        samples: With labels.
        store: Reads them.
        device: Where to predict.
    """
    counts: dict[str, NDArray[np.int64]] = {}
    for sample in samples:
        for window, predicted in predict(network, card, sample, store=store, device=device):
            truth = store.read(sample, window).classes
            table = confusion(truth, predicted, len(card.classes))
            counts[sample.place] = counts.get(sample.place, 0) + table
    return {place: mean_iou(table) for place, table in sorted(counts.items())}


def predict(
    network: nn.Module, card: Card, sample: Sample, *, store: Store, device: str
) -> Iterator[tuple[Window, Classes]]:
    """Class ids of the sample, window by window; together the windows cover it once."""
    scene = sample.scene
    overlap = round(card.tile * OVERLAP)
    grid = Grid(scene.height, scene.width, card.tile, overlap)
    normalizer = Normalizer.of(card, None)
    rows = limits(grid.row_starts, overlap // 2, scene.height)
    cols = limits(grid.col_starts, overlap // 2, scene.width)
    pixels = np.empty((len(card.bands), card.tile, card.tile), np.float32)
    for index, window in enumerate(grid):
        row, col = divmod(index, grid.shape[1])
        core = Window(rows[row], cols[col], rows[row + 1] - rows[row], cols[col + 1] - cols[col])
        drawn = store.read(sample, window)
        normalizer.apply(drawn.pixels, drawn.valid, pixels)
        classes = classify(network, torch.from_numpy(pixels)[None].to(device), card)
        top, left = core.row - window.row, core.col - window.col
        yield core, classes[top : top + core.height, left : left + core.width]


def limits(starts: Sequence[int], margin: int, length: int) -> list[int]:
    """Where each window's own part begins, and the end: every pixel lies in one part."""
    return [0, *(start + margin for start in starts[1:]), length]


@torch.inference_mode()
def classify(network: nn.Module, pixels: torch.Tensor, card: Card) -> Classes:
    """Class ids `(row, col)` of one normalised window `(1, band, row, col)`."""
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    scores = probabilities(network(pixels).float())[0]
    if card.background:
        found = scores.argmax(0)
    else:
        found = (scores[0] >= (card.threshold or 0.5)).to(torch.uint8)
    classes: Classes = found.to(torch.uint8).cpu().numpy()
    return classes
