"""Finished rows turned into what outputs are made of: classes, probabilities, polygons.

One process does so from top to bottom, with `finish_rows`. Bands of rows can be finished apart by
`finish_strip`, from the blocks that touch them, and put in order by `chunks_of_strips`. What comes
out is the same, however the rows are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geohr.geobox import Window
from geohr.inference.checkpoint import load_arrays, save_arrays
from geohr.inference.job import Job
from geohr.polygons import Polygons
from geohr.polygons.strips import ClassRows, StripJoiner, StripPolygons, trace_strip
from geohr.polygons.tracer import TraceSettings
from geohr.polygons.watershed import SQUARE
from geohr.scene import Scene
from geohr.stitching.blocks import Assembler, BlockScores
from geohr.stitching.mosaic import ProbabilityRows, classify
from geohr.stitching.seams import Counts, SeamMeter
from geohr.tiling.blocks import Block, BlockSize, cut_blocks, extent
from geohr.tiling.grid import Grid

BAND_ROWS = 4 * SQUARE
"""Rows of a band: those around it that are read as well are then few."""
BAND_PIXELS = 2**27
"""Pixels of a band, at most, where it has more than one row of squares: they are held at once."""
LAST_ROWS = 4 * SQUARE
"""Rows at the end that are cut into bands of one row of squares: when the last blocks are there,
several workers finish them."""


@dataclass(frozen=True)
class Products:
    """What outputs are made of.

    Attributes:
        polygons: Whether any holds polygons.
        rows: Whether any holds pixels.
    """

    polygons: bool
    rows: bool


@dataclass(frozen=True)
class Chunk:
    """What goes into the outputs next.

    Attributes:
        classes: `(row, col)` class ids of the next rows of the area, perhaps none.
        probabilities: `(class, row, col)` of the same rows.
        polygons: Objects that are now whole, where they are wanted.
        windows: Windows that were predicted since the piece before.
        seams: What was counted at tile lines since then.
    """

    classes: NDArray[np.uint8]
    probabilities: NDArray[np.uint8]
    polygons: Polygons | None
    windows: int
    seams: Counts


def finish_rows(
    run: Job, finished: Generator[ProbabilityRows], wanted: Products
) -> Generator[Chunk]:
    """Rows of the whole scene, from top to bottom; they are closed at the end, whatever it is."""
    tracer = run.tracer() if wanted.polygons else None
    seams = SeamMeter(run.grid)
    with closing(finished):
        for rows in finished:
            ids = classify(rows.probabilities, run.options.threshold)
            seams.add(rows, ids)
            ids = run.scene.clip(rows.start, ids)
            scores = run.scene.clip(rows.start, rows.probabilities)
            polygons = tracer.push(ids, scores) if tracer is not None and len(ids) else None
            yield Chunk(ids, scores, polygons, rows.windows, seams.take())
    if tracer is not None:
        yield Chunk(ids[:0], scores[:, :0], tracer.finish(), 0, seams.take())


@dataclass(frozen=True)
class Strip:
    """Rows of the scene in full width that are finished together: `[start, stop)`."""

    index: int
    start: int
    stop: int


@dataclass(frozen=True)
class Postprocessor:
    """All that finishing a band depends on, besides the blocks' scores.

    Attributes:
        grid: How the scene is cut into windows.
        cut: How large blocks are.
        classes: Channels of the scores.
        threshold: As in `geohr.stitching.mosaic.classify`.
        scene: Whose area outputs hold.
        tracing: How it is traced.
        wanted: What is made.
        folder: Of the bands' files.
    """

    grid: Grid
    cut: BlockSize
    classes: int
    threshold: float | None
    scene: Scene
    tracing: TraceSettings
    wanted: Products
    folder: Path

    @classmethod
    def of(cls, run: Job, wanted: Products, folder: Path) -> Postprocessor:
        """That of a run."""
        return cls(
            run.grid,
            run.cut,
            len(run.card.classes),
            run.options.threshold,
            run.scene,
            run.tracing,
            wanted,
            folder,
        )

    def bands(self, rows: int | None = None) -> tuple[Strip, ...]:
        """The scene cut into bands.

        Args:
            rows: Of a band; where touching objects are parted, a multiple of
                `geohr.polygons.watershed.SQUARE`. By default few, and finer at the end.
        """
        window = self.scene.area_window
        inner = range(rows, window.height, rows) if rows else band_edges(window)
        edges = [0, *(window.row + edge for edge in inner), self.grid.height]
        return tuple(Strip(index, *both) for index, both in enumerate(pairwise(edges)))

    def reach(self, band: Strip) -> tuple[int, int]:
        """The scene's rows that a band depends on."""
        top = self.scene.area_window.row
        first, stop = self.tracing.reach(*self.inside(band))
        return max(0, min(band.start - 1, top + first)), max(band.stop, top + stop)

    def inside(self, band: Strip) -> tuple[int, int]:
        """The rows of the scene's area that a band has."""
        window = self.scene.area_window
        return (
            max(band.start, window.row) - window.row,
            min(band.stop, window.row_stop) - window.row,
        )

    def needs(self, band: Strip) -> list[Block]:
        """The blocks whose windows touch what a band depends on, in order."""
        start, stop = self.reach(band)
        across = len(range(0, self.grid.shape[1], self.cut.cols))
        needed: list[Block] = []
        for first in range(0, len(self.blocks), across):
            place = extent(self.grid, self.blocks[first])
            if place.row < stop and place.row_stop > start:
                needed += self.blocks[first : first + across]
        return needed

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The grid's blocks."""
        return cut_blocks(self.grid, self.cut)

    def path(self, band: Strip) -> Path:
        """Its file, named by all that it holds."""
        held = ("polygons" if self.wanted.polygons else "") + ("rows" if self.wanted.rows else "")
        return self.folder / f"band-{band.start:08d}-{band.stop:08d}-{held}.npz"


