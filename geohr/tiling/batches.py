"""Windows of a scene, read and gathered into batches of a fixed shape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from geohr.encoding import Batch
from geohr.geobox import Window
from geohr.scene import Scene, SceneReader, Tile
from geohr.tiling.blocks import Block, windows_extent
from geohr.tiling.grid import Grid
from geohr.tiling.normalize import Normalizer, check_tile
from geohr.tiling.rows import RowBuffer


@dataclass(frozen=True)
class BlockTile:
    """A tile, and the block that its window belongs to.

    Attributes:
        block: The block.
        tile: The tile.
    """

    block: Block
    tile: Tile


@dataclass(frozen=True)
class WindowBatch:
    """The windows that are predicted together, and the blocks that are complete after them.

    Attributes:
        tiles: The windows in the order of the batch; each has a valid pixel.
        complete: Blocks whose last window is in this batch or an earlier one, in order.
        read: The number of windows read so far, including those without a valid pixel.
    """

    tiles: tuple[BlockTile, ...]
    complete: tuple[Block, ...]
    read: int


def read_batches(
    scene: Scene, grid: Grid, blocks: Iterable[Block], normalizer: Normalizer, *, batch: int
) -> Iterator[WindowBatch]:
    """Read the windows of some blocks, in batches of windows with a valid pixel."""
    with SceneReader(scene) as reader:
        yield from batches_of(read_downwards(reader, grid, blocks), scene, normalizer, batch=batch)


def batches_of(
    blocks: Iterable[tuple[Block, Iterable[Tile]]],
    scene: Scene,
    normalizer: Normalizer,
    *,
    batch: int,
) -> Iterator[WindowBatch]:
    """Gather the tiles of some blocks into batches of tiles with a valid pixel."""
    held: list[BlockTile] = []
    complete: list[Block] = []
    read = 0
    for block, tiles in blocks:
        for tile in tiles:
            read += 1
            if tile.valid.any():
                check_tile(tile, scene, normalizer)
                held.append(BlockTile(block, tile))
            if len(held) == batch:
                yield WindowBatch(tuple(held), tuple(complete), read)
                held, complete = [], []
        complete.append(block)
    yield WindowBatch(tuple(held), tuple(complete), read)


def read_downwards(
    reader: SceneReader, grid: Grid, blocks: Iterable[Block]
) -> Iterator[tuple[Block, Iterable[Tile]]]:
    """Read the tiles of blocks; if the blocks go down the scene, each pixel is read once."""
    across = grid.shape[1]
    band = RowBuffer(reader, grid)
    for block in blocks:
        rows = range(block.row, block.row_stop)
        if len(rows) > 1 and block.col_stop - block.col < across:
            yield block, read_block(reader, grid, block)
        else:
            columns = (block.col, block.col_stop)
            yield block, chain.from_iterable(band.tiles(row, *columns) for row in rows)


def read_block(reader: SceneReader, grid: Grid, block: Block) -> Iterator[Tile]:
    """Read the tiles of one block, row by row, and no pixel that they do not touch."""
    whole = windows_extent(grid, block)
    held = reader.read(whole)
    for row in grid.row_starts[block.row : block.row_stop]:
        for col in grid.col_starts[block.col : block.col_stop]:
            rows = slice(row - whole.row, row - whole.row + grid.tile)
            cols = slice(col - whole.col, col - whole.col + grid.tile)
            pixels, valid = held.pixels[:, rows, cols].copy(), held.valid[rows, cols].copy()
            yield Tile(Window(row, col, grid.tile, grid.tile), pixels, valid)


def normalise(
    waiting: WindowBatch, normalizer: Normalizer, *, batch: int, out: Batch | None
) -> Batch:
    """Normalise the pixels of tiles into `batch` windows, the last ones filled up with zeros.

    An earlier batch is overwritten where `out` is one.
    """
    if out is None:
        out = np.empty((batch, *waiting.tiles[0].tile.pixels.shape), np.float32)
    out[len(waiting.tiles) :] = 0
    for each, target in zip(waiting.tiles, out, strict=False):
        normalizer.apply(each.tile.pixels, each.tile.valid, target)
    return out
