"""A scene to finished rows: the one loop that ties tiler, predictor and mosaic together.

Reading and normalising, predicting, and summing run at the same time, each in its own thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from geohr.grid import Grid
from geohr.mosaic import Mosaic, Rows
from geohr.pipeline import ahead
from geohr.pixels import Normalizer, check_tile
from geohr.predictor import Batch, Predictor
from geohr.scene import Mask, Scene, SceneReader, Tile

Progress = Callable[[int, int], None]
"""Called with windows done and windows in all."""


@dataclass(frozen=True)
class Waiting:
    """Windows in reading order that one batch completes.

    Attributes:
        last: Index in the grid of the last of them.
        tiles: Index in the grid and validity `(row, col)` of those with a valid pixel, in the
            batch's order. The others need no prediction.
        pixels: `(n, band, row, col)`, normalised; places left over are zero. None for an empty
            batch.
    """

    last: int
    tiles: tuple[tuple[int, Mask], ...]
    pixels: Batch | None


def predict_rows(
    scene: Scene,
    grid: Grid,
    predictor: Predictor,
    *,
    normalizer: Normalizer,
    classes: int,
    blend: str,
    progress: Progress | None = None,
) -> Iterator[Rows]:
    """The probabilities of a scene, top to bottom, each row once.

    Args:
        scene: What to read.
        grid: How it is cut into windows.
        predictor: Scores of windows.
        normalizer: From the scene's values to the network's.
        classes: Channels of the scores.
        blend: A name in `geohr.blend.BLENDS`.
        progress: Called after each batch.

    Raises:
        InputError: When the scene cannot be read or its values are out of the card's range.
    """
    batches = ahead(read_batches(scene, grid, normalizer, batch=predictor.batch))
    scored = ahead(score_batches(batches, predictor))
    mosaic = Mosaic(scene.height, scene.width, classes=classes, reach=grid.tile, blend=blend)
    yield from ahead(sum_rows(scored, grid, mosaic, progress=progress))


def read_batches(
    scene: Scene, grid: Grid, normalizer: Normalizer, *, batch: int
) -> Iterator[Waiting]:
    """All windows of the grid, gathered into batches of those with a valid pixel."""
    with SceneReader(scene) as reader:
        held: list[tuple[int, Tile]] = []
        tiles = (tile for row in reader.rows(grid) for tile in row)
        for index, tile in enumerate(tiles):
            if tile.valid.any():
                check_tile(tile, scene, normalizer)
                held.append((index, tile))
            if len(held) == batch:
                yield gather(index, held, normalizer, batch=batch)
                held = []
        yield gather(len(grid) - 1, held, normalizer, batch=batch)


def gather(
    last: int, held: list[tuple[int, Tile]], normalizer: Normalizer, *, batch: int
) -> Waiting:
    """Normalise tiles into one batch of fixed shape."""
    tiles = tuple((index, tile.valid) for index, tile in held)
    if not held:
        return Waiting(last, tiles, None)
    pixels = np.zeros((batch, *held[0][1].pixels.shape), np.float32)
    for (_, tile), target in zip(held, pixels, strict=False):
        normalizer.apply(tile.pixels, tile.valid, target)
    return Waiting(last, tiles, pixels)


def score_batches(
    batches: Iterable[Waiting], predictor: Predictor
) -> Iterator[tuple[Waiting, Batch | None]]:
    """Each batch with its scores `(n, class, row, col)`."""
    for waiting in batches:
        scores = None if waiting.pixels is None else predictor.predict(waiting.pixels)
        yield waiting, scores


def sum_rows(
    scored: Iterable[tuple[Waiting, Batch | None]],
    grid: Grid,
    mosaic: Mosaic,
    *,
    progress: Progress | None,
) -> Iterator[Rows]:
    """Sum scores and hand out rows as soon as they are finished."""
    across = grid.shape[1]
    done = 0
    for waiting, scores in scored:
        places = {index: place for place, (index, _) in enumerate(waiting.tiles)}
        for index in range(done, waiting.last + 1):
            if index in places and scores is not None:
                place = places[index]
                mosaic.add(grid[index], waiting.tiles[place][1], scores[place])
            if (index + 1) % across == 0:
                rows = mosaic.finish(grid.finished(index // across)[1])
                if rows.probabilities.size:
                    yield rows
        done = waiting.last + 1
        if progress is not None:
            progress(done, len(grid))
