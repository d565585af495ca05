"""A scene to files: objects, classes and probabilities."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, replace
from pathlib import Path

from geohr._runtime.files import check_writable, staged
from geohr._runtime.messages import amount
from geohr._runtime.progress import phase
from geohr._runtime.redact import redact
from geohr._runtime.stop import Stop
from geohr._runtime.stores import delivered
from geohr.errors import InputError, UsageError
from geohr.inference.checkpoint import (
    WORK_FOLDER,
    WorkFolder,
    locked_outputs,
    work_folder,
    work_name,
)
from geohr.inference.disk import OutputCounts, check_disks
from geohr.inference.executor import Executor, LocalExecutor
from geohr.inference.job import Job
from geohr.inference.pipeline import Progress
from geohr.inference.prepare import check_transformation, prepare
from geohr.inference.readings import Readings, predict_readings
from geohr.models.model import Model, resolve_model
from geohr.options import SegmentOptions
from geohr.outputs.cog import check_crs
from geohr.outputs.stac import item_beside, write_item
from geohr.outputs.write import (
    RASTER_SUFFIXES,
    OutputPaths,
    StripRasters,
    WriteCounts,
    raster_of_disagreement,
    write_outputs,
)
from geohr.scene.prepare import SceneLike, display_name
from geohr.scene.provenance import changed, identify
from geohr.tiling.blocks import BlockSize

GEOJSON_CRS = "OGC:CRS84"
"""The one CRS of GeoJSON (RFC 7946, section 4)."""


# Seam scores above this are said: at half as much again, lines can be made out in a result.
SEAMS_SHOW = 1.5


@dataclass(frozen=True)
class Summary:
    """The summary of a run.

    Attributes:
        scene: The scene's path.
        outputs: Files written.
        objects: Polygons found, or None where no vector output was asked for.
        area_m2: Their area in square metres; None without them, or without a CRS.
        classes: `objects` and `area_m2` of each class that was found.
        windows: Windows in all.
        predicted: Windows with a valid pixel, which were predicted.
        seconds: From start to end.
        engine: The name of the engine that predicted.
        blocks: Blocks in all.
        reused: Blocks that an earlier run had finished.
        seam_score: The ratio of what happens at tile lines to what happens beside them, as in
            `geohr.stitching.seams.SeamScore`; 1 is no more.
    """

    scene: str
    outputs: tuple[str, ...]
    objects: int | None
    area_m2: float | None
    classes: dict[str, dict[str, float | None]]
    windows: int
    predicted: int
    seconds: float
    engine: str
    blocks: int
    reused: int
    seam_score: float | None

    def describe(self) -> str:
        """The summary in one line, for a person or a log."""
        found = "" if self.objects is None else f"{amount(self.objects, 'object')}; "
        blocks = amount(self.blocks, "block")
        reused = f"; {self.reused:,} of {blocks} reused" if self.reused else ""
        shown = self.seam_score is not None and self.seam_score > SEAMS_SHOW
        seams = f"; window lines show, seam score {self.seam_score:.1f}" if shown else ""
        return (
            f"{', '.join(self.outputs)}: {found}{self.predicted:,} of "
            f"{amount(self.windows, 'window')} predicted in {self.seconds:.1f} s on "
            f"{self.engine}{reused}{seams}"
        )


def segment_to_files(
    scene: SceneLike,
    out: Sequence[str | Path],
    *,
    probs: str | Path | None = None,
    disagreement: str | Path | None = None,
    model: str | Path | Model | None = None,
    options: SegmentOptions | None = None,
    stac: bool = False,
    creation_options: Mapping[str, str] | None = None,
    block_size: BlockSize | None = None,
    executor: Executor | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    work_dir: Path | None = None,
    resume: bool = True,
    stop: Stop | None = None,
) -> Summary:
    """Write objects, classes and probabilities of a scene to files, in constant memory.

    The outputs appear together, when all are complete. Finished blocks are kept until then: after
    a crash, the same call resumes where it stopped, and its outputs are the same bytes.

    Args:
        scene: A raster file, a URL, a STAC item, or several of them as one mosaic.
        out: Polygons or a raster of classes, by extension; paths, or addresses in an object
            store (`s3://`, `gs://`, `az://`), where they appear when all are whole.
        probs: A raster of probabilities to write, or None.
        disagreement: A raster to write of how far overlapping windows differ, or None; with it,
            no finished blocks are kept, and blocks are predicted in this process.
        model: A bundled name, a model file or a `Model`; by default the bundled building model.
        options: The options of segmentation; by default those of the model card.
        stac: Write a STAC Item beside the first output; see `geohr.outputs.stac`.
        creation_options: Options of GDAL's COG driver for the rasters, such as COMPRESS=ZSTD.
        block_size: Windows of a block; outputs are the same bytes whatever it is.
        executor: The executor of the job; by default this process.
        overwrite: Replace outputs that exist.
        progress: A function that is called with windows done and windows in all.
        work_dir: The folder of finished blocks; by default beside the first output.
        resume: Keep finished blocks, and use those of an earlier run.
        stop: When requested, the blocks in hand are finished and the run ends with an error.

    Raises:
        UsageError: When an output exists or its extension is not known.
        InputError: When the scene or the model cannot be used, or does not fit the other, or the
            scene was changed while it was read.
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
            creation_options=creation_options or {},
        )
        summary = _segment_to_files(
            scene,
            targets,
            resolve_model(model),
            options or SegmentOptions(),
            executor or LocalExecutor(),
            block_size=block_size,
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
    model: Model,
    options: SegmentOptions,
    executor: Executor,
    *,
    block_size: BlockSize | None,
    overwrite: bool,
    progress: Progress | None,
    work_dir: Path | None,
    resume: bool,
    stop: Stop | None,
) -> Summary:
    """Segment into files on disk; see `segment_to_files`."""
    started = time.monotonic()
    check_request(scene, targets, model, options, executor)
    resume = resume and targets.disagreement is None
    name = work_name(targets.paths)
    root = work_dir or targets.paths[0].parent / WORK_FOLDER
    # A run that was cut short while it gave outputs their names has left some of them.
    may_exist = overwrite or (root / name).exists()
    for path in targets.paths:
        check_writable(path, overwrite=may_exist)
    phase("reading")
    job = prepare(
        scene, model, options, executor, block_size=block_size, polygons=bool(targets.vectors)
    )
    check_targets(job, targets)
    if executor.shares_blocks:
        job = replace(job, rasters=StripRasters.of(job, targets))
    before = identify(job.scene.files)
    # Where there is but one block, all is done when it is.
    keeps = executor.shares_blocks or (resume and (len(job.blocks) > 1 or bool(job.coarser)))
    check_room(job, targets, root, keeps=keeps)
    with work_folder(root, name, job.fingerprint(executor.machine), resume=resume) as work:
        for path in targets.paths:
            check_writable(path, overwrite=overwrite or work.published)
        with (
            locked_outputs(targets.paths, root, name),
            staged(targets.paths, f"{WORK_FOLDER}/{name}/outputs") as names,
        ):
            part = targets.under(names)
            counts, read = predict_to(
                part, job, executor, work, keeps=keeps, progress=progress, stop=stop
            )
            if part.item is not None:
                write_item(part.item, job, targets.made)
            check_unchanged(job, before)
            work.publish()
    return Summary(
        scene=redact(display_name(scene)),
        outputs=tuple(str(path) for path in targets.paths),
        objects=counts.found.objects.total() if targets.vectors else None,
        area_m2=counts.found.area_m2 if targets.vectors else None,
        classes=counts.found.by_class() if targets.vectors else {},
        windows=job.windows,
        predicted=counts.windows + read.predicted,
        seconds=time.monotonic() - started,
        engine=job.engine.name,
        blocks=len(job.blocks) + read.blocks,
        reused=len(work.finished) + read.reused,
        seam_score=counts.seams.score,
    )


