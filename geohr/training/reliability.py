"""Whether a probability of 0.8 means 0.8, and a temperature that makes it so.

Works on the counts of `validate.count_pixels` for one class: `(truth 0 or 1, probability level)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import nn

from geohr.encoding import Floats, Ints
from geohr.errors import InputError
from geohr.options import THRESHOLD_MIN

BINS = 10
"""Of a reliability diagram."""
SPAN = (0.2, 5.0)
"""Temperatures that are looked at."""


@dataclass(frozen=True)
class Reliability:
    """Pixels grouped by probability.

    Attributes:
        probability: `(bin,)` mean probability; NaN where a bin holds no pixel.
        share: `(bin,)` share of them that is the class; NaN likewise.
        pixels: `(bin,)` how many.
    """

    probability: Floats
    share: Floats
    pixels: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance of share and probability over pixels.

        Guo et al., On Calibration of Modern Neural Networks, 2017, equation 3.
        """
        filled = self.pixels > 0
        apart = np.abs(self.share - self.probability)[filled]
        return float((apart * self.pixels[filled]).sum() / self.pixels.sum())


def level_logits(levels: int) -> Floats:
    """The logit in the middle of each probability level; half a level from 0 and 1 at the ends."""
    step = 1 / (levels - 1)
    likely = np.clip(np.arange(levels) * step, step / 4, 1 - step / 4)
    return np.asarray(np.log(likely / (1 - likely)))


def sigmoid(logits: Floats) -> Floats:
    """Probabilities of logits."""
    return np.asarray(1 / (1 + np.exp(-logits)))


def fit_temperature(tables: Sequence[Ints]) -> float:
    """The temperature that makes the truth likeliest, every place counting the same.

    Guo et al., 2017, section 4.2: logits are divided by it, so that the order of pixels stays.
    """
    logits = level_logits(tables[0].shape[1])
    # The mean of the places' own distributions.
    truth = np.mean([table / max(table.sum(), 1) for table in tables], axis=0)

    def surprise(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        against, towards = np.logaddexp(0, scaled), np.logaddexp(0, -scaled)
        return float((truth[0] * against + truth[1] * towards).sum())

    found = minimize_scalar(surprise, bounds=np.log(SPAN), method="bounded")
    return round(float(np.exp(found.x)), 3)


def reliability(table: Ints, temperature: float = 1.0) -> Reliability:
    """Pixels by probability after the logits are divided by a temperature."""
    likely = sigmoid(level_logits(table.shape[1]) / temperature)
    groups = np.minimum((likely * BINS).astype(int), BINS - 1)
    pixels = np.bincount(groups, table.sum(axis=0), BINS)
    sums = np.bincount(groups, table.sum(axis=0) * likely, BINS)
    true = np.bincount(groups, table[1], BINS)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Reliability(sums / pixels, true / pixels, pixels.astype(np.int64))


def cool(probability: float, temperature: float) -> float:
    """What becomes of a probability when its logit is divided by a temperature."""
    if not 0 < probability < 1:
        return probability
    return float(sigmoid(np.log(probability / (1 - probability)) / np.float64(temperature)))


def cool_threshold(threshold: float, temperature: float) -> float:
    """A card's threshold for logits that are divided by a temperature, to three decimals."""
    return max(round(cool(threshold, temperature), 3), THRESHOLD_MIN)


@torch.no_grad()
def divide_logits(network: nn.Module, temperature: float) -> None:
    """Divide a network's logits by a temperature, in the weights of its last convolution.

    Only linear steps follow that convolution, so that engines and formats know nothing of it.

    Raises:
        InputError: When the network has no convolution in its `segmentation_head`.
    """
    head = getattr(network, "segmentation_head", nn.Identity())
    last = [layer for layer in head.modules() if isinstance(layer, nn.Conv2d)]
    if not last:
        raise InputError(
            f"{type(network).__name__}: cannot be calibrated, its segmentation_head holds no "
            "convolution"
        )
    for values in last[-1].parameters():
        values.div_(temperature)
