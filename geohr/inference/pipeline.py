"""A scene to finished rows: the one loop that ties tiler, predictor and mosaic together.

Reading and normalising, predicting, and summing run at the same time, each in its own thread.
Windows come in the grid's order and are summed block by block; a block that is known already is
neither read nor predicted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geohr._runtime.stop import Stop, interrupted
from geohr._runtime.threads import Stages, mapped
from geohr.encoding import Batch
from geohr.engines.predictor import Predictor
from geohr.scene import Scene, SceneReader
from geohr.stitching.blocks import Assembler, BlockMosaic, BlockScores, Spare
from geohr.stitching.mosaic import ProbabilityRows
from geohr.stitching.seams import Disagreement
from geohr.tiling.batches import WindowBatch, batches_of, normalise, read_batches, read_block
from geohr.tiling.blocks import Block, BlockSize, cut_blocks
from geohr.tiling.grid import Grid
from geohr.tiling.normalize import Normalizer

# A function that is called with the windows done and the windows in all.
Progress = Callable[[int, int], None]
# Takes the next rows of a raster.
WriteRows = Callable[[NDArray[np.uint8]], None]


class BlockStore(Protocol):
    """A store of finished blocks, so that another run need not predict them again."""

    @property
    def finished(self) -> frozenset[int]:
        """Indices of the blocks that are kept."""

    def begin(self, block: Block) -> None:
        """Take note that a block's windows are being read."""

    def save(self, block: Block, scores: BlockScores) -> None:
        """Store a block."""

    def load(self, block: Block) -> BlockScores:
        """Return a stored block."""


class NoStore:
    """A store that keeps nothing."""

    finished: frozenset[int] = frozenset()

    def begin(self, block: Block) -> None:
        """Nothing."""

    def save(self, block: Block, scores: BlockScores) -> None:
        """Nothing."""

    def load(self, block: Block) -> BlockScores:
        """Never called, for nothing is kept."""
        raise KeyError(block.index)


def predict_rows(
    scene: Scene,
    grid: Grid,
    predictor: Predictor,
    *,
    normalizer: Normalizer,
    classes: int,
    blend: str,
    block_size: BlockSize | None = None,
    progress: Progress | None = None,
    store: BlockStore | None = None,
    stop: Stop | None = None,
    disagreement: WriteRows | None = None,
) -> Generator[ProbabilityRows]:
    """The probabilities of a scene, top to bottom, each row once.

    Close it where it is not taken to its end: several threads work ahead of it.

    Args:
        scene: The scene to read.
        grid: How it is cut into windows.
        predictor: Scores of windows.
        normalizer: From the scene's values to the network's.
        classes: Channels of the scores.
        blend: A name in `geohr.stitching.weights.BLENDS`.
        block_size: The size of blocks; by default such that the scene is read downwards.
        progress: Called after each batch.
        store: Keeps finished blocks, and has those of an earlier run.
        stop: When requested, the blocks in hand are finished and no other is begun.
        disagreement: Given rows `(row, col)` of `Disagreement`, top to bottom; for runs without a
            store, as a block that is kept has no scores by window.

    Raises:
        InputError: When the scene cannot be read or its values are out of the card's range.
        InterruptedRunError: When `stop` was requested before the last block was begun.
    """
    kept = store or NoStore()
    stop = stop or Stop()
    blocks = cut_blocks(grid, block_size)
    tasks = [block for block in blocks if block.index not in kept.finished]

    def begun() -> Iterator[Block]:
        for block in tasks:
            if stop.requested:
                return
            kept.begin(block)
            yield block

    with Stages() as stages:
        batches = stages.ahead(
            read_batches(scene, grid, begun(), normalizer, batch=predictor.batch)
        )
        scored: Iterator[tuple[WindowBatch, Batch | None]]
        scored = stages.ahead(score_batches(batches, predictor, normalizer, stop))
        if disagreement is not None:
            scored = compare(scored, Disagreement(grid, blocks), disagreement)
        told = report(scored, progress, known=len(grid) - sum(map(len, tasks)), total=len(grid))
        spare = Spare(grid, blocks)
        summed = stages.ahead(
            sum_blocks(told, grid, classes=classes, blend=blend, spare=spare), depth=1
        )
        yield from stages.ahead(join(blocks, summed, grid, kept, classes=classes), depth=1)


