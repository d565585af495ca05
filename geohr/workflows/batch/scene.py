"""One scene of a batch: left out, segmented, or failed; whatever happens is written down."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from geohr import __version__
from geohr._runtime.files import as_output_error
from geohr._runtime.redact import redact
from geohr._runtime.stop import Stop
from geohr.errors import GeohrError, InputError, InterruptedRunError, OutputError, UsageError
from geohr.models.model import Model
from geohr.options import SegmentOptions
from geohr.outputs.stac import item_beside
from geohr.scene.provenance import identify
from geohr.workflows.batch.inputs import BatchInput, check_source, output_path
from geohr.workflows.batch.manifest import Entry, Manifest, relative
from geohr.workflows.batch.options import BatchOptions
from geohr.workflows.batch.worker import Outcome, Task, Worker, failed

# Files beside a raster that change what is read from it.
SIDECARS = (".msk", ".ovr", ".aux.xml")
# Files beside a raster that are named after it without its suffix and say where it lies.
GEOREFERENCES = (".tfw", ".jgw", ".pgw", ".wld", ".hdr")
# Wait before the first repetition; doubled before each further one.
BACKOFF_SECONDS = 1.0
BACKOFF_SECONDS_MAX = 60.0


class Listener(Protocol):
    """An object whose methods are called as a batch proceeds."""

    def began(self, scene: str, *, place: int, count: int) -> None:
        """A scene is being segmented."""

    def progress(self, scene: str, done: int, total: int) -> None:
        """Called when windows of a scene are done."""

    def ended(self, entry: Entry) -> None:
        """A scene is done, was left out, or failed."""


@dataclass
class Batch:
    """The settings that all scenes of a batch share, and the entries so far.

    Attributes:
        out_dir: The folder of all outputs.
        model: Network and card.
        segmenting: The options with which a scene is segmented.
        options: Which scenes, what names, how many failures.
        creation_options: Options of GDAL's COG driver for the rasters.
        listener: Told what happens.
        stop: When requested, the blocks in hand are finished and no other is begun.
        manifest: The manifest of the output folder.
        worker: The process that segments.
        entries: The last entry of each scene, by the name of the scene.
        states: States of the files of scenes that were tried in this run.
        claimed: The scene of each output.
    """

    out_dir: Path
    model: Model
    segmenting: SegmentOptions
    options: BatchOptions
    creation_options: Mapping[str, str]
    listener: Listener
    stop: Stop
    manifest: Manifest
    worker: Worker
    entries: dict[str, Entry] = field(default_factory=dict)
    states: dict[str, object] = field(default_factory=dict)
    claimed: dict[Path, str] = field(default_factory=dict)

    def close(self, source: BatchInput, entry: Entry) -> None:
        """Count a scene's last entry, and tell the listener."""
        self.entries[source.name] = entry
        self.listener.ended(entry)

    @property
    def is_over(self) -> bool:
        """Whether to stop: as asked, or because as many scenes have failed as may."""
        failures = sum(entry.state == "failed" for entry in self.entries.values())
        most = self.options.max_failures
        return self.stop.requested or (most is not None and failures >= most)


