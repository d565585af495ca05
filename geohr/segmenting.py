"""The front door: a scene in, georeferenced objects out."""

from __future__ import annotations

import dataclasses
import json
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from geohr.backends import open_predictor
from geohr.blocks import BLOCK_PIXELS, BLOCK_WINDOWS, cut_blocks
from geohr.calibration import Calibration
from geohr.card import Card
from geohr.errors import UsageError
from geohr.files import check_writable, staged
from geohr.grid import Grid
from geohr.journal import WORK_FOLDER, identify, machine, work_folder, work_name
from geohr.model import Model, resolve_model
from geohr.mosaic import NODATA, PROBABILITY_MAX, Rows, classify
from geohr.options import SegmentOptions
from geohr.pixels import Normalizer, check_range
from geohr.plan import OutputCounts, check_disk
from geohr.polygons import Polygons, Tracer, concatenate
from geohr.predictor import Predictor
from geohr.progress import watched
from geohr.quality import SeamMeter, SeamScore
from geohr.raster import RasterSink, class_sink, probability_sink
from geohr.redact import redact
from geohr.scene import Scene
from geohr.stopping import Stop
from geohr.streaming import BlockStore, Progress, predict_rows
from geohr.vector import EXTENSIONS, Sink, open_sink
from geohr.version import __version__

if TYPE_CHECKING:
    import geopandas
    import xarray

RASTER_SUFFIXES = (".tif", ".tiff")
EVEN = 0.5
"""Where a contour runs when the likeliest class is taken, whatever its probability."""


