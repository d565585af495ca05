from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from geohr.encoding import NODATA, PROBABILITY_MAX
from geohr.geobox import Window
from geohr.stitching.mosaic import classify
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
        rows = probabilities[:, start : start + step]
        meter.add(rows, classify(rows, 0.5))
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


def test_a_part_of_a_scene_is_counted_as_the_whole_scene_without_data_around_it() -> None:
    part = Window(100, 90, 800, 901)
    probabilities = (tiled(smooth(0), 0.2) * PROBABILITY_MAX + 0.5).astype(np.uint8)[None]
    inside = probabilities[:, 100:900, 90:991]
    around = np.full_like(probabilities, NODATA)
    around[:, 100:900, 90:991] = inside
    whole, cropped = SeamMeter(GRID), SeamMeter(GRID, part)
    whole.add(around, classify(around, 0.5))
    for start in range(0, 800, 300):
        rows = inside[:, start : start + 300]
        cropped.add(rows, classify(rows, 0.5))
    assert (cropped.counts == whole.counts).all()
    assert cropped.counts.min() > 0


def test_one_window_has_no_lines() -> None:
    meter = SeamMeter(Grid(100, 100, 256, 64))
    meter.add(np.full((1, 100, 100), 200, np.uint8), np.ones((100, 100), np.uint8))
    assert meter.score().score is None


def test_pixels_without_data_do_not_count() -> None:
    field = smooth(0)
    probabilities = (field * PROBABILITY_MAX).astype(np.uint8)[None]
    probabilities[:, :, SIDE // 2 :] = NODATA
    meter = SeamMeter(GRID)
    meter.add(probabilities, classify(probabilities, 0.5))
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
