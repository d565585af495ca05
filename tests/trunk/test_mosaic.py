from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geohr.encoding import NODATA, PROBABILITY_MAX
from geohr.errors import UsageError
from geohr.geobox import Window
from geohr.stitching.mosaic import SCORE_MAX, Mosaic, classify
from geohr.stitching.weights import BLENDS
from geohr.tiling.grid import Grid

SIZES = [1, 2, 31, 64, 65, 129, 300]


def run(
    grid: Grid,
    scores: dict[int, NDArray[np.float32]],
    valid: NDArray[np.bool_],
    *,
    blend: str = "hann",
    order: int = 1,
) -> NDArray[np.uint8]:
    """All finished rows; windows of a grid row are added in the given order."""
    classes = next(iter(scores.values())).shape[0]
    mosaic = Mosaic(grid.height, grid.width, classes=classes, reach=grid.tile, blend=blend)
    across = grid.shape[1]
    rows = []
    for row in range(grid.shape[0]):
        for index in range(row * across, (row + 1) * across)[::order]:
            window = grid[index]
            inside = window.clip(grid.height, grid.width)
            held = np.zeros((grid.tile, grid.tile), bool)
            held[
                inside.row - window.row : inside.row_stop - window.row,
                inside.col - window.col : inside.col_stop - window.col,
            ] = valid[inside.row : inside.row_stop, inside.col : inside.col_stop]
            mosaic.add(window, held, scores[index])
        rows.append(mosaic.finish(grid.finished(row)[1]).probabilities)
    return np.concatenate(rows, axis=1)


@pytest.mark.parametrize("height", SIZES)
@pytest.mark.parametrize("width", SIZES)
def test_a_constant_stays_constant(height: int, width: int) -> None:
    grid = Grid(height, width, 64, 16)
    score = np.full((1, 64, 64), 0.7, np.float32)
    found = run(grid, dict.fromkeys(range(len(grid)), score), np.ones((height, width), bool))
    assert found.shape == (1, height, width)
    assert (found == round(0.7 * PROBABILITY_MAX)).all()


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 120),
    st.integers(1, 120),
    st.integers(0, 24),
    st.sampled_from(sorted(BLENDS)),
)
@example(0, 33, 33, 24, "flat")
def test_it_is_the_weighted_mean_and_the_order_does_not_matter(
    seed: int, height: int, width: int, overlap: int, blend: str
) -> None:
    rng = np.random.default_rng(seed)
    grid = Grid(height, width, 32, overlap)
    scores = {index: rng.random((2, 32, 32), np.float32) for index in range(len(grid))}
    valid = rng.random((height, width)) < 0.9
    found = run(grid, scores, valid, blend=blend)
    assert (found == run(grid, scores, valid, blend=blend, order=-1)).all()

    profile = np.maximum(np.rint(BLENDS[blend](32) * 255), 1)
    total, weight = np.zeros((2, height, width)), np.zeros((height, width))
    for index, window in enumerate(grid):
        inside = window.clip(height, width)
        where = (slice(inside.row, inside.row_stop), slice(inside.col, inside.col_stop))
        part = (
            slice(inside.row - window.row, inside.row_stop - window.row),
            slice(inside.col - window.col, inside.col_stop - window.col),
        )
        total[:, *where] += (scores[index] * np.outer(profile, profile))[:, *part]
        weight[where] += np.outer(profile, profile)[part]
    expected = total / weight * PROBABILITY_MAX
    rounding = 0.5 + 0.5 * PROBABILITY_MAX / SCORE_MAX + 1e-3
    assert (found[:, ~valid] == NODATA).all()
    assert np.abs(found[:, valid] - expected[:, valid]).max(initial=0) <= rounding


def test_the_largest_sum_fits() -> None:
    """Sixteen windows over one pixel at three quarters overlap, all certain."""
    grid = Grid(64, 64, 64, 48)
    score = np.ones((1, 64, 64), np.float32)
    found = run(grid, dict.fromkeys(range(len(grid)), score), np.ones((64, 64), bool), blend="flat")
    assert (found == PROBABILITY_MAX).all()


def probabilities(*values: float) -> NDArray[np.uint8]:
    return np.array([[[round(value * PROBABILITY_MAX)]] for value in values], np.uint8)


@pytest.mark.parametrize(
    ("scores", "threshold", "expected"),
    [
        ((0.5,), 0.5, 1),
        ((0.49,), 0.5, 0),
        ((0.3,), 0.25, 1),
        ((0.3, 0.6), None, 2),
        ((0.3, 0.2), None, 0),
        ((0.4, 0.35), None, 1),
        ((0.3, 0.6), 0.7, 0),
    ],
)
def test_classes(scores: tuple[float, ...], threshold: float | None, expected: int) -> None:
    assert classify(probabilities(*scores), threshold).item() == expected


def test_no_data_is_no_class() -> None:
    held = np.full((2, 1, 1), NODATA, np.uint8)
    assert classify(held, None).item() == NODATA
    assert classify(held[:1], 0.5).item() == NODATA


@pytest.mark.parametrize(("windows", "fits"), [(16, True), (17, False)])
def test_more_windows_than_can_be_summed_are_refused(windows: int, fits: bool) -> None:
    mosaic = Mosaic(32, 32, classes=1, reach=32, blend="flat")
    score, valid = np.ones((1, 32, 32), np.float32), np.ones((32, 32), bool)
    for _ in range(windows):
        mosaic.add(Window(0, 0, 32, 32), valid, score)
    if fits:
        assert (mosaic.finish(32).probabilities == PROBABILITY_MAX).all()
    else:
        with pytest.raises(UsageError, match="too many windows or tiles lie over one place"):
            mosaic.finish(32)


def test_a_window_without_a_valid_pixel_there_has_no_say() -> None:
    mosaic = Mosaic(32, 32, classes=1, reach=32, blend="hann")
    window, nothing = Window(0, 0, 32, 32), np.zeros((32, 32), bool)
    nothing[:, :16] = True
    mosaic.add(window, np.ones((32, 32), bool), np.full((1, 32, 32), 0.8, np.float32))
    mosaic.add(window, nothing, np.full((1, 32, 32), 0.4, np.float32) * nothing)
    found = mosaic.finish(32).probabilities[0]
    assert (found[:, 16:] == round(0.8 * PROBABILITY_MAX)).all()
    assert (found[:, :16] == round(0.6 * PROBABILITY_MAX)).all()
