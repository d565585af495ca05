"""What is counted over the pixels of an object while its rows pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geohr.polygons.components import Step
from geohr.polygons.runs import Bools, Bytes, Ints, Runs

Column = Ints | Bytes | Bools


@dataclass(frozen=True)
class Statistics:
    """One row an object."""

    label: Bytes
    """Class id."""
    first: Ints
    """First pixel in raster order, as row * width + column of the scene."""
    bottom: Ints
    """Last row."""
    pixels: Ints
    score_sum: Ints
    """Sum of the class's probability in 1/254."""
    score_min: Bytes
    at_nodata: Bools
    """Whether a pixel of it shares a side with nodata or the scene's edge."""

    @classmethod
    def none(cls) -> Statistics:
        """Of no object."""
        whole, small = np.zeros(0, np.int64), np.zeros(0, np.uint8)
        return cls(small, whole, whole, whole, whole, small, np.zeros(0, np.bool_))

    def __len__(self) -> int:
        """How many there are."""
        return len(self.label)

    def take(self, objects: Ints | Bools) -> Statistics:
        """The given objects, in the given order."""
        return Statistics(
            self.label[objects],
            self.first[objects],
            self.bottom[objects],
            self.pixels[objects],
            self.score_sum[objects],
            self.score_min[objects],
            self.at_nodata[objects],
        )


@dataclass(frozen=True)
class RunScores:
    """What each run of a frame adds; all zero for the carried row."""

    total: Ints
    least: Bytes


def no_scores(runs: Runs) -> RunScores:
    """For class rows that come without probabilities."""
    return RunScores(np.zeros(len(runs.start), np.int64), np.zeros(len(runs.start), np.uint8))


def run_scores(runs: Runs, probabilities: Bytes) -> RunScores:
    """Sum and minimum of the own class's probability over each run.

    Args:
        runs: Runs of the frame; row 0 is the carried row, already counted.
        probabilities: `(class, row, col)` of the frame's rows from 1 on.
    """
    classes, _, width = probabilities.shape
    total = np.zeros(len(runs.start), np.int64)
    least = np.full(len(runs.start), 255, np.uint8)
    for channel in range(classes):
        own = np.flatnonzero((runs.label == channel + 1) & (runs.row > 0))
        if len(own) == 0:
            continue
        # From vertices (row of the frame, width + 1 a row) to pixels of the probabilities.
        back = runs.row[own] + width
        spans = np.stack([runs.start[own] - back, runs.stop[own] - back], axis=1).reshape(-1)
        flat = probabilities[channel].reshape(-1)
        if spans[-1] == len(flat):
            spans = spans[:-1]
        total[own] = np.add.reduceat(flat, spans, dtype=np.uint32)[::2]
        least[own] = np.minimum.reduceat(flat, spans)[::2]
    return RunScores(total, least)


def count(
    old: Statistics,
    step: Step,
    runs: Runs,
    *,
    scores: RunScores,
    at_nodata: Bools,
    top: int,
    width: int,
) -> Statistics:
    """The statistics of a step's objects, from those left open before and the frame's runs.

    Args:
        old: Of the objects that the last frame left open.
        step: The frame's components.
        runs: The frame's runs.
        scores: What each run adds.
        at_nodata: `(run,)` whether it lies beside a pixel without data.
        top: The scene's row that is row 0 of the frame.
        width: Columns of the scene.
    """
    fresh = runs.row > 0
    of_run = step.of_run[fresh]
    start, row = runs.start[fresh], runs.row[fresh]
    label = np.zeros(step.count, np.uint8)
    label[step.of_run] = runs.label
    first = np.full(step.count, np.iinfo(np.int64).max)
    first[of_run[::-1]] = (start - row + top * width)[::-1]
    np.minimum.at(first, step.of_old, old.first)
    bottom = np.zeros(step.count, np.int64)
    bottom[step.of_old] = top
    bottom[of_run] = row + top
    pixels = _add(step, of_run, (runs.stop - runs.start)[fresh], old.pixels)
    score_sum = _add(step, of_run, scores.total[fresh], old.score_sum)
    score_min = np.full(step.count, 255, np.uint8)
    np.minimum.at(score_min, of_run, scores.least[fresh])
    np.minimum.at(score_min, step.of_old, old.score_min)
    beside = np.zeros(step.count, np.bool_)
    beside[step.of_run[at_nodata]] = True
    beside[step.of_old[old.at_nodata]] = True
    return Statistics(label, first, bottom, pixels, score_sum, score_min, beside)


def _add(step: Step, of_run: Ints, values: Ints, old: Ints) -> Ints:
    """Totals by object. The sums stay below 2**53, so that counting in floats is exact."""
    total = np.bincount(of_run, weights=values, minlength=step.count)
    return (total + np.bincount(step.of_old, weights=old, minlength=step.count)).astype(np.int64)