@dataclass(frozen=True)
class Run:
    """A scene, a model and what was asked for, with every default resolved.

    Attributes:
        scene: With the bands that the model takes.
        model: Network and card.
        options: Tile, threshold and smallest area are set.
        grid: How the scene is cut.
        predictor: The model on its engine.
    """

    scene: Scene
    model: Model
    options: SegmentOptions
    grid: Grid
    predictor: Predictor

    @property
    def card(self) -> Card:
        """The model's card."""
        return self.model.card

    def rows(
        self,
        progress: Progress | None,
        *,
        store: BlockStore | None = None,
        stop: Stop | None = None,
        disagreement: Callable[[NDArray[np.uint8]], None] | None = None,
    ) -> Iterator[Rows]:
        """Finished rows, top to bottom; see `geohr.streaming.predict_rows`."""
        return predict_rows(
            self.scene,
            self.grid,
            self.predictor,
            normalizer=Normalizer.of(self.card, self.options.scale),
            classes=len(self.card.classes),
            blend=self.options.blend,
            progress=progress,
            store=store,
            stop=stop,
            disagreement=disagreement,
        )

    def fingerprint(self) -> dict[str, object]:
        """All that a block's scores depend on, besides the blocks' own cut."""
        return {
            "scene": identify(self.scene.files),
            "machine": machine(),
            "batch": self.predictor.batch,
            "blocks": [BLOCK_WINDOWS, BLOCK_PIXELS],
            **self.provenance(),
        }

    def tracer(self) -> Tracer:
        """Polygons from finished rows."""
        return Tracer(
            self.scene.width,
            transform=self.scene.transform,
            crs=self.scene.crs,
            options=self.options,
            class_names={number: label.name for number, label in enumerate(self.card.classes, 1)},
            threshold=self.options.threshold or EVEN,
        )

    def provenance(self) -> dict[str, str]:
        """What made the outputs: text by name. No time of day, so that outputs repeat."""
        options = dataclasses.asdict(self.options)
        return {
            "geohr_version": __version__,
            "geohr_scene": redact(Path(self.scene.path).name),
            "geohr_model": f"{self.card.name} {self.card.version}",
            "geohr_model_sha256": self.model.digest,
            "geohr_engine": self.predictor.engine,
            "geohr_options": json.dumps(options, sort_keys=True),
        }


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        scene: The scene's path.
        outputs: Files written.
        objects: Polygons found, or None where no vector output was asked for.
        windows: Windows in all.
        predicted: Windows with a valid pixel, which were predicted.
        seconds: From start to end.
        engine: What predicted.
        blocks: Blocks in all.
        reused: Blocks that an earlier run had finished.
        seam_score: How much more happens at tile lines than beside them, as in
            `geohr.quality.SeamScore`; 1 is no more.
    """

    scene: str
    outputs: tuple[str, ...]
    objects: int | None
    windows: int
    predicted: int
    seconds: float
    engine: str
    blocks: int
    reused: int
    seam_score: float | None

    def describe(self) -> str:
        """One line for a person or a log."""
        found = "" if self.objects is None else f"{self.objects} objects; "
        reused = f"; {self.reused} of {self.blocks} blocks reused" if self.reused else ""
        seams = "" if self.seam_score is None else f"; seam score {self.seam_score:.2f}"
        return (
            f"{', '.join(self.outputs)}: {found}{self.predicted} of {self.windows} windows "
            f"predicted in {self.seconds:.1f} s on {self.engine}{reused}{seams}"
        )


@dataclass(frozen=True)
class Prediction:
    """Probabilities of a whole scene, in memory.

    Attributes:
        probabilities: `(class, row, col)`, float32 in [0, 1]; NaN where there is no data.
        transform: From (col, row) to coordinates.
        crs: Of these coordinates.
        classes: A name for each channel.
    """

    probabilities: NDArray[np.float32]
    transform: Affine
    crs: CRS | None
    classes: tuple[str, ...]

    def to_xarray(self) -> xarray.DataArray:
        """The probabilities with coordinates and CRS, as rioxarray has them.

        Returns:
            Dimensions `class`, `y` and `x`; the coordinates are those of pixel centres.

        Raises:
            UsageError: When rioxarray is not installed, or the grid is turned.
        """
        try:
            import rioxarray  # noqa: F401  gives every DataArray its `rio`
            import xarray
        except ImportError as error:
            raise UsageError(
                "to_xarray needs rioxarray; install it with pip install 'geohr[notebook]'"
            ) from error
        if not self.transform.is_rectilinear:
            raise UsageError(
                "to_xarray needs a grid whose rows run along an axis; use the array and transform"
            )
        _, height, width = self.probabilities.shape
        step = self.transform
        array = xarray.DataArray(
            self.probabilities,
            dims=("class", "y", "x"),
            coords={
                "class": list(self.classes),
                "y": step.f + step.e * (np.arange(height) + 0.5),
                "x": step.c + step.a * (np.arange(width) + 0.5),
            },
            name="probability",
        )
        placed: xarray.DataArray = array.rio.write_transform(step).rio.write_nodata(np.nan)
        return placed if self.crs is None else placed.rio.write_crs(self.crs)


def segment(
    scene: str | Path,
    *,
    model: str | Path | Model | None = None,
    options: SegmentOptions | None = None,
    progress: Progress | Literal["auto"] | None = "auto",
) -> geopandas.GeoDataFrame:
    """Objects in a scene.

    Args:
        scene: A raster file, or any name GDAL can open.
        model: A bundled name, a model file or a `Model`; by default the bundled building model.
        options: How; by default as the model card says.
        progress: Called with windows done and windows in all; `auto` shows a bar on a terminal
            or in a notebook and nothing elsewhere, None shows nothing.

    Returns:
        A polygon a row, in the scene's coordinate reference system, with `class`, `confidence`
        (mean probability), `area_m2` and `perimeter_m` on the ground, and what else
        `geohr.polygons.Polygons` lists.

    Raises:
        InputError: When the scene or the model cannot be used, or does not fit the other.
        EngineError: When the device is not there.
    """
    run = prepare(scene, resolve_model(model), options or SegmentOptions())
    tracer = run.tracer()
    with watched(progress, f"segment {Path(scene).name}") as report:
        found = [
            tracer.push(classify(rows.probabilities, run.options.threshold), rows.probabilities)
            for rows in run.rows(report)
        ]
    return concatenate([*found, tracer.finish()]).to_geodataframe(run.scene.crs)


def predict(
    scene: str | Path,
    *,
    model: str | Path | Model | None = None,
    options: SegmentOptions | None = None,
    progress: Progress | Literal["auto"] | None = "auto",
) -> Prediction:
    """Probabilities of a whole scene as an array; for scenes that fit into memory.

    Args:
        scene: A raster file, or any name GDAL can open.
        model: A bundled name, a model file or a `Model`; by default the bundled building model.
        options: How; by default as the model card says.
        progress: Called with windows done and windows in all; `auto` shows a bar on a terminal
            or in a notebook and nothing elsewhere, None shows nothing.

    Raises:
        InputError: When the scene or the model cannot be used, or does not fit the other.
        EngineError: When the device is not there.
    """
    run = prepare(scene, resolve_model(model), options or SegmentOptions())
    with watched(progress, f"predict {Path(scene).name}") as report:
        stacked = np.concatenate([rows.probabilities for rows in run.rows(report)], axis=1)
    probabilities = stacked.astype(np.float32) / np.float32(PROBABILITY_MAX)
    probabilities[stacked == NODATA] = np.nan
    names = tuple(label.name for label in run.card.classes)
    return Prediction(probabilities, run.scene.transform, run.scene.crs, names)


def segment_to_files(
    scene: str | Path,
    out: Sequence[Path],
    *,
    probs: Path | None = None,
    disagreement: Path | None = None,
    model: str | Path | Model | None = None,
    options: SegmentOptions | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    work_dir: Path | None = None,
    resume: bool = True,
    stop: Stop | None = None,
) -> Summary:
    """Objects, classes and probabilities of a scene into files, in memory that stays flat.

    The outputs appear together, when all are whole. Finished blocks are kept until then: after
    a crash the same call goes on where it stopped, and its outputs are the same bytes.

    Args:
        scene: A raster file, or any name GDAL can open.
        out: Polygons or a raster of classes, by extension.
        probs: A raster of probabilities to write, or None.
        disagreement: A raster to write of how far overlapping windows differ, or None; with it,
            no finished blocks are kept.
        model: A bundled name, a model file or a `Model`; by default the bundled building model.
        options: How; by default as the model card says.
        overwrite: Replace outputs that exist.
        progress: Called with windows done and windows in all.
        work_dir: Where finished blocks are kept; by default beside the first output.
        resume: Keep finished blocks, and use those of an earlier run.
        stop: When requested, the blocks in hand are finished and the run ends with an error.

    Raises:
        UsageError: When an output exists or its extension is not known.
        InputError: When the scene or the model cannot be used, or does not fit the other.
        OutputError: When an output cannot be written.
        EngineError: When the device is not there.
        LockedError: When another run writes the same outputs.
        InterruptedRunError: When `stop` was requested.
    """
    started = time.monotonic()
    extra = [path for path in (probs, disagreement) if path is not None]
    vectors, rasters = sort_outputs(out, extra)
    paths = (*out, *extra)
    resume = resume and disagreement is None
    name = work_name(paths)
    root = work_dir or paths[0].parent / WORK_FOLDER
    # A run that was cut short while it gave outputs their names has left some of them.
    may_exist = overwrite or (root / name).exists()
    for path in paths:
        check_writable(path, overwrite=may_exist)
    run = prepare(scene, resolve_model(model), options or SegmentOptions())
    blocks = len(cut_blocks(run.grid))
    check_disk(
        paths[0].parent,
        run.scene,
        run.grid,
        outputs=OutputCounts(
            classes=len(run.card.classes),
            vectors=len(vectors),
            rasters=len(rasters) + (disagreement is not None),
            probabilities=int(probs is not None),
        ),
        resume=resume and blocks > 1,
    )
    with work_folder(root, name, run.fingerprint(), resume=resume) as work:
        for path in paths:
            check_writable(path, overwrite=overwrite or work.published)
        with staged(paths, f"{WORK_FOLDER}/{name}/outputs") as names:
            # Where there is but one block, all is done when it is.
            store = work if resume and blocks > 1 else None
            with ExitStack() as stack:
                compare = None
                if disagreement is not None:
                    sink = raster_of_disagreement(run, names[disagreement])
                    compare = stack.enter_context(sink).write
                written = write_outputs(
                    run,
                    run.rows(progress, store=store, stop=stop, disagreement=compare),
                    vectors=[names[path] for path in vectors],
                    rasters=[names[path] for path in rasters],
                    probs=names[probs] if probs else None,
                )
            work.publish()
    return Summary(
        scene=redact(str(scene)),
        outputs=tuple(str(path) for path in paths),
        objects=written.objects if vectors else None,
        windows=len(run.grid),
        predicted=written.windows,
        seconds=time.monotonic() - started,
        engine=run.predictor.engine,
        blocks=blocks,
        reused=len(work.finished),
        seam_score=written.seams.score,
    )


@dataclass
class Written:
    """How much went into the outputs.

    Attributes:
        objects: Polygons.
        windows: Windows that were predicted.
        seams: Whether tile lines can be seen.
    """

    objects: int = 0
    windows: int = 0
    seams: SeamScore = field(default_factory=lambda: SeamScore(None, None))


def write_outputs(
    run: Run,
    finished: Iterator[Rows],
    *,
    vectors: Sequence[Path],
    rasters: Sequence[Path],
    probs: Path | None,
) -> Written:
    """Finished rows into all outputs."""
    written = Written()
    with ExitStack() as stack:
        sinks = [stack.enter_context(vector_sink(run, path)) for path in vectors]
        classes = [stack.enter_context(raster_of_classes(run, path)) for path in rasters]
        probabilities = [stack.enter_context(raster_of_probabilities(run, probs))] if probs else []
        tracer = run.tracer() if sinks else None
        seams = SeamMeter(run.grid)

        def keep(polygons: Polygons) -> None:
            written.objects += len(polygons)
            for sink in sinks:
                sink.write(polygons)

        for rows in finished:
            written.windows += rows.windows
            for raster in probabilities:
                raster.write(rows.probabilities)
            ids = classify(rows.probabilities, run.options.threshold)
            seams.add(rows, ids)
            for raster in classes:
                raster.write(ids)
            if tracer is not None:
                keep(tracer.push(ids, rows.probabilities))
        if tracer is not None:
            keep(tracer.finish())
        written.seams = seams.score()
    return written


def prepare(scene_path: str | Path, model: Model, options: SegmentOptions) -> Run:
    """Resolve every default and refuse what cannot work, before anything is predicted.

    Raises:
        InputError: When the scene or the model cannot be used, or does not fit the other.
        EngineError: When the device is not there.
    """
    card = model.card
    scene = Scene.open(scene_path, options).select(card.bands)
    resolved = dataclasses.replace(
        options,
        tile=options.tile or card.tile,
        threshold=card.threshold if options.threshold is None else options.threshold,
        min_area=card.min_area if options.min_area is None else options.min_area,
    )
    side = resolved.tile or card.tile
    grid = Grid(scene.height, scene.width, side, round(side * resolved.overlap))
    normalizer = Normalizer.of(card, options.scale)
    check_range(scene, normalizer)
    warn_of_resolution(scene, card)

    shown = scene
    if options.calibrate is not None:
        shown = Scene.open(options.calibrate, options).select(card.bands)
    shown_grid = Grid(shown.height, shown.width, side, grid.overlap)
    calibration = Calibration(shown, shown_grid, normalizer)
    predictor = open_predictor(model, side, options, calibration=calibration)
    return Run(scene, model, resolved, grid, predictor)


def warn_of_resolution(scene: Scene, card: Card) -> None:
    """Say so where the scene's pixels are finer or coarser than any the model was trained on."""
    finest, coarsest = card.gsd
    if scene.gsd is None or finest <= scene.gsd <= coarsest:
        return
    warnings.warn(
        f"{scene.path}: {scene.gsd:.3g} m a pixel, but model {card.name} was trained on "
        f"{finest:g} to {coarsest:g} m; expect poor results, or resample the scene",
        stacklevel=4,
    )


