"""Fitting all weights of a network to a few labelled plots, with its former self as a guide."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geohr.encoding import IGNORE, PROBABILITY_MAX, Bytes, Floats32, Ints
from geohr.tiling.normalize import Normalizer
from geohr.training.augment import augment
from geohr.training.ground import Piece
from geohr.training.losses import log_likelihood, mean_over, total_loss
from geohr.training.options import AdaptOptions
from geohr.training.places import pose
from geohr.training.windows import VALID_SHARE, rescale

Weights = dict[str, Tensor]

# Longer gradients are shortened to this: one strange window must not undo many steps.
GRADIENT_NORM_MAX = 5.0


# Share of the work over which the learning rate rises.
WARMUP = 0.1
# Share of the windows that are drawn about a pixel of an object.
OBJECTS = 0.5
# The largest factor by which windows are enlarged or reduced.
SCALE = 1.3
# Milder than in training from scratch: there is one scene to suit.
AUGMENT = ("colour", "gamma", "blur", "noise")
LOSSES = ("ce", "dice")


@dataclass(frozen=True)
class LabelledWindows:
    """Random windows of labelled ground.

    Attributes:
        pieces: Labelled ground.
        classes: `(row, col)` class ids of each piece, 255 where they are not known or left out.
        former: `(row, col)` probabilities of each piece by the former network, in 254ths.
        normalizer: From scene values to network values.
        side: Side of a window in pixels.
    """

    pieces: Sequence[Piece]
    classes: Sequence[Bytes]
    former: Sequence[Bytes]
    normalizer: Normalizer
    side: int

    def batch(self, rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised pixels `(n, band, row, col)`, class ids `(n, row, col)`, former probabilities.

        These are `(n, 1, row, col)`.
        """
        drawn = zip(*(self.draw(rng) for _ in range(count)), strict=True)
        pixels, target, former = (torch.from_numpy(np.stack(each)) for each in drawn)
        return pixels.contiguous(memory_format=torch.channels_last), target, former

    def draw(self, rng: np.random.Generator) -> tuple[Floats32, Bytes, Floats32]:
        """A window about a labelled pixel, scaled, turned and augmented."""
        index, row, col = self._pick(rng)
        piece, classes = self.pieces[index], self.classes[index]
        side = round(self.side * math.exp(rng.uniform(-1, 1) * math.log(SCALE)))
        top = corner(rng, row, side, classes.shape[0])
        left = corner(rng, col, side, classes.shape[1])
        bands, valid, classes, former = (
            cut_out(each, top, left, side)
            for each in (piece.bands, piece.valid, classes, self.former[index])
        )
        span = np.float32(self.normalizer.high - self.normalizer.low)
        bands = (bands - np.float32(self.normalizer.low)) / span
        likely = former[None] / np.float32(PROBABILITY_MAX)
        bands = np.concatenate([bands, likely, valid[None]], dtype=np.float32)
        bands, classes = rescale(bands, classes, self.side)
        quarters, flipped = int(rng.integers(4)), bool(rng.integers(2))
        bands = np.ascontiguousarray(pose(bands, quarters, mirrored=flipped))
        classes = np.ascontiguousarray(pose(classes, quarters, mirrored=flipped))
        valid = bands[-1] > VALID_SHARE
        image = augment(rng, bands[:-2], AUGMENT)
        pixels = np.empty_like(image)
        self.normalizer.apply(image * span + np.float32(self.normalizer.low), valid, pixels)
        return pixels, np.where(valid, classes, np.uint8(IGNORE)), bands[-2:-1]

    def _pick(self, rng: np.random.Generator) -> tuple[int, int, int]:
        """The piece, row and column of a labelled pixel; of an object as often as `OBJECTS`."""
        masks = [each != IGNORE for each in self.classes]
        if rng.random() < OBJECTS:
            objects = [mask & (each > 0) for mask, each in zip(masks, self.classes, strict=True)]
            masks = objects if any(each.any() for each in objects) else masks
        counts = np.array([each.sum() for each in masks], float)
        index = int(rng.choice(len(masks), p=counts / counts.sum()))
        place = int(rng.choice(np.flatnonzero(masks[index])))
        return index, *divmod(place, masks[index].shape[1])


