"""Reliability of probabilities, and temperature scaling.

The functions use the counts of `validate.count_pixels` for one class: `(truth 0 or 1, probability
level)`.
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

# The number of bins of a reliability diagram.
BINS = 10
# The range of temperatures that is searched.
SPAN = (0.2, 5.0)


@dataclass(frozen=True)
class Reliability:
    """Pixels grouped by probability.

    Attributes:
        probability: The mean probability of each bin, `(bin,)`; NaN for an empty bin.
        share: The share of pixels of the class in each bin, `(bin,)`; NaN for an empty bin.
        pixels: The number of pixels in each bin, `(bin,)`.
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
    """The logit at the middle of each probability level; the outer levels are half as wide."""
    # The outermost levels hold all that is surer than half a step: their logits are not infinite.
    step = 1 / (levels - 1)
    likely = np.clip(np.arange(levels) * step, step / 4, 1 - step / 4)
    return np.asarray(np.log(likely / (1 - likely)))


def sigmoid(logits: Floats) -> Floats:
    """The logistic function, which turns logits into probabilities."""
    return np.asarray(1 / (1 + np.exp(-logits)))


def fit_temperature(tables: Sequence[Ints]) -> float:
    """The temperature of maximum likelihood, with equal weight for every place.

    Guo et al., 2017, section 4.2. Dividing logits by it keeps the order of pixels.
    """
    logits = level_logits(tables[0].shape[1])
    # The mean of the places' own distributions.
    truth = np.mean([table / max(table.sum(), 1) for table in tables], axis=0)

    def surprise(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        against, towards = np.logaddexp(0, scaled), np.logaddexp(0, -scaled)
        return float((truth[0] * against + truth[1] * towards).sum())

    # Over its logarithm: 0.5 is as far from 1 as 2 is.
    found = minimize_scalar(surprise, bounds=np.log(SPAN), method="bounded")
    return round(float(np.exp(found.x)), 3)


def reliability(table: Ints, temperature: float = 1.0) -> Reliability:
    """Group pixels by their probability after temperature scaling."""
    likely = sigmoid(level_logits(table.shape[1]) / temperature)
    groups = np.minimum((likely * BINS).astype(int), BINS - 1)
    pixels = np.bincount(groups, table.sum(axis=0), BINS)
    sums = np.bincount(groups, table.sum(axis=0) * likely, BINS)
    true = np.bincount(groups, table[1], BINS)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Reliability(sums / pixels, true / pixels, pixels.astype(np.int64))


def cool(probability: float, temperature: float) -> float:
    """Scale a probability: divide its logit by a temperature."""
    if not 0 < probability < 1:
        return probability
    return float(sigmoid(np.log(probability / (1 - probability)) / np.float64(temperature)))


def cool_threshold(threshold: float, temperature: float) -> float:
    """Scale the threshold of a card, rounded to three decimals."""
    return max(round(cool(threshold, temperature), 3), THRESHOLD_MIN)


@torch.no_grad()
def divide_logits(network: nn.Module, temperature: float) -> None:
    """Divide the weights of a network's last convolution by a temperature, and so its logits.

    Only linear steps follow that convolution, so engines and file formats need not know about it.

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
