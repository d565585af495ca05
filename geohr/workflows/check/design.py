"""How a sample is spread over strata, and how large it must be.

Objects are drawn for precision, places for recall. A stratum gets judgements in proportion to its
size and to how much its answers are expected to differ (Neyman's allocation: Cochran, "Sampling
Techniques", 1977, section 5.5), by what the model itself thinks; the estimate does not depend on
whether it is right.
"""

from __future__ import annotations

import numpy as np

from geohr.encoding import Floats, Ints

# A person's time to say whether an object is right: with keys, and the next one already shown.
OBJECT_SECONDS = 4.0
# Time to say whether there is an object at a place; most show plain ground.
PLACE_SECONDS = 3.0
# Share of the time that goes into objects, the rest into places.
OBJECTS_SHARE = 0.5
# Judgements of a stratum, where it has as many members: below it its own spread is unknown.
LEAST = 5
# Standard deviation that is granted at least: a model that is sure may be wrong.
SPREAD_MIN = 0.1
Z = 1.96


def allocate(sizes: Floats, expected: Floats, judgements: int) -> Ints:
    """`(stratum,)` how many members are drawn.

    Args:
        sizes: `(stratum,)` members, or the area.
        expected: `(stratum,)` the share of yes that is expected, in [0, 1].
        judgements: The number in all; more are drawn where every stratum needs `LEAST`.
    """
    spread = np.sqrt(expected * (1 - expected))
    want = sizes * np.maximum(spread, SPREAD_MIN)
    drawn = np.zeros(len(sizes), np.int64)
    if want.sum() == 0:
        return drawn
    share = want / want.sum() * judgements
    floor = np.where(sizes > 0, LEAST, 0)
    drawn = np.asarray(np.maximum(np.round(share), floor), np.int64)
    # What the floors took is taken back from the largest.
    while drawn.sum() > judgements and (drawn > floor).any():
        drawn[int(np.argmax(np.where(drawn > floor, drawn, 0)))] -= 1
    return drawn


def judgements_for(half_width: float, sizes: Floats, expected: Floats) -> int:
    """The number of judgements that an interval of a half width takes, by Neyman's allocation."""
    weight = sizes / sizes.sum()
    spread = np.maximum(np.sqrt(expected * (1 - expected)), SPREAD_MIN)
    return int(np.ceil((Z * float((weight * spread).sum()) / half_width) ** 2))
