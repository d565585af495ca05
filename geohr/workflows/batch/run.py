"""Many scenes, unattended: done ones are left out, and one that fails does not end the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from geohr._runtime.files import local_part
from geohr._runtime.locks import locked
from geohr._runtime.messages import amount
from geohr._runtime.redact import redact
from geohr._runtime.stop import Stop
from geohr.errors import InputError, InterruptedRunError, UsageError
from geohr.models.model import resolve_model
from geohr.options import SegmentOptions
from geohr.outputs.creation_options import check_creation_options
from geohr.workflows.batch.inputs import (
    BatchInput,
    check_template,
    find_sources,
    is_growing,
    output_path,
)
from geohr.workflows.batch.manifest import Entry, Manifest
from geohr.workflows.batch.options import BatchOptions
from geohr.workflows.batch.scene import Batch, Listener, make_folder, process_scene
from geohr.workflows.batch.worker import Worker

LOCK = ".geohr-batch.lock"


def run_batch(
    named: Sequence[str],
    out_dir: str | Path,
    *,
    listener: Listener,
    model: str | None = None,
    segmenting: SegmentOptions | None = None,
    options: BatchOptions | None = None,
    creation_options: Mapping[str, str] | None = None,
    stop: Stop | None = None,
) -> list[Entry]:
    """Segment many scenes into one folder, with a manifest of what became of each.

    A scene that fails does not end the batch. A scene whose outputs were made from the same
    input, model, options and version is left out. Each is segmented in another process.

    Args:
        named: Files, addresses, folders, globs, text lists, CSV tables, STAC items.
        out_dir: The output folder; made where it is missing.
        listener: Told what happens.
        model: A bundled name or a model file; by default the bundled building model.
        segmenting: The options with which each scene is segmented.
        options: Which scenes, what names, how many failures.
        creation_options: Options of GDAL's COG driver for the rasters, such as COMPRESS=ZSTD.
        stop: When requested, the blocks in hand are finished and no other scene is begun.

    Returns:
        An entry for each scene. Where the batch was stopped or `max_failures` reached, scenes
        that were not begun have none.

    Raises:
        UsageError: When options contradict each other, or a creation option is not allowed.
        InputError: When there is no scene, or the model cannot be used.
        OutputError: When the output folder cannot be written.
        LockedError: When another batch writes there.
        InterruptedRunError: When `stop` was requested; the manifest says how far it came.
    """
    options = options or BatchOptions()
    for template in (*options.name, *([options.probs_name] if options.probs_name else [])):
        check_template(template)
    check_creation_options(creation_options or {})
    resolved = resolve_model(model)
    out_dir = Path(out_dir)
    check_local(out_dir)
    make_folder(out_dir)
    with (
        locked(out_dir / LOCK, what=str(out_dir)),
        Worker(allow_vrt=options.allow_vrt) as worker,
    ):
        batch = Batch(
            out_dir=out_dir,
            model=resolved,
            segmenting=segmenting or SegmentOptions(),
            options=options,
            creation_options=creation_options or {},
            listener=listener,
            stop=stop or Stop(),
            manifest=Manifest(out_dir),
            worker=worker,
        )
        run_passes(batch, named)
    return list(batch.entries.values())


def run_passes(batch: Batch, named: Sequence[str]) -> None:
    """Process the scenes that there are or, with `watch`, those that come until it is over.

    Raises:
        InputError: When there is no scene, and the run does not wait for any.
        InterruptedRunError: When the batch was asked to stop.
    """
    watch = batch.options.watch
    if watch is None:
        one_pass(batch, sources_of(named, batch, at_least=1), last=True)
    while watch is not None and not batch.is_over:
        # A scene is taken again only when its file has changed.
        one_pass(batch, sources_of(named, batch, at_least=0), last=False)
        batch.stop.sleep(watch)
    if batch.stop.requested:
        raise InterruptedRunError(
            f"stopped as asked after {amount(len(batch.entries), 'scene')}; the same command "
            "goes on"
        )


def sources_of(named: Sequence[str], batch: Batch, *, at_least: int) -> list[BatchInput]:
    """The scenes that there are now.

    Raises:
        InputError: When there are too few.
    """
    found = find_sources(named, pattern=batch.options.pattern, asset=batch.segmenting.asset)
    if len(found) < at_least:
        raise InputError(
            f"{', '.join(named)}: there is no scene; check the folder, or choose with --pattern"
        )
    return found


def one_pass(batch: Batch, sources: Sequence[BatchInput], *, last: bool) -> None:
    """Process all scenes that have stopped growing.

    The last pass waits once for scenes that grow, and then leaves them to the next run.
    """
    check_outputs(batch, sources)
    settle, growing = batch.options.settle, []
    for place, source in enumerate(sources, start=1):
        if batch.is_over:
            return
        if is_growing(source, settle):
            growing.append((place, source))
        else:
            process_scene(batch, source, place=place, count=len(sources))
    if not growing or not last:
        return
    batch.stop.sleep(settle)
    for place, source in growing:
        if batch.is_over:
            return
        if is_growing(source, settle):
            batch.close(source, Entry(redact(source.name), "growing"))
        else:
            process_scene(batch, source, place=place, count=len(sources))


def check_outputs(batch: Batch, sources: Sequence[BatchInput]) -> None:
    """Refuse a batch that would write over one of its scenes, by whatever name.

    Raises:
        UsageError: Naming the output and the scene.
    """
    scenes = {}
    for source in sources:
        path = None if source.remote else local_part(source.name)
        if path is not None:
            status = path.stat()
            scenes[status.st_dev, status.st_ino] = source.name
    templates = [*batch.options.name, batch.options.probs_name]
    for source in sources:
        for template in templates:
            path = output_path(batch.out_dir, template, source.name) if template else None
            if path is None or not path.exists():
                continue
            status = path.stat()
            name = scenes.get((status.st_dev, status.st_ino))
            if name is not None:
                raise UsageError(f"{path}: is an input, {name}; name outputs otherwise with --name")


def check_local(folder: Path) -> None:
    """Refuse an address where a folder is meant: manifest and lock need a file system.

    Raises:
        UsageError: When it is one.
    """
    scheme, colon, _ = str(folder).partition(":/")
    if colon and scheme.isalnum() and len(scheme) > 1:
        raise UsageError(
            f"{folder}: --out-dir is a folder on a file system, for its manifest and lock; send "
            "the outputs to an object store afterwards, or segment scenes one at a time"
        )
