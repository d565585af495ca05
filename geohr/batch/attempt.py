"""One scene of a batch: left out, segmented, or failed; whatever happens is written down."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from geohr import __version__
from geohr._runtime.files import as_output_error
from geohr._runtime.redact import redact
from geohr.batch.inputs import Source, check_source
from geohr.batch.manifest import Entry, relative
from geohr.batch.names import output_path, output_paths
from geohr.batch.state import Batch, close, pause
from geohr.batch.worker import Task
from geohr.errors import GeohrError, InputError, InterruptedRunError, OutputError, UsageError
from geohr.outputs.stac import item_beside
from geohr.scene.provenance import identify

SIDECARS = (".msk", ".ovr", ".aux.xml")
"""Files beside a raster that change what is read from it."""
GEOREFERENCES = (".tfw", ".jgw", ".pgw", ".wld", ".hdr")
"""The same, named after it without its suffix."""
BACKOFF_SECONDS = 1.0
"""Before the first repetition; doubled before each further one."""
BACKOFF_SECONDS_MAX = 60.0


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
    path = Path(source.name)
    beside = [f"{source.name}{suffix}" for suffix in SIDECARS]
    beside += [str(path.with_suffix(suffix)) for suffix in GEOREFERENCES]
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


def make_folder(folder: Path) -> None:
    """Make a folder, and those it lies in.

    Raises:
        OutputError: When it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise as_output_error(error, folder) from error