def band_edges(window: Window) -> list[int]:
    """Rows of the area between which bands are cut, where nothing else is said."""
    rows = max(SQUARE, min(BAND_ROWS, BAND_PIXELS // window.width // SQUARE * SQUARE))
    last = max(0, window.height - LAST_ROWS) // SQUARE * SQUARE
    first = [*range(rows, last, rows), last] if last else []
    return [*first, *range(last + SQUARE, window.height - SQUARE // 2, SQUARE)]


def finish_strip(
    finishing: Postprocessor, band: Strip, load: Callable[[Block], BlockScores]
) -> None:
    """Join the blocks that touch a band, and write what outputs need of it to its file.

    Args:
        finishing: How.
        band: Which rows.
        load: The scores of a block.

    Raises:
        OutputError: When a block went away, or the folder cannot be written.
    """
    seams = SeamMeter(finishing.grid)
    held: list[NDArray[np.uint8]] = []
    windows = 0

    def loaded() -> Iterator[tuple[Block, BlockScores]]:
        nonlocal windows
        for block in finishing.needs(band):
            scores = load(block)
            if band.start <= extent(finishing.grid, block).row < band.stop:
                windows += scores.windows
            yield block, scores

    chunks = _chunks(finishing, band, loaded(), seams, held)
    arrays = {}
    if finishing.wanted.polygons:
        start, stop = finishing.inside(band)
        traced = trace_strip(chunks, start, stop, finishing.tracing)
        arrays = traced.to_arrays()
    for _ in chunks:
        pass
    arrays |= {"seams": seams.take(), "windows": np.array(windows)}
    if finishing.wanted.rows:
        arrays["probabilities"] = np.concatenate(held, axis=1)
    save_arrays(finishing.path(band), arrays)


def _chunks(
    finishing: Postprocessor,
    band: Strip,
    blocks: Iterable[tuple[Block, BlockScores]],
    seams: SeamMeter,
    held: list[NDArray[np.uint8]],
) -> Iterator[ClassRows]:
    """Rows of the area that a band depends on; its own are counted in `seams` and held."""
    assembler = Assembler(finishing.grid, classes=finishing.classes, rows=finishing.reach(band))
    for block, block_scores in blocks:
        rows = assembler.add(block, block_scores)
        if rows is None:
            continue
        scores, first = rows.probabilities, rows.start
        ids = classify(scores, finishing.threshold)
        above = band.start - 1 - first
        if 0 <= above < len(ids):
            seams.follow(scores[:, above : above + 1], ids[above : above + 1])
        own = slice(max(0, band.start - first), max(0, band.stop - first))
        inside = ProbabilityRows(max(band.start, first), scores[:, own], 0)
        if len(ids[own]):
            seams.add(inside, ids[own])
            if finishing.wanted.rows:
                held.append(finishing.scene.clip(inside.start, inside.probabilities))
        yield finishing.scene.clip(first, ids), finishing.scene.clip(first, scores)


def chunks_of_strips(finishing: Postprocessor, bands: Iterable[Strip]) -> Iterator[Chunk]:
    """What goes into the outputs, out of all bands in order, each as soon as it is finished."""
    joined = StripJoiner(finishing.tracing) if finishing.wanted.polygons else None
    nothing = np.zeros((finishing.classes, 0, finishing.scene.area_window.width), np.uint8)
    for band in bands:
        arrays = load_arrays(finishing.path(band))
        scores = arrays.get("probabilities", nothing)
        polygons = None
        if joined is not None:
            polygons = joined.add(StripPolygons.from_arrays(arrays))
        yield Chunk(
            classify(scores, finishing.threshold),
            scores,
            polygons,
            int(arrays["windows"].item()),
            arrays["seams"],
        )
