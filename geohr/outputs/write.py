"""Finished chunks into the files of a run: polygons, classes, probabilities, disagreement."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from geohr._runtime.progress import phase
from geohr.errors import UsageError
from geohr.geobox import GeoBox
from geohr.inference.job import Job
from geohr.inference.pipeline import WriteRows
from geohr.inference.postprocess import Chunk
from geohr.outputs.cog import RasterWriter, class_writer, probability_writer
from geohr.outputs.creation_options import check_creation_options
from geohr.outputs.reprojected import MakeWriter, ReprojectedWriter, RowWriter
from geohr.outputs.tiles import CogPart, TileEncoder
from geohr.outputs.vector import EXTENSIONS, VectorWriter, open_vector
from geohr.polygons.antimeridian import is_cut
from geohr.polygons.table import Totals
from geohr.stitching.seams import SeamMeter, SeamScore

RASTER_SUFFIXES = (".tif", ".tiff")
# What the names of arrays begin with that hold parts of rasters.
CLASSES_PREFIX, PROBABILITIES_PREFIX = "classes_", "probabilities_"


@dataclass
class WriteCounts:
    """The numbers of what was written.

    Attributes:
        found: Polygons, by class.
        windows: Windows that were predicted.
        seams: Whether tile lines can be seen.
    """

    found: Totals = field(default_factory=Totals)
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
        creation_options: Options of GDAL's COG driver for the rasters.
    """

    out: tuple[Path, ...]
    probs: Path | None = None
    disagreement: Path | None = None
    item: Path | None = None
    creation_options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an extension or creation option that is not known, and one file named twice.

        Raises:
            UsageError: Naming the file or the option.
        """
        check_creation_options(self.creation_options)
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
        """The files of polygons."""
        return tuple(path for path in self.out if path.suffix.lower() in EXTENSIONS)

    @property
    def rasters(self) -> tuple[Path, ...]:
        """The rasters of classes."""
        return tuple(path for path in self.out if path.suffix.lower() not in EXTENSIONS)

    @property
    def made(self) -> tuple[Path, ...]:
        """All outputs but the STAC Item, which describes them."""
        return (*self.out, *(each for each in (self.probs, self.disagreement) if each))

    @property
    def paths(self) -> tuple[Path, ...]:
        """All outputs."""
        return self.made if self.item is None else (*self.made, self.item)

    def under(self, names: Mapping[Path, Path]) -> OutputPaths:
        """Replace the names of the outputs."""
        return OutputPaths(
            tuple(names[path] for path in self.out),
            self.probs and names[self.probs],
            self.disagreement and names[self.disagreement],
            self.item and names[self.item],
            self.creation_options,
        )


@dataclass(frozen=True)
class StripRasters:
    """Makes the tiles of a run's rasters; a `geohr.inference.job.RowsEncoder`.

    Attributes:
        classes: How class ids become tiles; None where no raster of them is wanted.
        probabilities: How probabilities do, likewise.
    """

    classes: TileEncoder | None
    probabilities: TileEncoder | None

    @classmethod
    def of(cls, job: Job, targets: OutputPaths) -> Self | None:
        """Those of a run; None where rasters come out on another grid than they are made on."""
        if job.own_scene is not job.scene:
            return None
        box, options = job.geobox, {**targets.creation_options, "NUM_THREADS": "1"}
        names = [label.name for label in job.card.classes]
        classes = [class_raster(job, path, box, options).encoder for path in targets.rasters]
        probabilities = targets.probs and share_raster(job, targets.probs, box, names, options)
        return cls(
            classes[0] if classes else None, probabilities.encoder if probabilities else None
        )

    @property
    def digest(self) -> str:
        """A name for what is made: the same for the same rasters."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:8]

    def __call__(
        self, start: int, classes: NDArray[np.uint8], probabilities: NDArray[np.uint8]
    ) -> dict[str, NDArray[Any]]:
        """The parts of the rasters that rows make up, as named arrays; see `RowsEncoder`."""
        made: dict[str, NDArray[Any]] = {}
        if self.classes is not None:
            made |= self.classes.part(start, classes[None]).to_arrays(CLASSES_PREFIX)
        if self.probabilities is not None:
            made |= self.probabilities.part(start, probabilities).to_arrays(PROBABILITIES_PREFIX)
        return made


