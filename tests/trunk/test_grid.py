from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geohr.errors import UsageError
from geohr.geobox import Window
from geohr.stitching.weights import BLENDS, WEIGHT_MAX, weights
from geohr.tiling.grid import DEEPEST, Grid


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    tile = draw(st.integers(1, 96))
    overlap = draw(st.integers(0, min(tile - 1, tile * 3 // 4)))
    step = draw(st.integers(1, tile - overlap))
    return Grid(draw(st.integers(1, 400)), draw(st.integers(1, 400)), tile, overlap, step=step)


@given(grids())
def test_every_pixel_is_covered(grid: Grid) -> None:
    covered = np.zeros((grid.height, grid.width), int)
    for window in grid:
        inside = window.clip(grid.height, grid.width)
        covered[inside.row : inside.row_stop, inside.col : inside.col_stop] += 1
    assert covered.min() >= 1


@given(grids())
def test_windows_have_one_size_and_overlap_enough(grid: Grid) -> None:
    assert {(window.height, window.width) for window in grid} == {(grid.tile, grid.tile)}
    for starts in (grid.row_starts, grid.col_starts):
        steps = np.diff(starts)
        assert (steps > 0).all()
        assert (steps <= grid.tile - grid.overlap).all()


@given(grids())
def test_pixels_at_the_edge_lie_as_deep_in_a_window_as_others(grid: Grid) -> None:
    margin = grid.overlap // 2
    before, beyond = -grid.row_starts[0], grid.row_starts[-1] + grid.tile - grid.height
    if grid.height + 2 * margin + 2 * grid.step <= grid.tile or len(grid.row_starts) > 1:
        assert before >= margin
        assert beyond >= margin
    if len(grid.row_starts) > 1 and (
        len(grid.row_starts) <= DEEPEST or grid.overlap < grid.tile // 2
    ):
        assert before < margin + grid.step
        assert beyond < margin + grid.step


@given(grids())
def test_no_pixel_lies_in_more_windows_than_can_be_summed(grid: Grid) -> None:
    """Up to 3/4 overlap, as far as the lattice allows."""
    if (grid.tile - grid.overlap) // grid.step * grid.step * DEEPEST >= grid.tile:
        for starts in (grid.row_starts, grid.col_starts):
            assert all(np.subtract(starts[DEEPEST:], starts[:-DEEPEST]) >= grid.tile)


@given(grids())
def test_a_side_that_fits_into_one_window_gets_one(grid: Grid) -> None:
    assert (len(grid.row_starts) == 1) == (grid.height <= grid.tile) or grid.overlap == 0
    if grid.height <= grid.tile:
        assert len(grid.row_starts) == 1
        before, beyond = -grid.row_starts[0], grid.row_starts[0] + grid.tile - grid.height
        assert min(before, beyond) >= 0


@pytest.mark.parametrize("side", [384, 385, 448, 500, 512])
def test_a_scene_of_one_tile_is_one_window(side: int) -> None:
    assert len(Grid(side, side, 512, 128, step=32)) == 1
    assert len(Grid(513, 513, 512, 128, step=32)) == 4


@given(grids())
def test_windows_begin_on_the_lattice(grid: Grid) -> None:
    assert not np.mod([*grid.row_starts, *grid.col_starts], grid.step).any()


@given(grids())
def test_there_are_no_more_windows_than_needed(grid: Grid) -> None:
    """One less, at the largest distance that the lattice and the overlap allow, would not do."""
    count = len(grid.row_starts)
    farthest = (grid.tile - grid.overlap) // grid.step * grid.step
    least = -(-(grid.overlap // 2) // grid.step) * grid.step
    reach = -least + (count - 2) * farthest + grid.tile
    assert count == 1 or reach < grid.height + grid.overlap // 2


@given(grids())
def test_rows_are_finished_once_and_in_order(grid: Grid) -> None:
    spans = [grid.finished(index) for index in range(grid.shape[0])]
    assert spans[0][0] == 0
    assert spans[-1][1] == grid.height
    assert all(above[1] == below[0] for above, below in pairwise(spans))
    for index, (_, stop) in enumerate(spans[:-1]):
        assert all(window.row >= stop for window in grid.row(index + 1)) or stop == 0


@given(grids())
def test_it_is_a_sequence(grid: Grid) -> None:
    windows = list(grid)
    assert len(windows) == len(grid)
    assert [grid[index] for index in range(len(grid))] == windows
    assert grid[-1] == windows[-1]
    with pytest.raises(IndexError):
        grid[len(grid)]


@given(st.integers(1, 300), st.integers(1, 300))
def test_without_a_margin_windows_lie_inside_a_scene_that_is_larger(
    height: int, width: int
) -> None:
    for window in Grid(height, width, 32, 8, margin=0):
        assert height < 32 or 0 <= window.row <= height - 32
        assert width < 32 or 0 <= window.col <= width - 32


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("tile", [1, 2, 33, 512])
def test_weights_are_never_zero_and_symmetric(blend: str, tile: int) -> None:
    profile = weights(blend, tile)
    assert profile.min() >= 1
    assert profile.max() <= WEIGHT_MAX
    assert (profile == profile[::-1]).all()


def test_hann_falls_to_the_sides() -> None:
    profile = weights("hann", 64).astype(int)
    assert (np.diff(profile[:32]) >= 0).all()
    assert profile[0] < profile[31] / 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5, 8, 0), "at least 1 x 1 pixels; got 0 x 5"),
        ((5, 5, 0, 0), "tile must be at least 1 pixel; got 0"),
        ((5, 5, 8, 8), r"overlap must be in \[0, tile=8\); got 8"),
        ((5, 5, 8, 4, None, 5), r"step must be in \[1, tile - overlap=4\]; got 5"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Grid(*arguments)


def test_an_empty_window_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 x 1"):
        Window(0, 0, 0, 4)
