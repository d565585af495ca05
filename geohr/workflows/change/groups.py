"""Objects of two dates matched many to many, going south, with few of them in memory.

Objects that overlap are one group: a house that was extended, two that became one, one that was
split. What overlaps nothing may be a roof that leans, and is matched with a neighbour of the same
form nearby. A group is handed out once every object that could belong to it has been read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geohr.encoding import Bools, Floats, Geometries, Ints
from geohr.scene.footprints import Footprints
from geohr.workflows.change.shift import ShiftField

# Share of the smaller object from which two are one: where one date lies a metre off, neighbours
# that touch share slivers, and those are less than this.
OVERLAP = 0.3
# Intersection over union, centres on each other, from which two forms are the same.
FORM = 0.5


@dataclass(frozen=True)
class Groups:
    """Groups of objects of two dates, each with at least one object.

    Attributes:
        before: The earlier objects, moved to where the later date shows them.
        after: The later objects.
        of_before: `(n,)` number of each earlier object's group.
        of_after: `(m,)` number of each later object's group.
        count: The number of groups.
    """

    before: Footprints
    after: Footprints
    of_before: Ints
    of_after: Ints
    count: int


class GroupFinder:
    """Groups the objects of both dates, strip by strip; holds those of incomplete groups.

    Args:
        field: The shift by which earlier objects are moved.
        reach: The largest distance of an object from its place on the other date, in metres.
        lean: The distance that a roof may lean, in metres.
    """

    def __init__(self, field: ShiftField, *, reach: float, lean: float) -> None:
        self._field = field
        self._reach = reach
        self._lean = lean
        self._before = Footprints.empty()
        self._after = Footprints.empty()

    def add(self, before: Footprints, after: Footprints, bottom: float) -> Groups:
        """Take the next strip of both dates, and give the groups that are whole with it.

        Args:
            before: The earlier objects, where the earlier date shows them.
            after: The later objects.
            bottom: y of the strip's lower border; all that comes later lies below it.
        """
        first = Footprints.joined(self._before, moved_by(before, self._field))
        second = Footprints.joined(self._after, after)
        links = overlaps(first.shapes, second.shapes)
        alone = (
            np.setdiff1d(np.arange(len(first)), links[0]),
            np.setdiff1d(np.arange(len(second)), links[1]),
        )
        near = neighbours(first.shapes, second.shapes, alone, self._lean)
        # Until all of a group's members and of its neighbours are known, it waits.
        count, together = components(np.hstack([links, near]), len(first), len(second))
        lowest = np.concatenate([southern(first.shapes), southern(second.shapes)])
        waits = np.zeros(count, bool)
        waits[together[lowest <= bottom + self._reach]] = True
        ready = ~waits[together]
        done = ready[: len(first)], ready[len(first) :]
        self._before, self._after = first.take(~done[0]), second.take(~done[1])
        partners = best_partners(first.shapes, second.shapes, near)
        return pick(first, second, np.hstack([links, partners]), done)


def moved_by(table: Footprints, field: ShiftField) -> Footprints:
    """Move objects by the shift at their centres."""
    if len(table) == 0:
        return table
    move = field.at(middles_of(table.shapes))
    return replace(table, shapes=moved(table.shapes, move))


def moved(shapes: Geometries, move: Floats) -> Geometries:
    """Move each shape by a vector of its own, in metres, `(n, 2)`."""
    points, owner = shapely.get_coordinates(shapes, return_index=True)
    return np.asarray(shapely.set_coordinates(shapes.copy(), points + move[owner]), object)


def middles_of(shapes: Geometries) -> Floats:
    """The centroids of shapes, `(n, 2)`."""
    return np.asarray(shapely.get_coordinates(shapely.centroid(shapes)), np.float64)


def southern(shapes: Geometries) -> Floats:
    """`(n,)` the smallest y of each shape."""
    return np.asarray(shapely.bounds(shapes).reshape(-1, 4)[:, 1], np.float64)


def overlaps(first: Geometries, second: Geometries) -> Ints:
    """`(2, k)` pairs that share at least `OVERLAP` of the smaller one."""
    one, other = shapely.STRtree(second).query(first, predicate="intersects")
    shared = shapely.area(shapely.intersection(first[one], second[other]))
    smaller = np.minimum(shapely.area(first[one]), shapely.area(second[other]))
    real = shared >= OVERLAP * smaller
    return np.stack([one[real], other[real]]).astype(np.int64)


def neighbours(
    first: Geometries, second: Geometries, alone: tuple[Ints, Ints], lean: float
) -> Ints:
    """`(2, k)` pairs among the objects that overlap nothing, whose middles lie within `lean`."""
    if lean == 0 or len(alone[0]) == 0 or len(alone[1]) == 0:
        return np.zeros((2, 0), np.int64)
    points = shapely.points(middles_of(second[alone[1]]))
    centres = shapely.points(middles_of(first[alone[0]]))
    one, other = shapely.STRtree(points).query(centres, predicate="dwithin", distance=lean)
    return np.stack([alone[0][one], alone[1][other]])


def best_partners(first: Geometries, second: Geometries, near: Ints) -> Ints:
    """`(2, k)` the pairs of neighbours of one form, each object in one pair, the likest first."""
    one, other = near
    if len(one) == 0:
        return near
    move = middles_of(second[other]) - middles_of(first[one])
    placed = moved(first[one], move)
    shared = shapely.area(shapely.intersection(placed, second[other]))
    iou = shared / (shapely.area(placed) + shapely.area(second[other]) - shared)
    kept: list[int] = []
    taken: tuple[set[int], set[int]] = set(), set()
    for index in np.lexsort((other, one, -iou)):
        if iou[index] < FORM:
            break
        if one[index] not in taken[0] and other[index] not in taken[1]:
            taken[0].add(one[index])
            taken[1].add(other[index])
            kept.append(index)
    return near[:, kept]


def components(links: Ints, first: int, second: int) -> tuple[int, Ints]:
    """Number the connected groups: how many there are, and the group of each object.

    Args:
        links: `(2, k)` indices of earlier and of later objects that belong together.
        first: The number of earlier objects.
        second: The number of later objects, which follow the earlier ones in the result.
    """
    size = first + second
    graph = coo_array((np.ones(links.shape[1], bool), (links[0], links[1] + first)), (size, size))
    count, group = connected_components(graph, directed=False)
    return int(count), group.astype(np.int64)


def pick(first: Footprints, second: Footprints, links: Ints, done: tuple[Bools, Bools]) -> Groups:
    """The groups of the objects that are done, numbered from north to south."""
    _, group = components(links, len(first), len(second))
    kept = np.concatenate(done)
    numbers, renumbered = np.unique(group[kept], return_inverse=True)
    inside = int(np.count_nonzero(done[0]))
    return Groups(
        first.take(done[0]),
        second.take(done[1]),
        renumbered[:inside].astype(np.int64),
        renumbered[inside:].astype(np.int64),
        len(numbers),
    )