def sort_outputs(out: Sequence[Path], rasters: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Vectors and rasters of classes in `out`, by extension.

    Args:
        out: Polygons and classes.
        rasters: What can only be rasters.

    Raises:
        UsageError: For an extension that is not known, or one file named twice.
    """
    named = [*out, *rasters]
    for path in named:
        if named.count(path) > 1:
            raise UsageError(f"{path}: named twice; give each output a file of its own")
    for path in out:
        if path.suffix.lower() not in (*EXTENSIONS, *RASTER_SUFFIXES):
            raise UsageError(
                f"{path}: unknown extension {path.suffix or '(none)'}; polygons go to "
                f"{', '.join(EXTENSIONS)}, classes to .tif"
            )
    for path in rasters:
        if path.suffix.lower() not in RASTER_SUFFIXES:
            raise UsageError(f"{path}: probabilities and disagreement go to a .tif")
    vectors = [path for path in out if path.suffix.lower() in EXTENSIONS]
    return vectors, [path for path in out if path not in vectors]


def raster_of_classes(run: Run, path: Path) -> RasterSink:
    """A sink for class ids, coloured as the card says."""
    colours = {number: rgb(label.colour) for number, label in enumerate(run.card.classes, start=1)}
    return class_sink(path, run.scene, {0: (0, 0, 0), **colours}, run.provenance())


def raster_of_probabilities(run: Run, path: Path) -> RasterSink:
    """A sink for probabilities, a band a class."""
    names = [label.name for label in run.card.classes]
    return probability_sink(path, run.scene, names, run.provenance())


def raster_of_disagreement(run: Run, path: Path) -> RasterSink:
    """A sink for the largest less the smallest score that overlapping windows give."""
    return probability_sink(path, run.scene, ["disagreement"], run.provenance())


def vector_sink(run: Run, path: Path) -> Sink:
    """A sink for polygons."""
    return open_sink(
        path,
        crs=run.scene.crs,
        multi=run.options.connectivity == 8,
        constants={"scene": redact(Path(run.scene.path).name)},
        colours={label.name: label.colour for label in run.card.classes},
        provenance=run.provenance(),
    )


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of `#rrggbb`."""
    digits = colour.removeprefix("#")
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
