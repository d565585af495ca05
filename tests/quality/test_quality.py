from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from geohr.encoding import NODATA, PROBABILITY_MAX
from geohr.stitching.mosaic import ProbabilityRows, classify
from geohr.stitching.seams import Disagreement, SeamMeter, SeamScore
from geohr.tiling.blocks import cut_blocks
from geohr.tiling.grid import Grid

SIDE, TILE = 1500, 256
GRID = Grid(SIDE, SIDE, TILE, 64)


def smooth(seed: int) -> NDArray[np.float64]:
    """Hills some ten pixels across, in [0.1, 0.9]."""
    random = np.random.default_rng(seed)
    field = random.random((SIDE, SIDE))
    for axis in (0, 1):
        for _ in range(3):
            field = sum(np.roll(field, shift, axis) for shift in range(-4, 5)) / 9
    return 0.1 + 0.8 * (field - field.min()) / np.ptp(field)


def tiled(field: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    """The same with every window multiplied by a factor of its own, the last one on top."""
    random = np.random.default_rng(1)
    result = field.copy()
    for window in GRID:
        inside = window.clip(SIDE, SIDE)
        place = (slice(inside.row, inside.row_stop), slice(inside.col, inside.col_stop))
        result[place] = field[place] * random.uniform(1 - strength, 1 + strength)
    return result.clip(0, 1)


def score(field: NDArray[np.float64], step: int = 400) -> SeamScore:
    probabilities = (field * PROBABILITY_MAX + 0.5).astype(np.uint8)[None]
    meter = SeamMeter(GRID)
    for start in range(0, SIDE, step):
        rows = ProbabilityRows(start, probabilities[:, start : start + step], 0)
        meter.add(rows, classify(rows.probabilities, 0.5))
    return meter.score()


@pytest.mark.parametrize("seed", range(3))
def test_a_result_without_seams_scores_about_one(seed: int) -> None:
    assert score(smooth(seed)).score == pytest.approx(1, abs=0.1)


def test_seams_are_seen_and_stronger_ones_more() -> None:
    field = smooth(0)
    faint, strong = score(tiled(field, 0.1)), score(tiled(field, 0.3))
    assert faint.score is not None
    assert strong.score is not None
    assert 1.3 < faint.score < strong.score
    assert strong.changes is not None
    assert strong.changes > 1.5


def test_the_score_does_not_depend_on_how_rows_come() -> None:
    field = tiled(smooth(2), 0.2)
    assert score(field, 1) == score(field, 97) == score(field, SIDE)


def test_one_window_has_no_lines() -> None:
    meter = SeamMeter(Grid(100, 100, 256, 64))
    rows = ProbabilityRows(0, np.full((1, 100, 100), 200, np.uint8), 0)
    meter.add(rows, np.ones((100, 100), np.uint8))
    assert meter.score().score is None


def test_pixels_without_data_do_not_count() -> None:
    field = smooth(0)
    probabilities = (field * PROBABILITY_MAX).astype(np.uint8)[None]
    probabilities[:, :, SIDE // 2 :] = NODATA
    meter = SeamMeter(GRID)
    meter.add(ProbabilityRows(0, probabilities, 0), classify(probabilities, 0.5))
    assert meter.score().score == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize(("height", "width"), [(300, 1100), (1100, 300), (64, 64), (90, 200)])
def test_disagreement_is_the_range_over_windows(height: int, width: int) -> None:
    grid = Grid(height, width, 64, 24)
    random = np.random.default_rng(3)
    lowest = np.full((height, width), 255, np.uint8)
    highest = np.zeros((height, width), np.uint8)
    blocks = cut_blocks(grid)
    meter = Disagreement(grid, blocks)
    found = []
    for block in blocks:
        for row in range(block.row, block.row_stop):
            for window in grid.row(row)[block.col : block.col_stop]:
                scores = random.random((2, 64, 64), np.float32)
                meter.add(window, np.ones((64, 64), bool), scores)
                inside = window.clip(height, width)
                level = (scores.max(axis=0) * PROBABILITY_MAX + 0.5).astype(np.uint8)
                level = level[
                    inside.row - window.row : inside.row_stop - window.row,
                    inside.col - window.col : inside.col_stop - window.col,
                ]
                place = (slice(inside.row, inside.row_stop), slice(inside.col, inside.col_stop))
                lowest[place] = np.minimum(lowest[place], level)
                highest[place] = np.maximum(highest[place], level)
        rows = meter.complete(block)
        if rows is not None:
            found.append(rows)
    assert (np.concatenate(found) == highest - lowest).all()
