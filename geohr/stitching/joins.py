"""Probabilities of a scene that was read at several resolutions, as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from geohr.encoding import NODATA, Bytes


def mean(readings: Sequence[Bytes]) -> Bytes:
    """The mean of the readings that have a pixel, rounded; see `JOINS`."""
    sums = np.zeros(readings[0].shape, np.uint16)
    counts = np.zeros_like(sums)
    for each in readings:
        known = each != NODATA
        sums += np.where(known, each, np.uint8(0))
        counts += known
    # Pixels that no reading has are given the nodata of the first one.
    most = np.maximum(counts, 1)
    means: Bytes = ((sums + most // 2) // most).astype(np.uint8)
    return means


def larger(readings: Sequence[Bytes]) -> Bytes:
    """The largest of the readings that have a pixel; see `JOINS`."""
    largest: Bytes = np.maximum.reduce([np.where(each == NODATA, 0, each) for each in readings])
    return largest


# By name: from probabilities `(class, row, col)` of each reading, 255 where it has none, to one of
# each pixel.
JOINS: dict[str, Callable[[Sequence[Bytes]], Bytes]] = {"mean": mean, "larger": larger}


def join(readings: Sequence[Bytes], how: str) -> Bytes:
    """Join the readings of the same pixels.

    Args:
        readings: Probabilities `(class, row, col)`, in 1/254; 255 is nodata, and a pixel without
            data in the first reading has none in what is joined.
        how: A name in `JOINS`.
    """
    joined = JOINS[how](readings)
    joined[readings[0] == NODATA] = NODATA
    return joined
