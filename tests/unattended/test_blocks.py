"""A scene cut into blocks is the scene in one piece."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geohr.inference.checkpoint import from_arrays, to_arrays
from geohr.stitching.blocks import Assembler, BlockMosaic
from geohr.stitching.mosaic import Mosaic
from geohr.tiling import blocks
from geohr.tiling.blocks import Block, cut_blocks
from geohr.tiling.grid import Grid

Scores = list[tuple[NDArray[np.bool_], NDArray[np.float32]] | None]


def random_scores(grid: Grid, classes: int, seed: int) -> Scores:
    """Validity and scores of each window; some windows have none."""
    chance = np.random.default_rng(seed)
    side = grid.tile
    return [
        None
        if chance.random() < 0.2
        else (chance.random((side, side)) < 0.9, chance.random((classes, side, side), np.float32))
        for _ in grid
    ]


def in_one_piece(grid: Grid, scores: Scores, classes: int) -> NDArray[np.uint8]:
    mosaic = Mosaic(grid.height, grid.width, classes=classes, reach=grid.height, blend="hann")
    for window, known in zip(grid, scores, strict=True):
        if known is not None:
            mosaic.add(window, *known)
    return mosaic.finish(grid.height).probabilities


def in_blocks(
    grid: Grid, scores: Scores, classes: int, cut: tuple[Block, ...]
) -> NDArray[np.uint8]:
    across = grid.shape[1]
    assembler = Assembler(grid, classes=classes)
    found: list[NDArray[np.uint8]] = []
    windows = 0
    for block in cut:
        mosaic = BlockMosaic(grid, block, classes=classes, blend="hann")
        for row in range(block.row, block.row_stop):
            for col in range(block.col, block.col_stop):
                known = scores[row * across + col]
                if known is not None:
                    mosaic.add(grid[row * across + col], *known)
        kept = from_arrays(to_arrays(mosaic.scores()))
        rows = assembler.add(block, kept)
        if rows is not None:
            assert rows.start == sum(each.shape[1] for each in found)
            found.append(rows.probabilities)
            windows += rows.windows
    assert windows == sum(known is not None for known in scores)
    return np.concatenate(found, axis=1)


def rectangles(grid: Grid, rows: int, cols: int) -> tuple[Block, ...]:
    """Blocks of so many windows down and across."""
    down, across = grid.shape
    places = [(row, col) for row in range(0, down, rows) for col in range(0, across, cols)]
    return tuple(
        Block(index, row, min(row + rows, down), col, min(col + cols, across))
        for index, (row, col) in enumerate(places)
    )


@settings(max_examples=40)
@given(
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    overlap=st.sampled_from([0, 4, 8, 16, 24]),
    rows=st.integers(1, 4),
    cols=st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_any_cut_gives_the_same_bytes(
    height: int, width: int, overlap: int, rows: int, cols: int, seed: int
) -> None:
    grid = Grid(height, width, 32, overlap)
    scores = random_scores(grid, 2, seed)
    expected = in_one_piece(grid, scores, 2)
    np.testing.assert_array_equal(
        in_blocks(grid, scores, 2, rectangles(grid, rows, cols)), expected
    )


@settings(max_examples=20)
@given(height=st.integers(1, 300), width=st.integers(1, 900), overlap=st.sampled_from([0, 8, 16]))
def test_blocks_have_each_window_once_in_order(height: int, width: int, overlap: int) -> None:
    grid = Grid(height, width, 32, overlap)
    across = grid.shape[1]
    cut = cut_blocks(grid)
    order = [
        row * across + col
        for block in cut
        for row in range(block.row, block.row_stop)
        for col in range(block.col, block.col_stop)
    ]
    assert order == list(range(len(grid)))
    assert [block.index for block in cut] == list(range(len(cut)))
    assert max(map(len, cut)) <= blocks.BLOCK_WINDOWS


@pytest.mark.parametrize("tile", [32, 512, 4096, 8192])
def test_a_block_is_a_small_part_of_a_large_scene(tile: int) -> None:
    grid = Grid(40_000, 40_000, tile, tile // 4)
    cut = cut_blocks(grid)
    assert len(cut) > 20
    assert all(len(block) * tile**2 <= blocks.BLOCK_PIXELS for block in cut if len(block) > 1)
