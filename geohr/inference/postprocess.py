"""Finished probabilities turned into what outputs are made of: class ids and polygons.

One process does so from top to bottom, with `postprocess`. Strips of rows can be finished apart by
`finish_strip`, from the blocks that touch them, the edges between them by `finish_edge`, and both
put in order by `chunks_of_strips`. What comes out is the same, however the rows are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geohr.encoding import NODATA, PROBABILITY_MAX
from geohr.geobox import Window
from geohr.inference.checkpoint import load_arrays, save_arrays
from geohr.inference.job import Job
from geohr.polygons import Polygons, Tracer
from geohr.polygons.borders import WallDrawings
from geohr.polygons.fragments import Fragment
from geohr.polygons.strips import ClassRows, StripJoiner, StripPolygons, draw_edge, trace_strip
from geohr.polygons.watershed import SQUARE
from geohr.scene import SceneReader
from geohr.stitching.blocks import Assembler, BlockScores
from geohr.stitching.joins import join
from geohr.stitching.mosaic import ProbabilityRows, classify
from geohr.stitching.seams import SeamMeter
from geohr.tiling.blocks import Block, extent

# The number of rows of a strip; the rows around it that are read too are few in comparison.
STRIP_ROWS = 4 * SQUARE
# Pixels of a strip, at most, where it has more than one row of squares: they are held at once.
STRIP_PIXELS = 2**27
# Rows at the end that are cut into strips of one row of squares: when the last blocks are there,
# several workers finish them.
LAST_ROWS = 4 * SQUARE


@dataclass(frozen=True)
class Chunk:
    """The next part of the outputs.

    Attributes:
        classes: `(row, col)` class ids of the next rows that outputs hold, perhaps none.
        probabilities: `(class, row, col)` of the same rows.
        polygons: Objects that are now whole, in the CRS in which the scene was read.
        windows: Windows that were predicted since the chunk before.
        encoded: In place of rows, what `Job.rasters` made of them, and under `seams` what
            `geohr.stitching.seams.SeamMeter` counts in them.
    """

    classes: NDArray[np.uint8]
    probabilities: NDArray[np.uint8]
    polygons: Polygons
    windows: int
    encoded: Mapping[str, NDArray[Any]] | None = None


def postprocess(job: Job, finished: Generator[ProbabilityRows]) -> Generator[Chunk]:
    """Make chunks from rows of the whole scene, from top to bottom; closes the rows at the end."""
    tracer = Tracer(job.trace_settings) if job.polygons else None
    with closing(finished):
        for rows in finished:
            ids, scores = class_rows(job, rows)
            traced = tracer is not None and len(ids) > 0
            polygons = tracer.push(ids, scores) if tracer and traced else Polygons.none()
            yield Chunk(ids, scores, polygons, rows.windows)
    if tracer is not None:
        yield Chunk(*no_rows(job), tracer.finish(), 0)


def class_rows(job: Job, rows: ProbabilityRows) -> ClassRows:
    """Class ids `(row, col)` and probabilities `(class, row, col)` of those rows that outputs hold.

    There are as many as the job's window has of them, so perhaps none.
    """
    probabilities = rows.probabilities
    if job.joined and probabilities.shape[1]:
        place = Window(rows.start, 0, *probabilities.shape[1:])
        with ExitStack() as stack:
            readers = [stack.enter_context(SceneReader(each)) for each in job.joined]
            others = [read_probabilities(each, place) for each in readers]
        probabilities = join([probabilities, *others], job.options.join or job.card.join)
    scores = job.scene.clip(rows.start, probabilities)
    return classify(scores, job.options.threshold), scores


def read_probabilities(reader: SceneReader, window: Window) -> NDArray[np.uint8]:
    """A window `(band, row, col)` of a raster of probabilities, or of class ids; 255 is nodata."""
    tile = reader.read(window)
    # Between two probabilities the kernel may overshoot, up to what means no data.
    found: NDArray[np.uint8] = np.minimum(tile.pixels, PROBABILITY_MAX)
    found[:, ~tile.valid] = NODATA
    return found


def no_rows(job: Job) -> ClassRows:
    """Empty rows of classes and probabilities."""
    width = job.window.width
    return np.zeros((0, width), np.uint8), np.zeros((len(job.card.classes), 0, width), np.uint8)


@dataclass(frozen=True)
class Strip:
    """Rows `[start, stop)` of a job's window that are finished together.

    Attributes:
        index: The number of the strip, from the top.
        start: The first row.
        stop: The row after the last.
        form: The name of what its rows become.
    """

    index: int
    start: int
    stop: int
    form: str

    def path(self, folder: Path) -> Path:
        """The file of the strip in a work folder."""
        return folder / f"strip-{self.start:08d}-{self.stop:08d}-{self.form}.npz"


@dataclass(frozen=True)
class Edge:
    """The edge between two strips, whose buildings are drawn together."""

    upper: Strip
    lower: Strip

    @property
    def index(self) -> int:
        """The number of the edge: that of the lower strip."""
        return self.lower.index

    def path(self, folder: Path) -> Path:
        """The file of the edge in a work folder."""
        return edge_path(folder, self.lower)


def edge_path(folder: Path, lower: Strip) -> Path:
    """The file of a strip's upper edge in a work folder."""
    return folder / f"edge-{lower.start:08d}.npz"


def cut_edges(job: Job, strips: Sequence[Strip]) -> tuple[Edge, ...]:
    """The edges between a job's strips; none where nothing is drawn."""
    if not (job.polygons and job.trace_settings.options.regularize):
        return ()
    return tuple(Edge(*pair) for pair in pairwise(strips))


