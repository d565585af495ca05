"""Scores as pure functions of counts.

Counts may be plain numbers or arrays of replicates: every function works element by element. A
score is 1 where there is no true object and none was found.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geohr.encoding import IGNORE

Score = NDArray[np.float64]


def ratio(part: ArrayLike, whole: ArrayLike) -> Score:
    """`part / whole`: 1 where both are 0, and NaN where only the whole is."""
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        defined = np.where(whole == 0, np.where(part == 0, 1.0, np.nan), part / whole)
        return np.asarray(defined)


def precision(true: ArrayLike, false: ArrayLike) -> Score:
    """The share of what was found that is true."""
    return ratio(true, np.add(true, false))


def recall(true: ArrayLike, missed: ArrayLike) -> Score:
    """The share of what is true that was found."""
    return ratio(true, np.add(true, missed))


def f1(true: ArrayLike, false: ArrayLike, missed: ArrayLike) -> Score:
    """The harmonic mean of precision and recall."""
    twice = np.multiply(2, true)
    return ratio(twice, twice + np.add(false, missed))


def iou(true: ArrayLike, false: ArrayLike, missed: ArrayLike) -> Score:
    """Intersection over union, from counts of true, false and missed pixels."""
    return ratio(true, np.add(true, np.add(false, missed)))


def confusion(
    truth: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int
) -> NDArray[np.int64]:
    """A confusion matrix (truth, predicted) of pixels; those ignored in either are left out.

    Both hold class ids in one shape; the matrix has a row and a column more than classes.
    """
    kept = (truth != IGNORE) & (predicted != IGNORE)
    size = classes + 1
    pairs = truth[kept].astype(np.int64) * size + predicted[kept]
    return np.bincount(pairs, minlength=size * size).reshape(size, size)


def mean_iou(table: NDArray[np.int64]) -> float:
    """The mean IoU of the foreground classes that occur in a confusion matrix; 1 if none does."""
    both = np.diag(table)
    either = table.sum(0) + table.sum(1) - both
    occurs = either[1:] > 0
    return float((both[1:][occurs] / either[1:][occurs]).mean()) if occurs.any() else 1.0


def bootstrap(counts: NDArray[Any], replicates: int, *, seed: int = 0) -> NDArray[Any]:
    """Sums of `(block, count)` over blocks drawn with replacement, `(replicate, count)`.

    Each replicate draws as many blocks as there are.
    """
    rng = np.random.default_rng(seed)
    blocks = len(counts)
    times = rng.multinomial(blocks, np.full(blocks, 1 / blocks), replicates)
    drawn: NDArray[Any] = times @ counts
    return drawn
