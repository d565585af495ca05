"""Confidence intervals that keep their level for small samples, small maps and counts of zero.

What was not judged is drawn many times, given what was: the estimate's interval is that of the
draws. Where all was judged nothing is left to draw, and the interval has no width. Ericson,
"Subjective Bayesian models in sampling finite populations", Journal of the Royal Statistical
Society B 31, 1969; with priors so weak that the intervals keep their level in repeated samples
(Jeffreys' for shares), which `benchmarks/check.py` shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from geohr.encoding import Floats, Ints

LEVEL = 0.95
TAIL = (1 - LEVEL) / 2
# Draws of what was not judged.
DRAWS = 4000
# Jeffreys' prior: half a right and half a wrong judgement of a share, half a hit of a count.
HALF = 0.5
# Missed objects that are expected of a window at least: no model knows that there are none.
MISSED_MIN = 0.05
# Variance over mean of missed objects in a window: granted at least, and believed at most.
DISPERSION = (1.3, 6.0)


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        value: The estimate.
        low: Lower end, at `LEVEL`.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, draws: Floats) -> Interval:
        """An estimate with the interval of its draws."""
        low, high = np.quantile(draws, (TAIL, 1 - TAIL))
        return cls(value, min(float(low), value), max(float(high), value))

    @property
    def half_width(self) -> float:
        """Half of the interval's length."""
        return (self.high - self.low) / 2

    def as_list(self) -> list[float]:
        """The value, the lower and the upper end, as a list."""
        return [self.value, self.low, self.high]


def draw_right(right: Floats, judged: Ints, members: Ints, random: np.random.Generator) -> Floats:
    """`(draw,)` how many objects of a stratified map are right.

    Args:
        right: `(stratum,)` how many judged were right.
        judged: `(stratum,)` how many were judged.
        members: `(stratum,)` how many there are.
        random: Of the draws.
    """
    total = np.zeros(DRAWS)
    for found, looked, size in zip(right, judged, members, strict=True):
        share = random.beta(found + HALF, looked - found + HALF, DRAWS)
        total += found + random.binomial(max(int(size - looked), 0), share)
    return total


def draw_missed(
    counts: tuple[Floats, Floats],
    judged: Ints,
    members: Ints,
    expected: Floats,
    random: np.random.Generator,
) -> Floats:
    """`(draw,)` how many objects a map misses, from windows that were looked through.

    Counts of a stratum are taken to be Poisson's with a mean of its own and a common dispersion,
    which the sample tells. The mean's prior counts as half a missed object; it is what was expected
    times the ratio of missed to expected objects over the whole sample.

    Args:
        counts: `(stratum,)` missed objects in the windows judged, and the sum of their squares.
        judged: `(stratum,)` windows judged.
        members: `(stratum,)` windows.
        expected: `(stratum,)` missed objects that were expected of a window.
        random: Of the draws.
    """
    sums, squares = counts
    ratio = (sums.sum() + HALF) / ((judged * expected).sum() + HALF)
    prior = HALF / np.maximum(ratio * expected, MISSED_MIN)
    dispersion = dispersion_of(sums, squares, judged)
    total = np.zeros(DRAWS)
    for found, looked, size, windows in zip(sums, judged, members, prior, strict=True):
        shape, scale = (found + HALF) / dispersion, dispersion / (looked + windows)
        mean = random.gamma(shape, scale, DRAWS)
        left = max(int(size - looked), 0)
        total += found + random.poisson(mean * left / dispersion) * dispersion
    return total


def dispersion_of(sums: Floats, squares: Floats, judged: Ints) -> float:
    """Variance over mean of counts within strata, where the sample tells it.

    A few hits tell little of it, and it is taken to be the larger.
    """
    low, high = DISPERSION
    known = judged > 1
    if sums[known].sum() < 3:
        return low
    within = (squares - sums**2 / np.maximum(judged, 1))[known].sum()
    mean = (sums / np.maximum(judged, 1) * (judged - 1))[known].sum()
    few = 1 + 1 / np.sqrt(sums.sum())
    return float(np.clip(few * within / mean, low, high))


def share(right: Floats, judged: Floats, sizes: Floats) -> Interval:
    """The share of a part of the map that is right, from a stratified sample.

    Wilson's interval with the effective sample size of the design, as in Franco et al.,
    "Comparative study of confidence intervals for proportions in complex sample surveys", Journal
    of Survey Statistics and Methodology 7, 2019. Each stratum's variance is taken with one right
    and one wrong judgement added, so that a stratum without an error is not taken as certain.

    Args:
        right: `(stratum,)` how many judged were right.
        judged: `(stratum,)` how many were judged.
        sizes: `(stratum,)` how many there are.
    """
    known = (judged > 0) & (sizes > 0)
    right, judged, sizes = right[known], judged[known], sizes[known]
    if len(sizes) == 0:
        return Interval(np.nan, 0.0, 1.0)
    weight = sizes / sizes.sum()
    value = float((weight * right / judged).sum())
    smooth = (right + 1) / (judged + 2)
    left_out = np.maximum(1 - judged / sizes, 0)
    variance = float((weight**2 * smooth * (1 - smooth) / judged * left_out).sum())
    if variance <= 0:
        return Interval(value, value, value)
    middle = float((weight * smooth).sum())
    effective = middle * (1 - middle) / variance
    freedom = max(float(judged.sum()) - len(judged), 1.0)
    z = float(stats.t.ppf(1 - TAIL, freedom))
    centre = (value + z**2 / (2 * effective)) / (1 + z**2 / effective)
    half = z / (1 + z**2 / effective)
    half *= float(np.sqrt(value * (1 - value) / effective + z**2 / (4 * effective**2)))
    return Interval(value, max(min(centre - half, value), 0.0), min(max(centre + half, value), 1.0))
