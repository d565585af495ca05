"""Connected components of runs, carried from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geohr.encoding import Bools, Ints
from geohr.polygons.runs import Runs


def connected(count: int, first: Ints, second: Ints) -> Ints:
    """Label the components of a graph with the smallest node of each.

    Every round hooks each root to a smaller neighbouring root and then flattens the trees
    (Shiloach and Vishkin, "An O(log n) parallel connectivity algorithm", 1982).

    Args:
        count: Number of nodes.
        first: One end of each edge.
        second: The other end.

    Returns:
        `(count,)`, for each node the smallest node of its component.
    """
    parent = np.arange(count)
    while len(first):
        low, high = np.minimum(first, second), np.maximum(first, second)
        parent[high] = low
        while True:
            grand = parent[parent]
            if np.array_equal(grand, parent):
                break
            parent = grand
        first, second = parent[first], parent[second]
        apart = first != second
        first, second = first[apart], second[apart]
    return parent


@dataclass(frozen=True)
class Step:
    """What came of the open components with more nodes: the runs of a frame, or whole fragments.

    Components of a step are numbered 0.. in the order of their first node; then come those that
    are held and have none.
    """

    count: int
    of_run: Ints
    """`(node,)` the component of each node."""
    of_old: Ints
    """`(old,)` what became of each component that was left open before."""
    open: Bools
    """`(count,)` True where more may come."""

    @property
    def renumber(self) -> Ints:
        """`(count,)` the number by which the next step knows an open component."""
        return np.cumsum(self.open) - 1


class Components:
    """Numbers the components of the frames' runs; holds those that are still open.

    Args:
        above: Runs in the row above the first one whose components are not known. Each counts as
            one of its own that stays open for good: it is held.
    """

    def __init__(self, above: int = 0) -> None:
        self.above = np.arange(above)
        """`(run,)` the open component of each run above the first row."""
        self.below = np.arange(above)
        """`(run,)` the open component of each run in the last row."""
        self._held = np.ones(above, np.bool_)

    def step(self, runs: Runs, pairs: tuple[Ints, Ints], last_row: int) -> Step:
        """Take the next frame, whose row 0 is the last row of the frame before.

        Args:
            runs: All runs of the frame.
            pairs: The pairs of runs that touch.
            last_row: The frame's last row.
        """
        carried = self.below
        first_run = np.full(len(self._held), -1)
        first_run[carried[::-1]] = np.arange(len(carried))[::-1]
        root = connected(
            len(runs.start),
            np.concatenate([pairs[0], first_run[carried]]),
            np.concatenate([pairs[1], np.arange(len(carried))]),
        )
        is_root = root == np.arange(len(root))
        of_run = (np.cumsum(is_root) - 1)[root]
        bare = first_run < 0
        count = int(is_root.sum() + bare.sum())
        of_old = np.empty(len(first_run), np.int64)
        of_old[~bare] = of_run[first_run[~bare]]
        of_old[bare] = np.arange(count - int(bare.sum()), count)
        held = np.zeros(count, np.bool_)
        held[of_old[self._held]] = True
        ending = of_run[np.searchsorted(runs.row, last_row) :]
        still_open = held.copy()
        still_open[ending] = True
        step = Step(count, of_run, of_old, still_open)
        self.above = step.renumber[of_old[self.above]]
        self.below = step.renumber[ending]
        self._held = held[still_open]
        return step