def process_scene(batch: Batch, source: BatchInput, *, place: int, count: int) -> None:
    """Segment a scene, or find why not to; whatever happens is written down."""
    started = time.monotonic()
    entry = Entry(redact(source.name), "failed")
    try:
        state = identify(input_files(source))
        # While watching, a scene is looked at in every pass and tried once a change.
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
            batch.close(source, dataclasses.replace(entry, state="skipped", objects=objects))
            return
        batch.listener.began(entry.scene, place=place, count=count)
        check_source(source, allow_vrt=batch.options.allow_vrt)
        replaces = batch.options.overwrite or batch.manifest.owns(paths, batch.out_dir)
        batch.manifest.append(dataclasses.replace(entry, state="running"))
        for path in paths:
            make_folder(path.parent)
        outcome, attempts = attempt(batch, source, outputs, probs, replaces=replaces)
    except (GeohrError, OSError, UnicodeError) as error:
        code = error.exit_code if isinstance(error, GeohrError) else OutputError.exit_code
        outcome, attempts = failed(str(error), code), 1
    # Its line stays at `running`, and the next run goes on with it.
    if outcome.code == InterruptedRunError.exit_code:
        return
    entry = dataclasses.replace(
        entry,
        seconds=round(time.monotonic() - started, 3),
        attempts=attempts,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if outcome.error is None:
        entry = dataclasses.replace(
            entry, state="done", objects=outcome.objects, reused=outcome.reused
        )
    else:
        reason = redact(" ".join(outcome.error.split()))
        # The line of `running` keeps the names, which the next run may replace.
        entry = dataclasses.replace(entry, error=reason, code=outcome.code, outputs=())
    batch.manifest.append(entry)
    batch.close(source, entry)


def input_files(source: BatchInput) -> list[str]:
    """The names of the files that a scene is read from, as far as they are there.

    Raises:
        InputError: When the scene itself is gone.
    """
    if source.remote:
        return [source.name]
    path = Path(source.name)
    if not path.is_file():
        raise InputError(f"{source.name}: no such file; check the path")
    beside = [f"{source.name}{suffix}" for suffix in SIDECARS]
    beside += [str(path.with_suffix(suffix)) for suffix in GEOREFERENCES]
    return [source.name, *(name for name in beside if Path(name).is_file())]


def outputs_of(batch: Batch, source: BatchInput) -> tuple[list[Path], Path | None]:
    """The outputs of a scene and its raster of probabilities.

    Raises:
        InputError: When another scene of the batch has an output of the same name.
    """
    options = batch.options
    outputs = [output_path(batch.out_dir, each, source.name) for each in options.name]
    probs = None
    if options.probs_name:
        probs = output_path(batch.out_dir, options.probs_name, source.name)
    for path in (*outputs, *([probs] if probs else [])):
        other = batch.claimed.setdefault(path, source.name)
        if other != source.name:
            raise InputError(
                f"{source.name}: its output {path} is that of {other}; tell them apart with "
                "--name, such as {parent}_{stem}.gpkg"
            )
    return outputs, probs


def fingerprint(batch: Batch, state: object) -> str:
    """A digest of everything that the outputs of a scene depend on."""
    segmenting = batch.segmenting
    asked = [str(name) for name in (segmenting.aoi, segmenting.calibrate) if name is not None]
    # What is not there is for the run to say.
    named = [name for name in asked if "://" in name or Path(name).exists()]
    parts = {
        "input": state,
        "named": identify(named),
        "model": batch.model.digest,
        "options": dataclasses.asdict(segmenting),
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
    missing = [path for path in paths if not path.exists()]
    if batch.options.skip_existing and not missing:
        return True
    if batch.options.skip_existing:
        raise UsageError(
            f"{existing[0]}: exists, and no earlier batch has made it, while {missing[0]} does "
            "not; pass --overwrite to make both anew, or move it away"
        )
    raise UsageError(
        f"{existing[0]}: exists, and no earlier batch has made it; pass --overwrite to replace it "
        "or --skip-existing to leave its scene out"
    )


def attempt(
    batch: Batch, source: BatchInput, outputs: Sequence[Path], probs: Path | None, *, replaces: bool
) -> tuple[Outcome, int]:
    """Segment a scene, several times where it is read over a network; how it ended, how often."""
    options = batch.options
    task = Task(
        scene=source.name,
        outputs=tuple(outputs),
        probs=probs,
        stac=options.stac,
        model=str(batch.model.path),
        options=batch.segmenting,
        overwrite=replaces,
        work_dir=options.work_dir,
        resume=options.resume,
        dask=options.dask,
        block=options.block,
        creation_options=batch.creation_options,
    )
    attempts = 0
    for wait in waits(options.retries if source.remote else 0):
        attempts += 1
        outcome = batch.worker.run(
            task,
            timeout=options.timeout,
            stop=batch.stop,
            progress=lambda done, total: batch.listener.progress(task.scene, done, total),
        )
        # Only what could not be read may be readable a little later.
        if outcome.code != InputError.exit_code or wait is None:
            break
        batch.stop.sleep(wait)
        if batch.stop.requested:
            break
    return outcome, attempts


def waits(retries: int) -> Iterator[float | None]:
    """Seconds after each attempt, doubled each time; None after the last."""
    for number in range(retries):
        yield min(BACKOFF_SECONDS * 2**number, BACKOFF_SECONDS_MAX)
    yield None


def make_folder(folder: Path) -> None:
    """Make a folder, and those it lies in.

    Raises:
        OutputError: When it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise as_output_error(error, folder) from error
