"""Finished pieces into the files of a run: polygons, classes, probabilities, disagreement."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geohr._runtime.redact import redact
from geohr.errors import UsageError
from geohr.geobox import GeoBox
from geohr.inference.job import Job
from geohr.inference.postprocess import Chunk
from geohr.outputs.cog import RasterWriter, class_writer, probability_writer
from geohr.outputs.reprojected import MakeWriter, ReprojectedWriter, RowWriter
from geohr.outputs.vector import EXTENSIONS, VectorWriter, open_vector
from geohr.stitching.seams import SeamScore

WriteRows = Callable[[NDArray[np.uint8]], None]
"""Takes the next rows of a raster."""
RASTER_SUFFIXES = (".tif", ".tiff")


@dataclass
class WriteCounts:
    """How much went into the outputs.

    Attributes:
        objects: Polygons.
        windows: Windows that were predicted.
        seams: Whether tile lines can be seen.
    """

    objects: int = 0
    windows: int = 0
    seams: SeamScore = field(default_factory=lambda: SeamScore(None, None))


@dataclass(frozen=True)
class OutputPaths:
    """The files of a run, on disk.

    Attributes:
        out: Polygons and rasters of classes, by extension, in the order asked for.
        probs: A raster of probabilities, or None.
        disagreement: A raster of how far overlapping windows differ, or None.
        item: A STAC Item beside them, or None.
    """

    out: tuple[Path, ...]
    probs: Path | None = None
    disagreement: Path | None = None
    item: Path | None = None

    def __post_init__(self) -> None:
        """Refuse an extension that is not known, and one file named twice.

        Raises:
            UsageError: Naming the file.
        """
        for path in self.made:
            if self.made.count(path) > 1:
                raise UsageError(f"{path}: named twice; give each output a file of its own")
        for path in self.out:
            if path.suffix.lower() not in (*EXTENSIONS, *RASTER_SUFFIXES):
                raise UsageError(
                    f"{path}: unknown extension {path.suffix or '(none)'}; polygons go to "
                    f"{', '.join(EXTENSIONS)}, classes to .tif"
                )
        for path in self.made[len(self.out) :]:
            if path.suffix.lower() not in RASTER_SUFFIXES:
                raise UsageError(f"{path}: probabilities and disagreement go to a .tif")

    @property
    def vectors(self) -> tuple[Path, ...]:
        """Files of polygons."""
        return tuple(path for path in self.out if path.suffix.lower() in EXTENSIONS)

    @property
    def rasters(self) -> tuple[Path, ...]:
        """Rasters of classes."""
        return tuple(path for path in self.out if path.suffix.lower() not in EXTENSIONS)

    @property
    def made(self) -> tuple[Path, ...]:
        """All but the Item, which describes them."""
        return (*self.out, *(each for each in (self.probs, self.disagreement) if each))

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        return self.made if self.item is None else (*self.made, self.item)

    def under(self, names: Mapping[Path, Path]) -> OutputPaths:
        """The same under other names."""
        return OutputPaths(
            tuple(names[path] for path in self.out),
            self.probs and names[self.probs],
            self.disagreement and names[self.disagreement],
            self.item and names[self.item],
        )


def write_outputs(run: Job, pieces: Generator[Chunk], targets: OutputPaths) -> WriteCounts:
    """Pieces into polygons, classes and probabilities; all are closed at the end."""
    written = WriteCounts()
    seams = np.zeros((2, 3), np.int64)
    with ExitStack() as stack:
        stack.enter_context(closing(pieces))
        sinks = [stack.enter_context(vector_writer(run, path)) for path in targets.vectors]
        classes = [stack.enter_context(raster_of_classes(run, path)) for path in targets.rasters]
        probabilities = [
            stack.enter_context(raster_of_probabilities(run, path))
            for path in (targets.probs,)
            if path
        ]
        for piece in pieces:
            written.windows += piece.windows
            seams += piece.seams
            if len(piece.classes):
                for raster in probabilities:
                    raster.write(piece.probabilities)
                for raster in classes:
                    raster.write(piece.classes)
            if piece.polygons is not None:
                written.objects += len(piece.polygons)
                placed = run.placed(piece.polygons)
                for sink in sinks:
                    sink.write(placed)
    written.seams = SeamScore.of_counts(seams)
    return written


def vector_writer(run: Job, path: Path) -> VectorWriter:
    """A sink for polygons."""
    return open_vector(
        path,
        crs=run.crs,
        multi=run.options.connectivity == 8,
        constants={"scene": redact(Path(run.scene.path).name), "acquired": run.acquired},
        colours={label.name: label.colour for label in run.card.classes},
        provenance=run.provenance(),
    )


def raster_of_classes(run: Job, path: Path) -> RowWriter:
    """A sink for class ids, coloured as the card says."""
    colours = {number: rgb(label.colour) for number, label in enumerate(run.card.classes, start=1)}

    def sink(target: Path, geobox: GeoBox) -> RasterWriter:
        return class_writer(target, geobox, {0: (0, 0, 0), **colours}, run.provenance())

    return on_own_ground(run, path, sink, bands=1, classes=True)


def raster_of_probabilities(run: Job, path: Path) -> RowWriter:
    """A sink for probabilities, a band a class."""
    return raster_of_shares(run, path, [label.name for label in run.card.classes])


def raster_of_disagreement(run: Job, path: Path) -> RowWriter:
    """A sink for the largest less the smallest score that overlapping windows give."""
    return raster_of_shares(run, path, ["disagreement"])


def raster_of_shares(run: Job, path: Path, names: Sequence[str]) -> RowWriter:
    """A sink for numbers from 0 to 1, a band a name."""

    def sink(target: Path, geobox: GeoBox) -> RasterWriter:
        return probability_writer(target, geobox, names, run.provenance())

    return on_own_ground(run, path, sink, bands=len(names), classes=False)


def on_own_ground(
    run: Job, path: Path, sink: MakeWriter, *, bands: int, classes: bool
) -> RowWriter:
    """A writer for rows of the scene's area, of a raster on the scene's own grid."""
    geobox = run.scene.area_geobox
    if run.own_scene is run.scene:
        return sink(path, geobox)
    return ReprojectedWriter(
        path, made=geobox, own=run.own_scene, bands=bands, sink=sink, classes=classes
    )


def clipped(run: Job, write: WriteRows) -> WriteRows:
    """`write` for rows `(row, col)` of the scene, top to bottom, of which it takes its part."""
    done = 0

    def take(rows: NDArray[np.uint8]) -> None:
        nonlocal done
        part = run.scene.clip(done, rows)
        done += len(rows)
        if len(part):
            write(part)

    return take


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of `#rrggbb`."""
    digits = colour.removeprefix("#")
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
