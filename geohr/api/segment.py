"""The front door: a scene in, georeferenced objects out."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from geohr._runtime.files import check_writable, staged
from geohr._runtime.progress import watched
from geohr._runtime.redact import redact
from geohr._runtime.stop import Stop
from geohr._runtime.stores import delivered
from geohr.api.prediction import Prediction
from geohr.encoding import NODATA, PROBABILITY_MAX
from geohr.errors import UsageError
from geohr.inference.checkpoint import (
    WORK_FOLDER,
    WorkFolder,
    held_elsewhere,
    work_folder,
    work_name,
)
from geohr.inference.disk import OutputCounts, check_disks
from geohr.inference.job import Job, Opener, prepare
from geohr.inference.pipeline import Progress
from geohr.inference.postprocess import Chunk, Products, finish_rows
from geohr.models.model import Model, resolve_model
from geohr.options import SegmentOptions
from geohr.outputs.stac import item_beside, write_item
from geohr.outputs.write import (
    OutputPaths,
    WriteCounts,
    clipped,
    raster_of_disagreement,
    write_outputs,
)
from geohr.polygons import concatenate
from geohr.scene.prepare import SceneLike, display_name
from geohr.stitching.mosaic import classify
from geohr.tiling.blocks import BlockSize, downward
from geohr.tiling.grid import Grid

if TYPE_CHECKING:
    import geopandas


class Workplace(Protocol):
    """Where the blocks of a run are predicted, other than in this process."""

    @property
    def opener(self) -> Opener:
        """Finds what predicts there."""

    def cutter(self, grid: Grid) -> BlockSize:
        """How large blocks are there, where nothing else is said."""

    def fingerprint(self, run: Job) -> dict[str, object]:
        """All that a block's scores depend on there."""

    def pieces(
        self,
        run: Job,
        wanted: Products,
        progress: Progress | None,
        *,
        store: WorkFolder,
        stop: Stop | None,
    ) -> Generator[Chunk]:
        """Chunks of the outputs, top to bottom, as `postprocess.finish_rows` gives them."""


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
            `geohr.stitching.seams.SeamScore`; 1 is no more.
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


def segment(
    scene: SceneLike,
    *,
    model: str | Path | Model | None = None,
    options: SegmentOptions | None = None,
    progress: Progress | Literal["auto"] | None = "auto",
) -> geopandas.GeoDataFrame:
    """Objects in a scene.

    Args:
        scene: A raster file, an address, a STAC item, or several of them as one mosaic.
        model: A bundled name, a model file or a `Model`; by default the bundled building model.
        options: How; by default as the model card says.
        progress: Called with windows done and windows in all; `auto` shows a bar on a terminal
            or in a notebook and nothing elsewhere, None shows nothing.

    Returns:
        A polygon a row, in the scene's coordinate reference system or `out_crs`, with `class`,
        `confidence` (mean probability), `area_m2` and `perimeter_m` on the ground, and what else
        `geohr.polygons.Polygons` lists.

    Raises:
        InputError: When the scene or the model cannot be used, or does not fit the other.
        EngineError: When the device is not there.
    """
    run = prepare(scene, resolve_model(model), options or SegmentOptions())
    tracer = run.tracer()
    with (
        watched(progress, f"segment {Path(display_name(scene)).name}") as report,
        closing(run.rows(report)) as finished,
    ):
        clipped = (run.scene.clip(rows.start, rows.probabilities) for rows in finished)
        found = [
            tracer.push(classify(scores, run.options.threshold), scores)
            for scores in clipped
            if scores.shape[1]
        ]
    polygons = concatenate([*found, tracer.finish()])
    return run.placed(polygons).to_geodataframe(run.crs)


def predict(
    scene: SceneLike,
    *,
    model: str | Path | Model | None = None,
    options: SegmentOptions | None = None,
    progress: Progress | Literal["auto"] | None = "auto",
) -> Prediction:
    """Probabilities of a whole scene as an array; for scenes that fit into memory.

    Args:
        scene: A raster file, an address, a STAC item, or several of them as one mosaic.
        model: A bundled name, a model file or a `Model`; by default the bundled building model.
        options: How; by default as the model card says.
        progress: Called with windows done and windows in all; `auto` shows a bar on a terminal
            or in a notebook and nothing elsewhere, None shows nothing.

    Returns:
        On the pixel grid on which the scene is read, which `gsd` may make another than its own.

    Raises:
        InputError: When the scene or the model cannot be used, or does not fit the other.
        EngineError: When the device is not there.
    """
    run = prepare(scene, resolve_model(model), options or SegmentOptions())
    with (
        watched(progress, f"predict {Path(display_name(scene)).name}") as report,
        closing(run.rows(report)) as finished,
    ):
        stacked = np.concatenate(
            [run.scene.clip(rows.start, rows.probabilities) for rows in finished], axis=1
        )
    probabilities = stacked.astype(np.float32) / np.float32(PROBABILITY_MAX)
    probabilities[stacked == NODATA] = np.nan
    names = tuple(label.name for label in run.card.classes)
    return Prediction(probabilities, run.scene.area_geobox.transform, run.scene.crs, names)


