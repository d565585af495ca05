"""What is counted over the pixels of an object while its rows pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from geohr.encoding import Bools, Bytes, Ints
from geohr.polygons.components import Step
from geohr.polygons.runs import Runs

NOWHERE = np.iinfo(np.int64).max
"""The first pixel of what has none yet."""


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

    def take(self, objects: Ints | Bools | slice) -> Statistics:
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


def concatenated(parts: Sequence[Statistics]) -> Statistics:
    """All rows of all parts, in order."""
    columns = [[getattr(part, each.name) for part in parts] for each in fields(Statistics)]
    return Statistics(*map(np.concatenate, columns)) if parts else Statistics.none()


@dataclass(frozen=True)
class RunScores:
    """What each run of a frame adds; nothing for the carried row."""

    total: Ints
    least: Bytes


def no_scores(runs: Runs) -> RunScores:
    """For class rows that come without probabilities."""
    least = np.where(runs.row > 0, 0, 255).astype(np.uint8)
    return RunScores(np.zeros(len(runs.start), np.int64), least)


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


def of_runs(runs: Runs, *, scores: RunScores, at_nodata: Bools, top: int, width: int) -> Statistics:
    """What each run of a frame adds to its object.

    Args:
        runs: The frame's runs; those of row 0, the carried row, have been counted.
        scores: What each run adds.
        at_nodata: `(run,)` whether it lies beside a pixel without data.
        top: The scene's row that is row 0 of the frame.
        width: Columns of the scene.
    """
    fresh = runs.row > 0
    return Statistics(
        label=runs.label,
        first=np.where(fresh, runs.start - runs.row + top * width, NOWHERE),
        bottom=runs.row + top,
        pixels=np.where(fresh, runs.stop - runs.start, 0),
        score_sum=scores.total,
        score_min=scores.least,
        at_nodata=at_nodata,
    )


def combine(step: Step, new: Statistics, old: Statistics) -> Statistics:
    """The statistics of a step's objects.

    Args:
        step: Which objects are one.
        new: Of the step's nodes.
        old: Of the objects that were left open before.
    """
    label = np.zeros(step.count, np.uint8)
    first = np.full(step.count, NOWHERE)
    bottom = np.full(step.count, -1)
    score_min = np.full(step.count, 255, np.uint8)
    beside = np.zeros(step.count, np.bool_)
    for of_each, each in ((step.of_old, old), (step.of_run, new)):
        label[of_each] = each.label
        np.minimum.at(first, of_each, each.first)
        np.maximum.at(bottom, of_each, each.bottom)
        np.minimum.at(score_min, of_each, each.score_min)
        beside[of_each[each.at_nodata]] = True
    pixels = _add(step, new.pixels, old.pixels)
    score_sum = _add(step, new.score_sum, old.score_sum)
    return Statistics(label, first, bottom, pixels, score_sum, score_min, beside)


def _add(step: Step, new: Ints, old: Ints) -> Ints:
    """Totals by object. The sums stay below 2**53, so that counting in floats is exact."""
    total = np.bincount(step.of_run, weights=new, minlength=step.count)
    return (total + np.bincount(step.of_old, weights=old, minlength=step.count)).astype(np.int64)
