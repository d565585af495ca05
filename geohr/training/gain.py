"""Whether fitted weights are better on ground that was left out, and at which threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geohr.encoding import PROBABILITY_MAX, Floats, Ints
from geohr.evaluation.metrics import bootstrap, iou
from geohr.options import THRESHOLD_MIN

REPLICATES = 1000
# Scores of a few plots that differ by less say nothing.
AS_GOOD = 0.01


@dataclass(frozen=True)
class Choice:
    """The weights and the threshold that were chosen.

    Attributes:
        share: The share of the new weights in the mean of old and new; 0 keeps the old ones.
        threshold: The probability from which a pixel is an object.
        former: The threshold before.
    """

    share: float
    threshold: float
    former: float

    def core(self, old: Ints, new: Ints, probability: float | None) -> float | None:
        """The probability that as large a share of what is found exceeds as exceeded the former.

        Fitted probabilities lie nearer to 0 and 1: cores at the former one would run together.

        Args:
            old: `(level,)` pixels by the old weights.
            new: `(level,)` pixels by the chosen ones.
            probability: The former one, above the former threshold.
        """
        if probability is None or not 0 < probability < 1:
            return probability
        level = math.ceil(probability * PROBABILITY_MAX)
        share = old[level:].sum() / max(old[math.ceil(self.former * PROBABILITY_MAX) :].sum(), 1)
        first = math.ceil(self.threshold * PROBABILITY_MAX)
        found = new[first:][::-1].cumsum()[::-1]
        at = first + int(np.abs(found - share * found[0]).argmin())
        # A level that gives the same share as the former one is the former one.
        return probability if at == level else round(min(at / PROBABILITY_MAX, 0.999), 3)


@dataclass(frozen=True)
class Gain:
    """Intersection over union on ground that was left out, all choices made without it.

    Attributes:
        before: Of the old model at its threshold.
        after: Of what was chosen.
        low: Lower end of the interval of after - before.
        high: Upper end.
        weights: After less the old weights at a threshold chosen again, with its interval.
    """

    before: float
    after: float
    low: float
    high: float
    weights: tuple[float, float, float]

    def as_dict(self) -> dict[str, float]:
        """For a card."""
        return {
            "iou_before": round(self.before, 4),
            "iou": round(self.after, 4),
            "gain_low": round(self.low, 4),
            "gain_high": round(self.high, 4),
        }

    def describe(self, choice: Choice) -> str:
        """In one sentence, without its end."""
        told = (
            f"IoU on labelled ground that was left out {self.before:.2f} before and "
            f"{self.after:.2f} after, a change of {100 * (self.after - self.before):+.0f} points "
            f"({100 * self.low:+.0f} to {100 * self.high:+.0f})"
        )
        if choice.share:
            taken = (
                f"{told}, with {choice.share:.0%} new weights and threshold {choice.threshold:g}"
            )
            return taken if self.low > 0 else f"{taken}; it may be a loss: check the new map"
        better, low, high = (100 * each for each in self.weights)
        kept = (
            f"the old weights are kept, as new ones are worse on labelled ground that was left out "
            f"({better:+.0f} points, {low:+.0f} to {high:+.0f})"
        )
        if choice.threshold == choice.former:
            return (
                f"{kept}, and another threshold is not shown to be better: the model is as it was"
            )
        return (
            f"{kept}; with the threshold {choice.threshold:g} instead of {choice.former:g}, {told}"
        )


def judge(
    counts: Ints, share: float, former: float, *, certainty: float = 0.95, seed: int = 0
) -> tuple[Choice, Gain]:
    """Choose weights and threshold, and say what they gain.

    Each plot is scored with the threshold that the other plots choose, and the intervals draw plots
    with replacement. New weights are taken unless all of the interval of what they gain over the
    old ones, both at a threshold that was chosen again, lies below 0: a few plots seldom show a
    gain that the rest of a place has. Else that threshold is taken where all of the interval of
    what it gains lies above 0.

    Args:
        counts: `(2, plot, truth, level)` pixels by the old weights, and by new ones that have not
            seen the plot.
        share: Of the fitted weights in the new ones.
        former: The old threshold.
        certainty: Level of the intervals.
        seed: Of the bootstrap.
    """
    counts = counts[:, counts.sum(axis=(0, 2, 3)) > 0]
    whole = counts.sum(axis=1)
    # From which level a pixel is an object, as in `geohr.stitching.mosaic.classify`.
    at_former = math.ceil(former * PROBABILITY_MAX)
    old = outcome(counts[0], at_former)
    again, new = np.empty_like(old), np.empty_like(old)
    for plot in range(counts.shape[1]):
        others = whole - counts[:, plot]
        again[plot], new[plot] = (
            outcome(counts[which, plot], best(others[which], at_former)) for which in (0, 1)
        )
    better = difference(new, again, certainty, seed)
    taken = int(better[2] >= 0)
    after = new if taken else again
    threshold = max(
        math.floor(best(whole[taken], at_former) / PROBABILITY_MAX * 1000) / 1000, THRESHOLD_MIN
    )
    if not taken and difference(again, old, certainty, seed)[1] <= 0:
        after, threshold = old, former
    gained = difference(after, old, certainty, seed)
    before = score(old.sum(axis=0))
    return (
        Choice(share if taken else 0.0, threshold, former),
        Gain(float(before), float(before) + gained[0], gained[1], gained[2], better),
    )


def outcome(counts: Ints, level: int) -> Ints:
    """`(..., 3)` true, false and missed pixels of `(..., truth, level)` from a level on."""
    found = counts[..., level:].sum(axis=-1)
    return np.stack([found[..., 1], found[..., 0], counts[..., 1, :level].sum(axis=-1)], axis=-1)


def score(totals: NDArray[np.int64]) -> Floats:
    """Intersection over union of `(..., 3)` true, false and missed pixels."""
    return iou(totals[..., 0], totals[..., 1], totals[..., 2])


def best(counts: Ints, former: int) -> int:
    """The level with the best score, of pixels `(truth, level)`.

    Of levels that are as good within `AS_GOOD`, it is the one nearest to the former.
    """
    from_level = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    false, true = from_level
    # Level 0 is everything, and no threshold.
    scores = iou(true, false, counts[1].sum() - true)[1:]
    good = np.flatnonzero(scores >= scores.max() - AS_GOOD) + 1
    return int(good[np.abs(good - former).argmin()])


def difference(new: Ints, old: Ints, certainty: float, seed: int) -> tuple[float, float, float]:
    """New score less old, with its interval, from outcomes `(plot, 3)` of the same plots."""
    drawn = bootstrap(np.concatenate([new, old], axis=1), REPLICATES, seed=seed)
    spread = score(drawn[:, :3]) - score(drawn[:, 3:])
    low, high = np.quantile(spread, ((1 - certainty) / 2, (1 + certainty) / 2))
    value = score(new.sum(axis=0)) - score(old.sum(axis=0))
    return float(value), float(low), float(high)