def predict_block(
    reader: SceneReader,
    grid: Grid,
    block: Block,
    predictor: Predictor,
    *,
    normalizer: Normalizer,
    classes: int,
    blend: str,
) -> BlockScores:
    """Predict one block in the calling thread, with the result that `predict_rows` would have.

    The arguments are those of `predict_rows`, with an open scene.

    Raises:
        InputError: When the scene cannot be read or its values are out of the card's range.
    """
    mosaic = BlockMosaic(grid, block, classes=classes, blend=blend)
    tiles = [(block, read_block(reader, grid, block))]
    pixels: Batch | None = None
    for waiting in batches_of(tiles, reader.scene, normalizer, batch=predictor.batch):
        if waiting.tiles:
            pixels = normalise(waiting, normalizer, batch=predictor.batch, out=pixels)
            scores = predictor.predict(pixels)
            for each, score in zip(waiting.tiles, scores, strict=False):
                mosaic.add(each.tile.window, each.tile.valid, score)
    return mosaic.scores()


def score_batches(
    batches: Iterable[WindowBatch], predictor: Predictor, normalizer: Normalizer, stop: Stop
) -> Iterator[tuple[WindowBatch, Batch | None]]:
    """Predict batches: each with its scores `(n, class, row, col)`, or None if it has no windows.

    Raises:
        InterruptedRunError: When the blocks in hand take too long after a request to stop.
    """
    idle: list[Batch] = []

    def score(waiting: WindowBatch) -> tuple[WindowBatch, Batch | None]:
        if stop.overdue:
            raise interrupted()
        if not waiting.tiles:
            return waiting, None
        # Memory that was used before is several times as fast as new memory.
        pixels = idle.pop() if idle else None
        pixels = normalise(waiting, normalizer, batch=predictor.batch, out=pixels)
        scores = predictor.predict(pixels)
        idle.append(pixels)
        return waiting, scores

    yield from mapped(score, batches, workers=predictor.workers)


def compare(
    scored: Iterable[tuple[WindowBatch, Batch | None]],
    disagreement: Disagreement,
    write: WriteRows,
) -> Iterator[tuple[WindowBatch, Batch | None]]:
    """Pass batches on, and write the disagreement of rows once all their windows are compared."""

    def finish(block: Block) -> None:
        rows = disagreement.complete(block)
        if rows is not None:
            write(rows)

    for waiting, scores in scored:
        complete = deque(waiting.complete)
        for place, each in enumerate(waiting.tiles):
            while complete and complete[0].index < each.block.index:
                finish(complete.popleft())
            if scores is not None:
                disagreement.add(each.tile.window, each.tile.valid, scores[place])
        for block in complete:
            finish(block)
        yield waiting, scores


def report(
    scored: Iterable[tuple[WindowBatch, Batch | None]],
    progress: Progress | None,
    *,
    known: int,
    total: int,
) -> Iterator[tuple[WindowBatch, Batch | None]]:
    """Pass batches on, and call `progress` after each; `known` windows were done before."""
    for waiting, scores in scored:
        yield waiting, scores
        if progress is not None:
            progress(known + waiting.read, total)


def sum_blocks(
    scored: Iterable[tuple[WindowBatch, Batch | None]],
    grid: Grid,
    *,
    classes: int,
    blend: str,
    spare: Spare,
) -> Iterator[tuple[Block, BlockScores]]:
    """Sum scores and hand out blocks as soon as they are complete."""
    mosaics: dict[int, BlockMosaic] = {}

    def mosaic(block: Block) -> BlockMosaic:
        if block.index not in mosaics:
            mosaics[block.index] = BlockMosaic(
                grid, block, classes=classes, blend=blend, spare=spare
            )
        return mosaics[block.index]

    for waiting, scores in scored:
        if scores is not None:
            for each, score in zip(waiting.tiles, scores, strict=False):
                mosaic(each.block).add(each.tile.window, each.tile.valid, score)
        for block in waiting.complete:
            yield block, mosaic(block).scores()
            del mosaics[block.index]


def join(
    blocks: Sequence[Block],
    summed: Iterator[tuple[Block, BlockScores]],
    grid: Grid,
    store: BlockStore,
    *,
    classes: int,
) -> Iterator[ProbabilityRows]:
    """Finished rows out of the blocks kept and the blocks summed, which are kept in turn.

    Raises:
        InterruptedRunError: When the blocks summed end before the last one.
    """
    assembler = Assembler(grid, classes=classes)
    kept = store.finished
    for block in blocks:
        if block.index in kept:
            scores = store.load(block)
        else:
            made = next(summed, None)
            if made is None:
                raise interrupted()
            scores = made[1]
            store.save(block, scores)
        rows = assembler.add(block, scores)
        if rows is not None:
            yield rows