def segment_to_files(
    scene: SceneLike,
    out: Sequence[str | Path],
    *,
    probs: str | Path | None = None,
    disagreement: str | Path | None = None,
    model: str | Path | Model | None = None,
    options: SegmentOptions | None = None,
    stac: bool = False,
    cut: BlockSize | None = None,
    workplace: Workplace | None = None,
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
        scene: A raster file, an address, a STAC item, or several of them as one mosaic.
        out: Polygons or a raster of classes, by extension; paths, or addresses in an object
            store (`s3://`, `gs://`, `az://`), where they appear when all are whole.
        probs: A raster of probabilities to write, or None.
        disagreement: A raster to write of how far overlapping windows differ, or None; with it,
            no finished blocks are kept, and blocks are predicted in this process.
        model: A bundled name, a model file or a `Model`; by default the bundled building model.
        options: How; by default as the model card says.
        stac: Write a STAC Item beside the first output; see `geohr.outputs.stac`.
        cut: Windows of a block; outputs are the same bytes whatever it is.
        workplace: Where blocks are predicted; by default in this process.
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
    made = [*out, *(each for each in (probs, disagreement) if each is not None)]
    item = item_beside(made[0]) if stac else None
    asked = made if item is None else [*made, item]
    with delivered(asked, overwrite=overwrite, work_dir=work_dir) as local:
        targets = OutputPaths(
            tuple(local[str(each)] for each in out),
            probs=None if probs is None else local[str(probs)],
            disagreement=None if disagreement is None else local[str(disagreement)],
            item=None if item is None else local[str(item)],
        )
        summary = _segment_to_files(
            scene,
            targets,
            model=model,
            options=options or SegmentOptions(),
            cut=cut,
            workplace=workplace,
            overwrite=overwrite,
            progress=progress,
            work_dir=work_dir,
            resume=resume,
            stop=stop,
        )
    return replace(summary, outputs=tuple(str(each) for each in asked))


def _segment_to_files(
    scene: SceneLike,
    targets: OutputPaths,
    *,
    model: str | Path | Model | None,
    options: SegmentOptions,
    cut: BlockSize | None,
    workplace: Workplace | None,
    overwrite: bool,
    progress: Progress | None,
    work_dir: Path | None,
    resume: bool,
    stop: Stop | None,
) -> Summary:
    """The same into files on disk; see `segment_to_files`."""
    started = time.monotonic()
    if workplace is not None and targets.disagreement is not None:
        raise UsageError(
            "disagreement needs the scores of single windows, which a cluster does not send; "
            "leave it out, or run without the cluster"
        )
    resume = resume and targets.disagreement is None
    name = work_name(targets.paths)
    beside = targets.paths[0].parent
    root = work_dir or beside / WORK_FOLDER
    # A run that was cut short while it gave outputs their names has left some of them.
    may_exist = overwrite or (root / name).exists()
    for path in targets.paths:
        check_writable(path, overwrite=may_exist)
    cutter = downward if workplace is None else workplace.cutter
    run = prepare(
        scene,
        resolve_model(model),
        options,
        cut=cutter if cut is None else lambda _: cut,
        opener=None if workplace is None else workplace.opener,
    )
    keeps = workplace is not None or (resume and len(run.blocks) > 1)
    check_disks(beside, root, run.scene, run.grid, outputs=count_outputs(run, targets), keeps=keeps)
    fingerprint = run.fingerprint() if workplace is None else workplace.fingerprint(run)
    with work_folder(root, name, fingerprint, resume=resume) as work:
        for path in targets.paths:
            check_writable(path, overwrite=overwrite or work.published)
        with (
            held_elsewhere(targets.paths, root, name),
            staged(targets.paths, f"{WORK_FOLDER}/{name}/outputs") as names,
        ):
            part = targets.under(names)
            if workplace is None:
                # Where there is but one block, all is done when it is.
                store = work if keeps else None
                written = _write_here(run, part, progress, store=store, stop=stop)
            else:
                wanted = _wanted(part)
                pieces = workplace.pieces(run, wanted, progress, store=work, stop=stop)
                written = write_outputs(run, pieces, part)
            if part.item is not None:
                write_item(part.item, run, targets.made)
            work.publish()
    return Summary(
        scene=redact(display_name(scene)),
        outputs=tuple(str(path) for path in targets.paths),
        objects=written.objects if targets.vectors else None,
        windows=len(run.grid),
        predicted=written.windows,
        seconds=time.monotonic() - started,
        engine=run.predictor.engine,
        blocks=len(run.blocks),
        reused=len(work.finished),
        seam_score=written.seams.score,
    )


def _write_here(
    run: Job,
    targets: OutputPaths,
    progress: Progress | None,
    *,
    store: WorkFolder | None,
    stop: Stop | None,
) -> WriteCounts:
    """Predict in this process, and write what comes."""
    with ExitStack() as stack:
        compare = None
        if targets.disagreement is not None:
            sink = raster_of_disagreement(run, targets.disagreement)
            compare = clipped(run, stack.enter_context(sink).write)
        rows = run.rows(progress, store=store, stop=stop, disagreement=compare)
        return write_outputs(run, finish_rows(run, rows, _wanted(targets)), targets)


def _wanted(targets: OutputPaths) -> Products:
    """What pieces must hold."""
    return Products(
        polygons=bool(targets.vectors), rows=bool(targets.rasters or targets.probs is not None)
    )


def count_outputs(run: Job, targets: OutputPaths) -> OutputCounts:
    """What a run writes, as far as its size goes."""
    return OutputCounts(
        classes=len(run.card.classes),
        vectors=len(targets.vectors),
        rasters=len(targets.rasters) + (targets.disagreement is not None),
        probabilities=int(targets.probs is not None),
    )
