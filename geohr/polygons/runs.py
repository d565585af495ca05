"""Runs, the horizontal stretches of one class, and what connects them.

Runs of successive rows are one object where they share a side, or meet at a corner through which
the contour of their class passes (a saddle).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geohr.encoding import NODATA, Bools, Bytes, Floats, Ints


@dataclass(frozen=True)
class Runs:
    """Maximal stretches of one traced class in a frame, in raster order.

    `start` and `stop` count vertices, not pixels: row * (width + 1) + column, so that a run at the
    end of a row never meets one at the start of the next. Ranges are [start, stop).
    """

    start: Ints
    stop: Ints
    label: Bytes
    """The class id of each run."""
    row: Ints
    """The row in the frame."""

    def at(self, vertex: Ints) -> Ints:
        """The index of the run that holds each pixel (given as row * (width + 1) + column)."""
        return np.searchsorted(self.start, vertex, side="right") - 1


def find_runs(frame: Bytes, change: Bools, traced: Bools) -> Runs:
    """Cut the rows of a frame into runs.

    Args:
        frame: `(row, col)` class ids with one untraced column on each side.
        change: `(row, width + 1)`, True where a pixel differs from its left neighbour.
        traced: `(256,)`, True for the class ids that are traced.
    """
    stride = change.shape[1]
    edges = np.flatnonzero(change)
    row = edges // stride
    flat = frame.reshape(-1)
    left = edges + row  # the padded frame is one column wider than the rows of vertices
    starts = traced[flat[left + 1]]
    stops = traced[flat[left]]
    return Runs(edges[starts], edges[stops], flat[left[starts] + 1], row[starts])


def touching(runs: Runs, stride: int, connectivity: int) -> tuple[Ints, Ints]:
    """Pairs (upper, lower) of runs of one class in successive rows that touch.

    Args:
        runs: The runs, in raster order.
        stride: Vertices in a row.
        connectivity: 4 for a shared side, 8 for a shared corner.
    """
    reach = 1 if connectivity == 8 else 0
    first = np.searchsorted(runs.stop, runs.start - stride - reach, side="right")
    last = np.searchsorted(runs.start, runs.stop - stride + reach, side="left")
    counts = np.maximum(last - first, 0)
    lower = np.repeat(np.arange(len(counts)), counts)
    upper = np.arange(len(lower)) + np.repeat(first - (np.cumsum(counts) - counts), counts)
    same = runs.label[upper] == runs.label[lower]
    return upper[same], lower[same]


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
    """The components after more nodes: after the runs of a frame, or after patches.

    Components of a step are numbered 0.. in the order of their first node.
    """

    count: int
    of_run: Ints
    """The component of each node, `(node,)`."""
    of_old: Ints
    """The component into which each formerly open one went, `(old,)`."""
    open: Bools
    """Whether each component may still grow, `(count,)`."""

    @property
    def of_node(self) -> Ints:
        """The component of each node, and then that of each formerly open one."""
        return np.concatenate([self.of_run, self.of_old])

    @property
    def renumber(self) -> Ints:
        """`(count,)` the number by which the next step knows an open component."""
        return np.cumsum(self.open) - 1


class Components:
    """Numbers the components of the frames' runs; holds those that are still open."""

    def __init__(self) -> None:
        # The open component of each run in the last row, `(run,)`, and how many are open.
        self._below = np.zeros(0, np.int64)
        self._open = 0

    def step(self, runs: Runs, pairs: tuple[Ints, Ints], last_row: int) -> Step:
        """Take the next frame, whose row 0 is the last row of the frame before.

        Args:
            runs: All runs of the frame.
            pairs: The pairs of runs that touch.
            last_row: The frame's last row.
        """
        carried = self._below
        first_run = np.zeros(self._open, np.int64)
        first_run[carried[::-1]] = np.arange(len(carried))[::-1]
        root = connected(
            len(runs.start),
            np.concatenate([pairs[0], first_run[carried]]),
            np.concatenate([pairs[1], np.arange(len(carried))]),
        )
        is_root = root == np.arange(len(root))
        of_run = (np.cumsum(is_root) - 1)[root]
        ending = of_run[np.searchsorted(runs.row, last_row) :]
        still_open = np.zeros(int(is_root.sum()), np.bool_)
        still_open[ending] = True
        step = Step(len(still_open), of_run, of_run[first_run], still_open)
        self._below, self._open = step.renumber[ending], int(still_open.sum())
        return step


