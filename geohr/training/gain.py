"""Whether fitted weights are better on labelled ground that was left out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geohr.encoding import PROBABILITY_MAX, Floats, Ints
from geohr.evaluation.metrics import bootstrap, iou

REPLICATES = 1000


@dataclass(frozen=True)
class Gain:
    """Intersection over union on ground that was left out, at one threshold.

    Attributes:
        before: Of the old weights.
        after: Of the new ones.
        low: Lower end of the interval of after - before.
        high: Upper end.
    """

    before: float
    after: float
    low: float
    high: float

    @property
    def taken(self) -> bool:
        """Whether the new weights are: unless all of the interval is a loss.

        A few plots seldom show a gain that the rest of a place has.
        """
        return self.high >= 0

    def as_dict(self) -> dict[str, float]:
        """For a card."""
        return {
            "iou_before": round(self.before, 4),
            "iou": round(self.after, 4),
            "gain_low": round(self.low, 4),
            "gain_high": round(self.high, 4),
        }

    def describe(self) -> str:
        """In one sentence, without its end."""
        told = (
            f"IoU on labelled ground that was left out {self.before:.2f} before and "
            f"{self.after:.2f} after, a change of {100 * (self.after - self.before):+.0f} points "
            f"({100 * self.low:+.0f} to {100 * self.high:+.0f})"
        )
        if not self.taken:
            return f"{told}: the new weights are refused, and the model is as it was"
        return told if self.low > 0 else f"{told}; it may be a loss: check the new map"


def judge(counts: Ints, threshold: float, *, certainty: float = 0.95, seed: int = 0) -> Gain:
    """What new weights gain over old ones, with an interval that draws plots with replacement.

    The threshold is not chosen from these plots: ground that is labelled because objects lie there
    holds more of them than the rest of a place, and asks for a lower one.

    Args:
        counts: `(2, plot, truth, level)` pixels by the old weights, and by new ones that have not
            seen the plot.
        threshold: The probability from which a pixel is an object.
        certainty: Level of the interval.
        seed: Of the bootstrap.
    """
    # From which level a pixel is an object, as in `geohr.stitching.mosaic.classify`.
    level = math.ceil(threshold * PROBABILITY_MAX)
    known = counts[:, counts.sum(axis=(0, 2, 3)) > 0]
    old, new = outcome(known[0], level), outcome(known[1], level)
    before, after = float(score(old.sum(axis=0))), float(score(new.sum(axis=0)))
    drawn = bootstrap(np.concatenate([new, old], axis=1), REPLICATES, seed=seed)
    spread = score(drawn[:, :3]) - score(drawn[:, 3:])
    low, high = np.quantile(spread, ((1 - certainty) / 2, (1 + certainty) / 2))
    return Gain(before, after, float(low), float(high))


def core(old: Ints, new: Ints, threshold: float, probability: float | None) -> float | None:
    """The probability that as large a share of what is found exceeds as exceeded the former.

    Fitted probabilities lie nearer to 0 and 1: cores at the former one would run together.

    Args:
        old: `(level,)` pixels by the old weights.
        new: `(level,)` pixels by the new ones.
        threshold: The probability from which a pixel is an object.
        probability: The former one, above the threshold.
    """
    if probability is None or not 0 < probability < 1:
        return probability
    first = math.ceil(threshold * PROBABILITY_MAX)
    level = math.ceil(probability * PROBABILITY_MAX)
    share = old[level:].sum() / max(old[first:].sum(), 1)
    found = new[first:][::-1].cumsum()[::-1]
    at = first + int(np.abs(found - share * found[0]).argmin())
    # A level that gives the same share as the former one is the former one.
    return probability if at == level else round(min(at / PROBABILITY_MAX, 0.999), 3)


def outcome(counts: Ints, level: int) -> Ints:
    """`(..., 3)` true, false and missed pixels of `(..., truth, level)` from a level on."""
    found = counts[..., level:].sum(axis=-1)
    return np.stack([found[..., 1], found[..., 0], counts[..., 1, :level].sum(axis=-1)], axis=-1)


def score(totals: NDArray[np.int64]) -> Floats:
    """Intersection over union of `(..., 3)` true, false and missed pixels."""
    return iou(totals[..., 0], totals[..., 1], totals[..., 2])
