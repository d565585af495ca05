"""The two dates of a comparison, from scenes, results or footprints that exist."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import rasterio

from geohr._runtime.files import remove_empty, staged
from geohr._runtime.locks import locked
from geohr._runtime.stop import Stop
from geohr.api.segment import segment_to_files
from geohr.errors import UsageError
from geohr.inference.checkpoint import (
    LOCK,
    LOCK_WAIT_SECONDS,
    WORK_FOLDER,
    locked_outputs,
    work_folder,
    work_name,
)
from geohr.inference.executor import Executor, LocalExecutor
from geohr.inference.prepare import prepare
from geohr.models.model import Model, resolve_model
from geohr.options import SegmentOptions
from geohr.scene.files import open_raster
from geohr.tiling.blocks import BlockSize
from geohr.workflows.change.compare import Date, compare
from geohr.workflows.change.counts import ChangeCounts
from geohr.workflows.change.inputs import (
    ChangeOutputs,
    GivenDate,
    check_ground,
    check_targets,
)
from geohr.workflows.change.options import ChangeOptions
from geohr.workflows.change.osm import write_osm
from geohr.workflows.change.overture import write_overture

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class SegmentRun:
    """How the scenes of both dates are segmented; see `geohr.api.segment.segment_to_files`."""

    model: str | Path | Model | None
    options: SegmentOptions
    executor: Executor
    block_size: BlockSize | None
    overwrite: bool
    progress: Progress | None
    work_dir: Path | None
    resume: bool
    stop: Stop | None

    @cached_property
    def network(self) -> Model:
        """The model, loaded once."""
        return resolve_model(self.model)


def change(
    before: str | Path,
    after: str | Path,
    out: str | Path | ChangeOutputs,
    *,
    against: bool = False,
    probabilities: tuple[str | Path | None, str | Path | None] = (None, None),
    model: str | Path | Model | None = None,
    options: ChangeOptions | None = None,
    segment_options: SegmentOptions | None = None,
    executor: Executor | None = None,
    block_size: BlockSize | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    work_dir: Path | None = None,
    resume: bool = True,
    stop: Stop | None = None,
) -> ChangeCounts:
    """Find what changed between two dates, and write footprints to a GeoPackage.

    A date is a scene, which is segmented first, or a vector file of objects: a result of geohr, or
    footprints that exist. What is found in a scene is kept beside `out`, as `STEM_before.gpkg` and
    `STEM_before_probs.tif` (and `STEM_after...`), and is used again by a later call with the same
    scene, model and options; a call that was killed goes on where it stopped.

    Args:
        before: The earlier date.
        after: The later date.
        out: The GeoPackage, see `geohr.workflows.change.compare.compare` for its layers; or all
            the files that are to be written.
        against: `before` are footprints that exist: those beyond what `after` shows do not count.
        probabilities: Rasters that geohr wrote for dates that are vector files, or None.
        model: A bundled name, a model file or a `Model`; by default the bundled building model.
        options: The thresholds of change.
        segment_options: The options with which scenes are segmented; `aoi` also bounds the
            comparison.
        executor: The executor of the segmentation; by default this process.
        block_size: Windows of a block of scenes; outputs are the same bytes whatever it is.
        overwrite: Replace outputs that exist.
        progress: Called with what is done and how much there is, for each scene and for the
            comparison.
        work_dir: The folder of finished blocks of scenes; by default beside the outputs.
        resume: Keep finished blocks of scenes, and use those of an earlier run.
        stop: When requested, the blocks in hand are finished and the run ends with an error.

    Returns:
        Counts, areas and intervals by kind of change, and the shift that was taken out.

    Raises:
        UsageError: When an output exists or is an input, or an option cannot be.
        InputError: When an input cannot be read, or the dates do not fit each other.
        OutputError: When an output cannot be written.
        EngineError: When the device is not there.
        LockedError: When another run writes the same outputs.
        InterruptedRunError: When `stop` was requested.
    """
    targets = out if isinstance(out, ChangeOutputs) else ChangeOutputs(Path(out))
    segment_options = segment_options or SegmentOptions()
    given = [
        GivenDate(name, str(path), None if probs is None else str(probs), segment_options)
        for name, path, probs in zip(
            ("before", "after"), (before, after), probabilities, strict=True
        )
    ]
    named = model.path if isinstance(model, Model) else model
    check_targets(given, targets, [named, segment_options.aoi], overwrite=overwrite)
    check_ground(given)
    run = SegmentRun(
        model, segment_options, executor or LocalExecutor(), block_size, overwrite, progress,
        work_dir, resume, stop,
    )  # fmt: skip
    with output_lock(targets):
        dates = [
            segment_date(each.path, targets.kept(each.name), run)
            if each.is_scene
            else Date(each.path, each.probabilities, reference=against and each is given[0])
            for each in given
        ]
        return write_outputs(dates, targets, options, segment_options.aoi, progress, stop)


def write_outputs(
    dates: list[Date],
    targets: ChangeOutputs,
    options: ChangeOptions | None,
    aoi: str | None,
    progress: Progress | None,
    stop: Stop | None,
) -> ChangeCounts:
    """Compare both dates; all files appear together."""
    name = work_name(targets.paths)
    with staged(targets.paths, f"{WORK_FOLDER}/{name}/outputs") as names:
        changes = names[targets.changes]
        counts = compare(
            dates[0],
            dates[1],
            changes,
            options=options,
            aoi=aoi,
            raster=None if targets.raster is None else names[targets.raster],
            creation_options=targets.creation_options,
            progress=progress,
            stop=stop,
        )
        source = f"geohr, {Path(dates[1].scene or dates[1].objects).name}"
        if targets.osm is not None:
            write_osm(changes, names[targets.osm], source=source)
        if targets.overture is not None:
            write_overture(changes, names[targets.overture])
    return counts


@contextmanager
def output_lock(targets: ChangeOutputs) -> Iterator[None]:
    """Hold the outputs of a comparison, so that no other run writes any of them."""
    name = work_name(targets.paths)
    root = targets.changes.parent / WORK_FOLDER
    try:
        with (
            locked(root / name / LOCK, what=str(targets.changes), wait=LOCK_WAIT_SECONDS),
            locked_outputs(targets.paths, root, name),
        ):
            yield
    finally:
        remove_empty(root / name, root)


def segment_date(scene: str, kept: tuple[Path, Path], run: SegmentRun) -> Date:
    """Segment the scene of one date to its two files, unless its result exists already.

    Raises:
        UsageError: When files of these names are there that are no such result.
    """
    objects, probs = kept
    date = Date(str(objects), str(probs), scene)
    if objects.exists() and probs.exists():
        noted = prepare(scene, run.network, run.options, run.executor).provenance()
        # A TIFF keeps no empty tags.
        wanted = {name: text for name, text in noted.items() if text}
        if provenance_of(probs).items() >= wanted.items():
            root, name = run.work_dir or objects.parent / WORK_FOLDER, work_name(kept)
            if (root / name).is_dir():
                # A run that was killed as its files appeared has left its blocks.
                with work_folder(root, name, {}, resume=False):
                    pass
            return date
        if not run.overwrite:
            raise UsageError(
                f"{objects}: exists, and is not what {scene} gives with this model and these "
                "options; choose another name for the changes, or pass --overwrite"
            )
    segment_to_files(
        scene,
        [objects],
        probs=probs,
        model=run.network,
        options=run.options,
        executor=run.executor,
        block_size=run.block_size,
        overwrite=run.overwrite,
        progress=run.progress,
        work_dir=run.work_dir,
        resume=run.resume,
        stop=run.stop,
    )
    return date


def provenance_of(raster: Path) -> dict[str, str]:
    """The provenance that geohr wrote into a raster; empty for rasters of other programs."""
    try:
        with open_raster(str(raster)) as opened:
            tags: dict[str, str] = dict(opened.tags())
    except rasterio.errors.RasterioError:
        return {}
    return {name: text for name, text in tags.items() if name.startswith("geohr_")}