@dataclass(frozen=True)
class Field:
    """The classes and probabilities of a frame."""

    frame: Bytes
    """`(row, col)` class ids with a column of nodata on each side."""
    scores: Bytes | None
    """`(class, row, col)` probability in 1/254; None puts vertices midway."""
    level: float
    """The probability that stands for the background, in 1/254."""
    background: int

    @property
    def stride(self) -> int:
        """The number of vertices in a row."""
        return int(self.frame.shape[1]) - 1

    def label(self, row: Ints, column: Ints) -> Bytes:
        """The class ids of pixels."""
        return self.frame[row, column + 1]

    def margin(self, first: Bytes, second: Bytes, row: Ints, column: Ints) -> Floats:
        """The lead of the first class over the second in each pixel; 0 beside nodata."""
        if self.scores is None:
            return np.zeros(len(row))
        inside = (first != NODATA) & (second != NODATA)
        lead = np.zeros(len(row))
        for sign, label in ((1, first), (-1, second)):
            value = np.full(len(row), self.level)
            known = np.flatnonzero(inside & (label != self.background))
            channel = label[known].astype(np.int64) - 1
            value[known] = self.scores[channel, row[known], column[known]]
            lead += sign * value
        return np.where(inside, lead, 0.0)


@dataclass(frozen=True)
class Candidates:
    """Vertices where an outline may turn, in raster order."""

    line: Ints
    """1 is between the frame's rows 0 and 1."""
    column: Ints
    around: Bytes
    """`(4, vertex)` classes of the pixels above left, above right, below left, below right."""

    @property
    def labels(self) -> list[int]:
        """The classes that occur around the vertices."""
        return np.flatnonzero(np.bincount(self.around.reshape(-1), minlength=256)).tolist()


def candidates(frame: Bytes, change: Bools) -> Candidates:
    """Vertices with a change both across and along."""
    below = frame[1:] != frame[:-1]
    turning = (below[:, 1:] | below[:, :-1]) & (change[1:] | change[:-1])
    vertex = np.flatnonzero(turning)
    line, column = np.divmod(vertex, change.shape[1])
    flat, width = frame.reshape(-1), frame.shape[1]
    corner = vertex + line
    around = np.stack([flat[corner + step] for step in (0, 1, width, width + 1)])
    return Candidates(line + 1, column, around)


@dataclass(frozen=True)
class Saddles:
    """Vertices where two classes meet corner to corner, and the class that is joined there."""

    vertex: Ints
    """Line * stride + column, ascending."""
    joined: Bytes

    @classmethod
    def none(cls) -> Saddles:
        """No class is joined anywhere."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.uint8))

    def joins(self, vertex: Ints, label: int) -> Bools:
        """Whether a class is joined through each of the given vertices."""
        if len(self.vertex) == 0:
            return np.zeros(len(vertex), np.bool_)
        place = np.minimum(np.searchsorted(self.vertex, vertex), len(self.vertex) - 1)
        return np.asarray((self.vertex[place] == vertex) & (self.joined[place] == label), np.bool_)


def find_saddles(field: Field, found: Candidates) -> Saddles:
    """Resolve every saddle of the frame by the mean of its four pixels.

    At a tie the background wins over a class, and the lower class over the higher.
    """
    above_left, above_right, below_left, below_right = found.around
    at = np.flatnonzero(
        (above_left == below_right) & (above_right == below_left) & (above_left != above_right)
    )
    line, column = found.line[at], found.column[at]
    falling, rising = above_left[at], above_right[at]
    low, high = np.minimum(falling, rising), np.maximum(falling, rising)
    swap = high == field.background
    low, high = np.where(swap, high, low), np.where(swap, low, high)
    # Beside the scene's edge and nodata nothing is joined: "nodata" is what goes through.
    lead = np.zeros(len(at))
    inside = np.flatnonzero((low != NODATA) & (high != NODATA))
    for row_step, column_step in ((-1, -1), (-1, 0), (0, -1), (0, 0)):
        lead[inside] += field.margin(
            high[inside], low[inside], line[inside] + row_step, column[inside] + column_step
        )
    joined = np.where(lead > 0, high, low)
    joined[(low == NODATA) | (high == NODATA)] = NODATA
    return Saddles(line * field.stride + column, joined)


def saddle_pairs(saddles: Saddles, field: Field, runs: Runs, traced: Bools) -> tuple[Ints, Ints]:
    """Pairs of runs that are joined through a saddle, as `touching` gives them."""
    through = np.flatnonzero(traced[saddles.joined])
    vertex, label = saddles.vertex[through], saddles.joined[through]
    line, column = np.divmod(vertex, field.stride)
    falling = field.label(line - 1, column - 1) == label
    above = vertex - field.stride - falling
    below = vertex - ~falling
    return runs.at(above), runs.at(below)
