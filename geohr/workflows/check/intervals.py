"""Confidence intervals that keep their level for small samples and for counts of zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from geohr.encoding import Floats

LEVEL = 0.95
TAIL = (1 - LEVEL) / 2


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

    @property
    def half_width(self) -> float:
        """Half of the interval's length."""
        return (self.high - self.low) / 2

    def as_list(self) -> list[float]:
        """The value, the lower and the upper end, as a list."""
        return [self.value, self.low, self.high]


def share(right: Floats, judged: Floats, sizes: Floats) -> Interval:
    """The share of a population that is right, from a stratified sample.

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
    left_out = 1 - judged / sizes
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


def total(weights: Floats, largest: float) -> Interval:
    """A total that few observations make up, each with a weight of its own.

    The gamma interval of Fay and Feuer, "Confidence intervals for directly standardized rates",
    Statistics in Medicine 16, 1997, equations 5 and 6. It is never too short, and has an upper end
    where nothing was observed.

    Args:
        weights: `(n,)` what each observation stands for.
        largest: The weight that one more observation would have.
    """
    value = float(weights.sum())
    spread = float((weights**2).sum())
    step = max(largest, float(weights.max(initial=0.0)))
    low = 0.0
    if value > 0:
        low = float(stats.gamma.ppf(TAIL, value**2 / spread, scale=spread / value))
    if step <= 0:
        return Interval(value, low, value)
    upper, wide = value + step, spread + step**2
    high = float(stats.gamma.ppf(1 - TAIL, upper**2 / wide, scale=wide / upper))
    return Interval(value, low, high)


def scaled(interval: Interval, factor: float) -> Interval:
    """An interval in another unit."""
    return Interval(interval.value * factor, interval.low * factor, interval.high * factor)


def plus(first: Interval, second: Interval) -> Interval:
    """The sum of two independent estimates.

    The method of variance estimates recovery: Zou and Donner, "Construction of confidence limits
    about effect measures", Statistics in Medicine 27, 2008, equation 5.
    """
    value = first.value + second.value
    below = np.hypot(first.value - first.low, second.value - second.low)
    above = np.hypot(first.high - first.value, second.high - second.value)
    return Interval(value, max(value - float(below), 0.0), value + float(above))


def found_share(found: Interval, missed: Interval) -> Interval:
    """The share that was found of what is there: found / (found + missed).

    Limits of the ratio missed / found by the method of variance estimates recovery: Donner and
    Zou, "Closed-form confidence intervals for functions of the normal mean and standard
    deviation", Statistical Methods in Medical Research 21, 2012, section 3.
    """
    if found.value <= 0:
        return Interval(0.0 if missed.value > 0 else np.nan, 0.0, 1.0)
    low, high = ratio_limits(missed, found)
    value = found.value / (found.value + missed.value)
    return Interval(value, 1 / (1 + high), 1 / (1 + low))


def ratio_limits(top: Interval, bottom: Interval) -> tuple[float, float]:
    """Lower and upper limit of top / bottom, both independent and not negative."""
    product = top.value * bottom.value
    under = bottom.low * (2 * bottom.value - bottom.low)
    over = bottom.high * (2 * bottom.value - bottom.high)

    def root(part: float, edge: float) -> float:
        inside = product**2 - edge * top_edge(part)
        return float(np.sqrt(max(inside, 0.0)))

    def top_edge(limit: float) -> float:
        return limit * (2 * top.value - limit)

    low = 0.0
    if over > 0:
        low = max((product - root(top.low, over)) / over, 0.0)
    high = float("inf")
    if under > 0:
        high = (product + root(top.high, under)) / under
    return low, high
