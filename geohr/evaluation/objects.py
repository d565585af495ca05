"""Matching of found objects to true ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from geohr.encoding import Geometries


@dataclass(frozen=True)
class Matches:
    """Pairs of matching objects; each object is in one pair at most.

    Attributes:
        truth: Indices of the true objects, `(n,)`.
        found: Indices of the found objects, `(n,)`.
        iou: Intersection over union of each pair, `(n,)`, at least the one asked for.
    """

    truth: NDArray[np.int64]
    found: NDArray[np.int64]
    iou: NDArray[np.float64]


def match(truth: Geometries, found: Geometries, *, least: float = 0.5) -> Matches:
    """Match objects with an intersection over union of at least `least`, the largest first.

    From 0.5 up, objects that do not overlap others of their layer have one partner at most, and the
    result is that of the SpaceNet metric (Van Etten et al., SpaceNet, 2018, section 4), which goes
    through the found objects in order of confidence. Where found objects overlap each other, the
    better fit wins here.

    Args:
        truth: The true objects, valid polygons.
        found: The found objects, valid polygons in the same CRS.
        least: The smallest intersection over union of a pair.
    """
    tree = shapely.STRtree(truth)
    of_found, of_truth = tree.query(found, predicate="intersects")
    shared = shapely.area(shapely.intersection(found[of_found], truth[of_truth]))
    union = shapely.area(found)[of_found] + shapely.area(truth)[of_truth] - shared
    iou = shared / union
    order = np.lexsort((of_found, of_truth, -iou))
    order = order[iou[order] >= least]
    free_truth, free_found = np.ones(len(truth), bool), np.ones(len(found), bool)
    kept = []
    for index in order:
        if free_truth[of_truth[index]] and free_found[of_found[index]]:
            free_truth[of_truth[index]] = free_found[of_found[index]] = False
            kept.append(index)
    return Matches(of_truth[kept], of_found[kept], iou[kept])