def predict_to(
    targets: OutputPaths,
    job: Job,
    executor: Executor,
    work: WorkFolder,
    *,
    keeps: bool,
    progress: Progress | None,
    stop: Stop | None,
) -> tuple[WriteCounts, Readings]:
    """Predict a job, and write what comes of it; `keeps` says whether finished blocks are kept."""
    phase("predicting")
    with raster_of_disagreement(job, targets) as disagreement:
        told = None if progress is None else then_drawing(progress)
        read = predict_readings(job, executor, work.folder, progress=told, keeps=keeps, stop=stop)
        chunks = executor.chunks(
            read.job,
            progress=read.moved(told, job.windows),
            store=work if keeps else None,
            stop=stop,
            disagreement=disagreement,
        )
        return write_outputs(job, chunks, targets), read


def check_request(
    scene: SceneLike,
    targets: OutputPaths,
    model: Model,
    options: SegmentOptions,
    executor: Executor,
) -> None:
    """Refuse, before anything is read, what cannot be done.

    Raises:
        UsageError: When an output is an input, or the executor does not send what an output needs.
        OutputError: When an output cannot be written.
    """
    if executor.shares_blocks and targets.disagreement is not None:
        raise UsageError(
            "disagreement needs the scores of single windows, which a cluster does not send; "
            "leave it out, or run without the cluster"
        )
    named = [scene] if isinstance(scene, (str, Path)) else scene
    for path in targets.paths:
        check_writable(path, overwrite=True, inputs=[*named, options.aoi, model.path])