def cut_strips(job: Job, rows: int | None = None) -> tuple[Strip, ...]:
    """The job's window cut into strips of `rows` rows; by default few, and finer at the end.

    Where touching objects are parted, `rows` is a multiple of `geohr.polygons.watershed.SQUARE`.
    """
    height, width = job.window.height, job.window.width
    inner = range(rows, height, rows) if rows else strip_edges(height, width)
    edges = pairwise([0, *inner, height])
    form = job.rasters.digest if job.rasters else "rows"
    return tuple(Strip(index, start, stop, form) for index, (start, stop) in enumerate(edges))


def strip_edges(height: int, width: int) -> list[int]:
    """The rows at which strips are cut by default."""
    rows = max(SQUARE, min(STRIP_ROWS, STRIP_PIXELS // width // SQUARE * SQUARE))
    last = max(0, height - LAST_ROWS) // SQUARE * SQUARE
    first = [*range(rows, last, rows), last] if last else []
    return [*first, *range(last + SQUARE, height - SQUARE // 2, SQUARE)]


def scene_rows(job: Job, strip: Strip) -> tuple[int, int]:
    """The scene's rows `[start, stop)` that a strip depends on."""
    top = job.window.row
    start, stop = job.trace_settings.reach(strip.start, strip.stop)
    return top + start, top + stop


def needed_blocks(job: Job, strip: Strip) -> list[Block]:
    """The blocks whose windows touch what a strip depends on, in order."""
    start, stop = scene_rows(job, strip)
    across = len(range(0, job.grid.shape[1], job.block_size.cols))
    needed: list[Block] = []
    for first in range(0, len(job.blocks), across):
        place = extent(job.grid, job.blocks[first])
        if place.row < stop and place.row_stop > start:
            needed += job.blocks[first : first + across]
    return needed


def finish_strip(
    job: Job, strip: Strip, folder: Path, load: Callable[[Block], BlockScores]
) -> None:
    """Join the blocks that touch a strip, and write what outputs need of it to its file.

    Raises:
        OutputError: When a block went away, or the folder cannot be written.
    """
    top = job.window.row
    own: list[NDArray[np.uint8]] = []
    # The row above comes first, if there is one.
    above = min(strip.start, 1)
    windows = 0

    def rows() -> Iterator[ClassRows]:
        nonlocal windows
        assembler = Assembler(job.grid, classes=len(job.card.classes), rows=scene_rows(job, strip))
        for block in needed_blocks(job, strip):
            block_scores = load(block)
            # Each block counts in one strip: that of the first row of the window that it touches.
            if strip.start <= max(extent(job.grid, block).row - top, 0) < strip.stop:
                windows += block_scores.windows
            finished = assembler.add(block, block_scores)
            if finished is None:
                continue
            ids, scores = class_rows(job, finished)
            first = max(finished.start - top, 0)
            own.append(scores[:, max(strip.start - above - first, 0) : max(strip.stop - first, 0)])
            yield ids, scores

    chunks = rows()
    arrays: dict[str, Any] = {}
    if job.polygons:
        traced = trace_strip(chunks, strip.start, strip.stop, job.trace_settings)
        arrays |= traced.to_arrays()
    for _ in chunks:
        pass
    arrays |= {"windows": np.array(windows), **kept_rows(job, strip, np.concatenate(own, axis=1))}
    save_arrays(strip.path(folder), arrays)


def kept_rows(job: Job, strip: Strip, scores: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """What a strip's file holds of its rows, by `(class, row, col)` probabilities.

    These begin with the row above the strip, if there is one.
    """
    above = min(strip.start, 1)
    rows = scores[:, above:]
    if job.rasters is None:
        return {"probabilities": rows}
    classes = classify(scores, job.options.threshold)
    seams = SeamMeter(job.grid, job.window)
    if above:
        seams.begin(strip.start, scores[:, :1], classes[:1])
    seams.add(rows, classes[above:])
    return {"seams": seams.counts, **job.rasters(strip.start, classes[above:], rows)}


def finish_edge(job: Job, edge: Edge, folder: Path) -> None:
    """Draw the buildings across the edge between two finished strips, into its file.

    Raises:
        OutputError: When a strip's file went away, or the folder cannot be written.
    """
    upper, lower = (
        Fragment.from_arrays(load_arrays(each.path(folder))) for each in (edge.upper, edge.lower)
    )
    save_arrays(edge.path(folder), draw_edge(upper, lower, job.trace_settings).to_arrays())


def chunks_of_strips(job: Job, folder: Path, strips: Iterable[Strip]) -> Generator[Chunk]:
    """Yield what the outputs receive from all strips in order, each as soon as it is finished.

    Strips come from top to bottom, each when its file and that of its upper edge are in `folder`.
    """
    joiner = StripJoiner(job.trace_settings) if job.polygons else None
    for strip in strips:
        arrays = load_arrays(strip.path(folder))
        polygons, windows = Polygons.none(), int(arrays["windows"].item())
        if joiner is not None:
            edge = edge_path(folder, strip)
            drawn = WallDrawings.from_arrays(load_arrays(edge)) if edge.exists() else None
            polygons = joiner.add(StripPolygons.from_arrays(arrays), drawn)
        if job.rasters is None:
            scores = arrays["probabilities"]
            yield Chunk(classify(scores, job.options.threshold), scores, polygons, windows)
        else:
            yield Chunk(*no_rows(job), polygons, windows, arrays)