def fit(
    network: nn.Module,
    windows: LabelledWindows,
    options: AdaptOptions,
    *,
    seed: int,
    done: Callable[[int], float],
) -> Weights:
    """Fit a copy of a network.

    Args:
        network: In evaluation mode; it is not changed.
        windows: What is learnt from.
        options: Batch size, learning rate and guide.
        seed: Of the windows.
        done: Given the steps taken, the share of the work that is done; 1 ends it.
    """
    # In evaluation mode: batch statistics of a few windows of one place make a model worse.
    learner = copy.deepcopy(network).eval().requires_grad_(True)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=options.learning_rate, weight_decay=0.0)
    rng = np.random.default_rng(seed)
    step = 0
    while (share := done(step)) < 1:
        rise = min(max(share, WARMUP / 10) / WARMUP, 1)
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * rise * (1 + math.cos(math.pi * share)) / 2
        pixels, target, former = windows.batch(rng, options.batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16"):
            logits = learner(pixels).float()
        loss = total_loss(logits, target, LOSSES)
        loss = loss + options.guide * guidance(logits, former, target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), GRADIENT_NORM_MAX)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
    return {name: each.detach().clone() for name, each in learner.state_dict().items()}


def guidance(logits: Tensor, former: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy against former probabilities where nothing is labelled."""
    unknown = (target == IGNORE).unsqueeze(1).to(logits.dtype)
    return mean_over(log_likelihood(logits, former), unknown)


def corner(rng: np.random.Generator, place: int, side: int, length: int) -> int:
    """The first pixel of a window that holds `place`, within the piece as far as it can be."""
    start = place - int(rng.integers(side // 8, side - side // 8))
    return int(np.clip(start, 0, length - side)) if length >= side else (length - side) // 2


def cut_out(values: NDArray[Any], top: int, left: int, side: int) -> NDArray[Any]:
    """A square of `(..., row, col)`; what lies beyond the edge is mirrored."""
    rows = mirrored(np.arange(top, top + side), values.shape[-2])
    cols = mirrored(np.arange(left, left + side), values.shape[-1])
    return values[..., rows[:, None], cols]


def mirrored(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Indices reflected at both ends of an axis."""
    period = max(2 * length - 2, 1)
    folded = np.abs(index) % period
    within: NDArray[np.int64] = np.minimum(folded, period - folded)
    return within


@torch.inference_mode()
def levels(network: nn.Module, piece: Piece, normalizer: Normalizer) -> Bytes:
    """`(row, col)` probabilities of a piece in 254ths, of a network of one class."""
    height, width = piece.valid.shape
    pixels = np.empty((len(piece.bands), height, width), np.float32)
    normalizer.apply(piece.bands, piece.valid, pixels)
    rows, cols = -(-height // 32) * 32, -(-width // 32) * 32
    pixels = pixels[:, mirrored(np.arange(rows), height)[:, None], mirrored(np.arange(cols), width)]
    whole = torch.from_numpy(pixels)[None].contiguous(memory_format=torch.channels_last)
    likely = network(whole)[0, 0, :height, :width].sigmoid().numpy()
    found: Bytes = np.round(likely * PROBABILITY_MAX).astype(np.uint8)
    return found


def plot_counts(found: Bytes, piece: Piece, plots: Sequence[int], into: Ints) -> None:
    """Add a piece's pixels to counts `(plot, truth, level)`."""
    inside = np.isin(piece.plots, plots) & (piece.classes != IGNORE)
    truth = (piece.classes[inside] > 0).astype(np.int64)
    flat = (piece.plots[inside] * 2 + truth) * (PROBABILITY_MAX + 1) + found[inside]
    into += np.bincount(flat, minlength=into.size).reshape(into.shape)


def blend(old: Weights, new: Weights, share: float) -> Weights:
    """Old weights moved towards new ones by a share."""
    return {
        name: torch.lerp(each, new[name], share) if each.is_floating_point() else each
        for name, each in old.items()
    }


def mean_weights(several: Sequence[Weights]) -> Weights:
    """The mean of several sets of weights."""
    return {
        name: torch.stack([each[name] for each in several]).mean(0)
        if first.is_floating_point()
        else first
        for name, first in several[0].items()
    }
