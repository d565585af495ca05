"""Runs: the horizontal stretches of one class, and which of them touch from row to row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geohr.encoding import Bools, Bytes, Ints


@dataclass(frozen=True)
class Runs:
    """Maximal stretches of one traced class in a frame, in raster order.

    `start` and `stop` count vertices, not pixels: row * (width + 1) + column, so that a run at the
    end of a row never meets one at the start of the next. Ranges are [start, stop).
    """

    start: Ints
    stop: Ints
    label: Bytes
    """The class id."""
    row: Ints
    """Row in the frame."""

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
        runs: In raster order.
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
