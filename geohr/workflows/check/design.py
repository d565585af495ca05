"""How a sample is spread over strata, and how large it must be.

Objects are drawn for precision, windows for recall. A stratum gets judgements in proportion to its
size and to how much its answers are expected to differ (Neyman's allocation: Cochran, "Sampling
Techniques", 1977, section 5.5), by what the model itself thinks; the estimate does not depend on
whether it is right.
"""

from __future__ import annotations

import numpy as np

from geohr.encoding import Floats, Ints

# A person's time to say whether an object is right: with keys, and the next one already shown.
OBJECT_SECONDS = 4.0
# Time to look through a window for objects that the map does not have.
WINDOW_SECONDS = 8.0
# Share of the time that goes into objects, the rest into windows.
OBJECTS_SHARE = 0.4
# Judgements of a stratum, where it has as many members: below it its own spread is unknown.
LEAST = 3
# Judgements for which there is one more stratum: more strata would hold too few each.
OBJECTS_A_STRATUM, WINDOWS_A_STRATUM = 12, 8
STRATA_MAX = 6
# Standard deviation of yes and no that is granted at least: a model that is sure may be wrong.
SPREAD_MIN = 0.3
# Missed objects of a window that are granted besides those expected.
SURPRISE = 0.1
Z = 1.96


def strata_for(judgements: int, each: int) -> int:
    """How many strata so many judgements are spread over, one for `each`."""
    return min(max(judgements // each, 1), STRATA_MAX)


def spread_of_shares(expected: Floats) -> Floats:
    """`(stratum,)` standard deviation of yes and no, given the share of yes that is expected."""
    return np.maximum(np.sqrt(expected * (1 - expected)), SPREAD_MIN)


def spread_of_counts(expected: Floats) -> Floats:
    """`(stratum,)` standard deviation of a count, given its expectation; as of Poisson's."""
    return np.sqrt(expected + SURPRISE)


def by_expected(expected: Floats, strata: int) -> Ints:
    """`(n,)` strata of members by what is expected of each, the least first.

    Limits lie at equal steps of the cumulative square root (Dalenius and Hodges, "Minimum variance
    stratification", Journal of the American Statistical Association 54, 1959).
    """
    order = np.argsort(expected, kind="stable")
    rising = np.cumsum(spread_of_counts(expected[order]))
    found = np.empty(len(expected), np.int64)
    found[order] = np.minimum((rising / rising[-1] * strata - 1e-9).astype(np.int64), strata - 1)
    return found


def allocate(sizes: Ints, spread: Floats, judgements: int) -> Ints:
    """`(stratum,)` how many members are drawn; never more than there are.

    Args:
        sizes: `(stratum,)` members.
        spread: `(stratum,)` standard deviation of what is judged.
        judgements: The number in all; more are drawn where every stratum needs `LEAST`.
    """
    drawn = np.minimum(sizes, LEAST)
    want = sizes * spread
    for _ in range(max(judgements - int(drawn.sum()), 0)):
        # The next judgement goes where the share that was drawn falls behind most.
        behind = np.where(drawn < sizes, want / (drawn + 0.5), -1.0)
        best = int(behind.argmax())
        if behind[best] < 0:
            break
        drawn[best] += 1
    return np.asarray(drawn, np.int64)


def judgements_for(half_width: float, sizes: Ints, spread: Floats) -> int:
    """The judgements that an interval of the mean with this half width takes."""
    weight = sizes / sizes.sum()
    return int(np.ceil((Z * float((weight * spread).sum()) / half_width) ** 2))


def windows_for(half_width: float, found: float, sizes: Ints, expected: Floats) -> int:
    """The windows that an interval of recall with this half width takes.

    Args:
        half_width: Of recall.
        found: Objects of the map that are expected to be right.
        sizes: `(stratum,)` windows.
        expected: `(stratum,)` missed objects expected of a window.
    """
    missed = float((sizes * expected).sum())
    if missed <= 0:
        return LEAST * len(sizes)
    # Recall is found / (found + missed), and changes by this for each missed object.
    slope = found / (found + missed) ** 2
    spread = float((sizes * spread_of_counts(expected)).sum())
    return int(np.ceil((Z * slope * spread / half_width) ** 2))