def check_unchanged(job: Job, before: list[list[object]]) -> None:
    """Refuse a result of files that have changed since `before` was noted.

    Raises:
        InputError: Naming the file.
    """
    touched = changed(job.scene.files, before)
    if touched is not None:
        raise InputError(
            f"{redact(touched)}: was changed while it was read, and nothing was written; run again "
            "when it is whole"
        )


def then_drawing(progress: Progress) -> Progress:
    """Progress that says, once all windows are predicted, that what is left is to be drawn."""
    # Called in threads, too, that do not know who shows progress.
    context = copy_context()
    over = False

    def report(done: int, total: int) -> None:
        nonlocal over
        if over:
            return
        progress(done, total)
        over = done == total
        if over:
            context.run(phase, "drawing")

    return report


def check_targets(job: Job, targets: OutputPaths) -> None:
    """Refuse outputs that are inputs, and those that cannot hold what is found.

    Raises:
        UsageError: When an output is a file of the scene, or of that of the calibration.
        InputError: When an output has no room for the CRS.
    """
    if any(path.suffix.lower() == ".geojson" for path in targets.vectors):
        check_transformation(job.scene, GEOJSON_CRS)
    inputs = [*job.scene.files, *job.calibration.scene.files]
    for path in targets.paths:
        check_writable(path, overwrite=True, inputs=inputs)
        if path.suffix.lower() in RASTER_SUFFIXES:
            check_crs(path, job.own_scene.geobox)


def check_room(job: Job, targets: OutputPaths, root: Path, *, keeps: bool) -> None:
    """Refuse a run that the disks have no room for; see `check_disks`."""
    check_disks(
        targets.paths[0].parent,
        root,
        job.scene,
        job.grid,
        outputs=count_outputs(job, targets),
        keeps=keeps,
        readings=job.coarser,
    )


def count_outputs(job: Job, targets: OutputPaths) -> OutputCounts:
    """The outputs of a run, as far as their size depends on them."""
    return OutputCounts(
        classes=len(job.card.classes),
        vectors=len(targets.vectors),
        rasters=len(targets.rasters) + (targets.disagreement is not None),
        probabilities=int(targets.probs is not None),
    )