def write_outputs(job: Job, chunks: Generator[Chunk], targets: OutputPaths) -> WriteCounts:
    """Write chunks as polygons, classes and probabilities, and look for seams in them.

    Chunks come top to bottom; they and all files are closed at the end, whatever it is.

    Raises:
        OutputError: When a file cannot be written.
    """
    counts = WriteCounts()
    seams = SeamMeter(job.grid, job.window)
    names = [label.name for label in job.card.classes]
    with ExitStack() as stack:
        stack.enter_context(closing(chunks))
        vectors = [stack.enter_context(vector_writer(job, path)) for path in targets.vectors]
        classes = [
            stack.enter_context(raster_of_classes(job, path, targets.creation_options))
            for path in targets.rasters
        ]
        probabilities = [
            stack.enter_context(raster_of_shares(job, path, names, targets.creation_options))
            for path in (targets.probs,)
            if path
        ]
        for chunk in chunks:
            counts.windows += chunk.windows
            counts.found.add(chunk.polygons)
            seams.add(chunk.probabilities, chunk.classes)
            if chunk.encoded is not None:
                seams.counts += chunk.encoded["seams"]
            for rasters, prefix, rows in (
                (probabilities, PROBABILITIES_PREFIX, chunk.probabilities),
                (classes, CLASSES_PREFIX, chunk.classes),
            ):
                for raster in rasters:
                    if chunk.encoded is not None:
                        assert isinstance(raster, RasterWriter)  # see StripRasters.of
                        raster.add(CogPart.from_arrays(chunk.encoded, prefix))
                    elif len(chunk.classes):
                        raster.write(rows)
            polygons = job.to_crs(chunk.polygons)
            for vector in vectors:
                vector.write(polygons)
        # Indexes and overviews are made when the files are closed.
        phase("writing")
    counts.seams = seams.score()
    return counts


def vector_writer(job: Job, path: Path) -> VectorWriter:
    """A writer of polygons."""
    return open_vector(
        path,
        crs=job.crs,
        multi=job.options.connectivity == 8 or is_cut(job.geobox.bounds, job.geobox.crs, job.crs),
        constants={"scene": job.scene.name, "acquired": job.acquired},
        colours={label.name: label.colour for label in job.card.classes},
        provenance=job.provenance(),
    )


def raster_of_classes(job: Job, path: Path, creation_options: Mapping[str, str]) -> RowWriter:
    """A writer of class ids, in the colours of the card."""
    make = partial(class_raster, job, creation_options=creation_options)
    return on_own_grid(job, path, make, bands=1, classes=True)


def class_raster(
    job: Job, path: Path, geobox: GeoBox, creation_options: Mapping[str, str]
) -> RasterWriter:
    """A writer of class ids on a given grid, in the colours of the card."""
    colours = {number: label.rgb for number, label in enumerate(job.card.classes, start=1)}
    colours[0] = (0, 0, 0)
    return class_writer(path, geobox, colours, job.provenance(), creation_options)


@contextmanager
def raster_of_disagreement(job: Job, targets: OutputPaths) -> Iterator[WriteRows | None]:
    """A writer of the largest minus the smallest score that overlapping windows give a pixel.

    It takes the next rows `(row, col)` of the whole scene, and writes those that outputs hold; None
    where no such raster is wanted.
    """
    path = targets.disagreement
    if path is None:
        yield None
        return
    done = 0
    with raster_of_shares(job, path, ["disagreement"], targets.creation_options) as raster:

        def write(rows: NDArray[np.uint8]) -> None:
            nonlocal done
            part = job.scene.clip(done, rows)
            done += len(rows)
            if len(part):
                raster.write(part)

        yield write


def raster_of_shares(
    job: Job, path: Path, names: Sequence[str], creation_options: Mapping[str, str]
) -> RowWriter:
    """A writer of numbers from 0 to 1, one band per name."""
    make = partial(share_raster, job, names=names, creation_options=creation_options)
    return on_own_grid(job, path, make, bands=len(names), classes=False)


def share_raster(
    job: Job, path: Path, geobox: GeoBox, names: Sequence[str], creation_options: Mapping[str, str]
) -> RasterWriter:
    """A writer of numbers from 0 to 1 on a given grid, one band per name."""
    return probability_writer(path, geobox, names, job.provenance(), creation_options)


def on_own_grid(job: Job, path: Path, make: MakeWriter, *, bands: int, classes: bool) -> RowWriter:
    """A writer that takes rows of the job's window, for a raster on the scene's own grid."""
    if job.own_scene is job.scene:
        return make(path, job.geobox)
    return ReprojectedWriter(
        path, made=job.geobox, own=job.own_scene, bands=bands, sink=make, classes=classes
    )
