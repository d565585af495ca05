"""Many scenes, unattended: what can be done is done, what was done is left, the rest is told."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from geohr.batch.inputs import Source, check_source, find_sources, is_growing
from geohr.batch.manifest import Entry, Manifest, relative
from geohr.batch.naming import check_template, output_path, output_paths
from geohr.batch.options import BatchOptions
from geohr.batch.worker import Task
from geohr.batch.worker_client import Worker
from geohr.blocks import Cut
from geohr.errors import GeohrError, InputError, InterruptedRunError, OutputError, UsageError
from geohr.files import as_output_error
from geohr.journal import identify
from geohr.locks import locked
from geohr.model import Model, resolve_model
from geohr.options import SegmentOptions
from geohr.redact import redact
from geohr.stac_item import item_beside
from geohr.stopping import Stop
from geohr.version import __version__

LOCK = ".geohr-batch.lock"
SIDECARS = (".msk", ".ovr", ".aux.xml")
"""Files beside a raster that change what is read from it."""
BACKOFF_SECONDS = 1.0
"""Before the first repetition; doubled before each further one."""
BACKOFF_SECONDS_MAX = 60.0
POLL_SECONDS = 0.2


class Listener(Protocol):
    """Told what happens in a batch."""

    def began(self, scene: str, *, place: int, count: int) -> None:
        """A scene is being segmented."""

    def progress(self, scene: str, done: int, total: int) -> None:
        """Windows of it are done."""

    def ended(self, entry: Entry) -> None:
        """A scene is done, was left out, or failed."""


@dataclass
class Batch:
    """What is the same for all scenes of a batch.

    Attributes:
        out_dir: Where all outputs go.
        model: Network and card.
        segmenting: How a scene is segmented.
        options: Which scenes, what names, how many failures.
        listener: Told what happens.
        stop: When requested, the blocks in hand are finished and no other is begun.
        manifest: Of the output folder.
        worker: The process that segments.
        entries: What became of the scenes so far, by name; the last counts.
        states: Of the files of scenes that were tried in this run.
        taken: The scene of each output.
    """

    out_dir: Path
    model: Model
    segmenting: SegmentOptions
    options: BatchOptions
    listener: Listener
    stop: Stop
    manifest: Manifest
    worker: Worker
    entries: dict[str, Entry] = field(default_factory=dict)
    states: dict[str, object] = field(default_factory=dict)
    taken: dict[Path, str] = field(default_factory=dict)

    @property
    def failures(self) -> int:
        """Scenes that failed."""
        return sum(entry.state == "failed" for entry in self.entries.values())


def run_batch(
    named: Sequence[str],
    out_dir: Path,
    *,
    listener: Listener,
    model: str | None = None,
    segmenting: SegmentOptions | None = None,
    options: BatchOptions | None = None,
    stop: Stop | None = None,
) -> list[Entry]:
    """Segment many scenes into one folder, with a manifest of what became of each.

    A scene that fails does not end the batch. A scene whose outputs were made from the same
    input, model, options and version is left out. Each is segmented in a process apart.

    Args:
        named: Files, addresses, folders, globs, text lists, CSV tables, STAC items.
        out_dir: The output folder; made where it is missing.
        listener: Told what happens.
        model: A bundled name or a model file; by default the bundled building model.
        segmenting: How each scene is segmented.
        options: Which scenes, what names, how many failures.
        stop: When requested, the blocks in hand are finished and no other scene is begun.

    Returns:
        An entry for each scene. Where the batch was stopped or `max_failures` reached, scenes
        that were not begun have none.

    Raises:
        UsageError: When options contradict each other.
        InputError: When there is no scene, or the model cannot be used.
        OutputError: When the output folder cannot be written.
        LockedError: When another batch writes there.
        InterruptedRunError: When `stop` was requested; the manifest says how far it came.
    """
    options = options or BatchOptions()
    Cut.parse(options.block)
    for template in (*options.name, *([options.probs_name] if options.probs_name else [])):
        check_template(template)
    resolved = resolve_model(model)
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
            listener=listener,
            stop=stop or Stop(),
            manifest=Manifest(out_dir),
            worker=worker,
        )
        if options.watch is None:
            one_pass(batch, sources_of(named, batch), last=True)
        else:
            watch(batch, named, options.watch)
        if batch.stop.requested:
            raise InterruptedRunError(
                f"stopped as asked after {len(batch.entries)} scenes; the same command goes on"
            )
    return list(batch.entries.values())


def sources_of(named: Sequence[str], batch: Batch) -> list[Source]:
    """The scenes; at least one.

    Raises:
        InputError: When there is none.
    """
    found = scenes_now(named, batch)
    if not found:
        raise InputError(
            f"{', '.join(named)}: there is no scene; check the folder, or choose with --pattern"
        )
    return found


def scenes_now(named: Sequence[str], batch: Batch) -> list[Source]:
    """The scenes that there are; see `find_sources`."""
    return find_sources(named, pattern=batch.options.pattern, asset=batch.segmenting.asset)


def watch(batch: Batch, named: Sequence[str], seconds: float) -> None:
    """Pass after pass until stopped; a scene is taken again only when its file has changed."""
    while not batch.stop.requested and not enough(batch):
        one_pass(batch, scenes_now(named, batch), last=False)
        pause(seconds, batch.stop)


def one_pass(batch: Batch, sources: Sequence[Source], *, last: bool) -> None:
    """Take all scenes that have stopped growing.

    Args:
        batch: The batch.
        sources: The scenes.
        last: Whether those that grow are waited for once, and then left to the next run.
    """
    growing = []
    for place, source in enumerate(sources, start=1):
        if batch.stop.requested or enough(batch):
            return
        if is_growing(source, batch.options.settle):
            growing.append((place, source))
        else:
            take(batch, source, place=place, count=len(sources))
    if growing and last:
        pause(batch.options.settle, batch.stop)
        for place, source in growing:
            if batch.stop.requested or enough(batch):
                return
            if is_growing(source, batch.options.settle):
                close(batch, source, Entry(redact(source.name), "growing"))
            else:
                take(batch, source, place=place, count=len(sources))


def enough(batch: Batch) -> bool:
    """Whether as many scenes have failed as may."""
    return batch.options.max_failures is not None and batch.failures >= batch.options.max_failures


def take(batch: Batch, source: Source, *, place: int, count: int) -> None:
    """Segment a scene, or find why not to; whatever happens is written down."""
    started = time.monotonic()
    entry = Entry(redact(source.name), "failed")
    try:
        state = identify(input_files(source))
        if batch.states.get(source.name) == state:
            return
        batch.states[source.name] = state
        outputs, probs = outputs_of(batch, source)
        items = [Path(item_beside(outputs[0]))] if batch.options.stac else []
        paths = [*outputs, *([probs] if probs else []), *items]
        entry = dataclasses.replace(
            entry,
            outputs=tuple(relative(path, batch.out_dir) for path in paths),
            fingerprint=fingerprint(batch, state),
        )
        if is_done(batch, entry, paths):
            last = batch.manifest.last.get(entry.scene)
            objects = last.objects if last is not None else None
            close(batch, source, dataclasses.replace(entry, state="skipped", objects=objects))
            return
        batch.listener.began(entry.scene, place=place, count=count)
        check_source(source, allow_vrt=batch.options.allow_vrt)
        replaces = batch.options.overwrite or batch.manifest.owns(paths, batch.out_dir)
        batch.manifest.append(dataclasses.replace(entry, state="running"))
        for path in paths:
            make_folder(path.parent)
        answer, attempts = attempt(batch, source, outputs, probs, replaces=replaces)
    except (GeohrError, OSError) as error:
        code = error.exit_code if isinstance(error, GeohrError) else OutputError.exit_code
        answer, attempts = {"event": "failed", "code": code, "error": str(error)}, 1
    if answer["event"] == "failed" and answer["code"] == InterruptedRunError.exit_code:
        return
    entry = dataclasses.replace(
        entry,
        seconds=round(time.monotonic() - started, 3),
        attempts=attempts,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if answer["event"] == "done":
        objects, reused = answer["objects"], answer["reused"]
        entry = dataclasses.replace(entry, state="done", objects=objects, reused=reused)
    else:
        error_text = redact(" ".join(answer["error"].split()))
        entry = dataclasses.replace(entry, error=error_text, code=answer["code"])
    batch.manifest.append(entry)
    close(batch, source, entry)


def input_files(source: Source) -> list[str]:
    """The names of the files that a scene is read from, as far as they are there.

    Raises:
        InputError: When the scene itself is gone.
    """
    if source.remote:
        return [source.name]
    if not Path(source.name).is_file():
        raise InputError(f"{source.name}: no such file; check the path")
    beside = [f"{source.name}{suffix}" for suffix in SIDECARS]
    return [source.name, *(name for name in beside if Path(name).is_file())]


def outputs_of(batch: Batch, source: Source) -> tuple[list[Path], Path | None]:
    """The outputs of a scene and its raster of probabilities.

    Raises:
        InputError: When another scene of the batch has an output of the same name.
    """
    options = batch.options
    outputs = output_paths(batch.out_dir, options.name, source.name)
    probs = None
    if options.probs_name:
        probs = output_path(batch.out_dir, options.probs_name, source.name)
    for path in (*outputs, *([probs] if probs else [])):
        other = batch.taken.setdefault(path, source.name)
        if other != source.name:
            raise InputError(
                f"{source.name}: its output {path} is that of {other}; tell them apart with "
                "--name, such as {parent}_{stem}.gpkg"
            )
    return outputs, probs


def fingerprint(batch: Batch, state: object) -> str:
    """What a scene's outputs depend on, as a short text."""
    parts = {
        "input": state,
        "model": batch.model.digest,
        "options": dataclasses.asdict(batch.segmenting),
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def is_done(batch: Batch, entry: Entry, paths: Sequence[Path]) -> bool:
    """Whether a scene is left out, by what an entry of it would say.

    Raises:
        UsageError: When one of its outputs exists and is none of an earlier batch's.
    """
    if batch.manifest.made(entry) and all(path.exists() for path in paths):
        return True
    existing = [path for path in paths if path.exists()]
    if not existing or batch.options.overwrite or batch.manifest.owns(paths, batch.out_dir):
        return False
    if batch.options.skip_existing:
        return len(existing) == len(paths)
    raise UsageError(
        f"{existing[0]}: exists, and no earlier batch has made it; pass --overwrite to replace it "
        "or --skip-existing to leave its scene out"
    )


def attempt(
    batch: Batch, source: Source, outputs: Sequence[Path], probs: Path | None, *, replaces: bool
) -> tuple[dict[str, Any], int]:
    """Segment a scene, several times where it is read over a network; the answer, and how often."""
    options = batch.options
    task = Task(
        scene=source.name,
        outputs=tuple(map(str, outputs)),
        probs=str(probs) if probs else None,
        stac=options.stac,
        model=str(batch.model.path),
        options=dataclasses.asdict(batch.segmenting),
        overwrite=replaces,
        work_dir=str(options.work_dir) if options.work_dir else None,
        resume=options.resume,
        dask=options.dask,
        block=options.block,
    )
    attempts = 0
    for wait in waits(options.retries if source.remote else 0):
        attempts += 1
        answer = batch.worker.run(
            task,
            timeout=options.timeout,
            stop=batch.stop,
            progress=lambda done, total: batch.listener.progress(task.scene, done, total),
        )
        if answer["event"] == "done" or answer["code"] != InputError.exit_code or wait is None:
            break
        pause(wait, batch.stop)
        if batch.stop.requested:
            break
    return answer, attempts


def waits(retries: int) -> Iterator[float | None]:
    """Seconds after each attempt, doubled each time; None after the last."""
    for number in range(retries):
        yield min(BACKOFF_SECONDS * 2**number, BACKOFF_SECONDS_MAX)
    yield None


def close(batch: Batch, source: Source, entry: Entry) -> None:
    """Count an entry, and tell of it."""
    batch.entries[source.name] = entry
    batch.listener.ended(entry)


def pause(seconds: float, stop: Stop) -> None:
    """Wait, unless asked to stop."""
    until = time.monotonic() + seconds
    while not stop.requested and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, POLL_SECONDS))


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


def make_folder(folder: Path) -> None:
    """Make a folder, and those it lies in.

    Raises:
        OutputError: When it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise as_output_error(error, folder) from error
