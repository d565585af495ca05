"""Connected components of runs, carried from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geohr.polygons.runs import Bools, Ints, Runs


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
    """What one frame did to the components.

    Components of a step are numbered 0.. in the order of their first run in the frame.
    """

    count: int
    of_run: Ints
    """`(run,)` the component of each run of the frame."""
    of_old: Ints
    """`(old,)` what became of each component that the last frame left open."""
    open: Bools
    """`(count,)` True where a run lies in the frame's last row."""

    @property
    def renumber(self) -> Ints:
        """`(count,)` the number by which the next frame knows an open component."""
        return np.cumsum(self.open) - 1


class Components:
    """Numbers the components of the frames' runs; holds those that are still open."""

    def __init__(self) -> None:
        self._carried = np.zeros(0, np.int64)
        self._open = 0

    def step(self, runs: Runs, pairs: tuple[Ints, Ints], last_row: int) -> Step:
        """Take the next frame, whose row 0 is the last row of the frame before.

        Args:
            runs: All runs of the frame.
            pairs: The pairs of runs that touch.
            last_row: The frame's last row.
        """
        carried = self._carried
        first_run = np.zeros(self._open, np.int64)
        first_run[carried[::-1]] = np.arange(len(carried))[::-1]
        root = connected(
            len(runs.start),
            np.concatenate([pairs[0], first_run[carried]]),
            np.concatenate([pairs[1], np.arange(len(carried))]),
        )
        is_root = root == np.arange(len(root))
        of_run = (np.cumsum(is_root) - 1)[root]
        count = int(is_root.sum())
        ending = of_run[np.searchsorted(runs.row, last_row) :]
        still_open = np.zeros(count, np.bool_)
        still_open[ending] = True
        step = Step(count, of_run, of_run[first_run], still_open)
        self._carried = step.renumber[ending]
        self._open = int(still_open.sum())
        return step
