"""`geohr batch`: many scenes into one folder, unattended."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from geohr._runtime.messages import amount
from geohr.errors import BatchError, GeohrError
from geohr.options import SegmentOptions
from geohr.workflows.batch.manifest import MANIFEST, Entry, table
from geohr.workflows.batch.options import BatchOptions
from geohr_cli.facts import json_option
from geohr_cli.flags import chosen, config_option, creation_option, debug_option, options_of
from geohr_cli.logs import Log, LogOptions
from geohr_cli.signals import stop_on_signals


class Reporter:
    """Says what becomes of each scene.

    Args:
        log: Where it is said.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._said = 0.0
        self.entries: dict[str, Entry] = {}

    def began(self, scene: str, *, place: int, count: int) -> None:
        """A scene is being segmented."""
        values: dict[str, object] = {"scene": scene, "place": place, "count": count}
        self._log.info("began", f"[{place}/{count}] {scene}", values)
        self._said = time.monotonic()

    def progress(self, scene: str, done: int, total: int) -> None:
        """Windows of it are done; said every ten seconds."""
        if time.monotonic() - self._said >= 10:
            self._said = time.monotonic()
            values: dict[str, object] = {"scene": scene, "done": done, "total": total}
            self._log.info("progress", f"{scene}: {done:,} of {amount(total, 'window')}", values)

    def ended(self, entry: Entry) -> None:
        """A scene is done, was left out, or failed."""
        self.entries[entry.scene] = entry
        say = self._log.warn if entry.state == "failed" else self._log.info
        detail = f": {entry.reason}" if entry.error else f" in {entry.seconds:.1f} s"
        say(entry.state, f"{entry.scene}: {entry.state}{detail}", dataclasses.asdict(entry))


@click.command()
@click.argument("scenes", nargs=-1, required=True)
@click.option(
    "--out-dir",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder for the outputs and the manifest.",
)
@click.option(
    "--model",
    metavar="NAME|FILE",
    help="Name of a bundled model, or a .safetensors file.  [default: buildings]",
)
@click.option(
    "--merge",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also merge the polygons of all scenes; objects seen in two scenes are kept once.",
)
@click.option(
    "--metrics-file",
    type=click.Path(path_type=Path),
    metavar="FILE.prom",
    help="Write metrics for the node exporter of Prometheus.",
)
@creation_option
@options_of(BatchOptions)
@options_of(SegmentOptions)
@options_of(LogOptions)
@config_option
@json_option
@debug_option
def batch(
    scenes: tuple[str, ...],
    out_dir: Path,
    model: str | None,
    merge: Path | None,
    metrics_file: Path | None,
    co: dict[str, str],
    as_json: bool,
) -> None:
    """Find objects in many SCENES.

    SCENES are files, folders, globs, URLs, lists (.txt), tables (.csv) or STAC items (.json).
    Scenes that are already done are skipped; those that fail are reported, and the next run tries
    them again.

    Example: geohr batch drop/ --out-dir results --name "{stem}_buildings.gpkg"
    """
    from geohr.workflows.batch.run import run_batch

    options, segmenting = chosen(BatchOptions), chosen(SegmentOptions)
    log = Log(chosen(LogOptions), as_json=as_json)
    reporter = Reporter(log)
    with (
        measured(reporter, metrics_file),
        stop_on_signals() as stop,
        scheduler_of(options.dask) as dask,
    ):
        options = dataclasses.replace(options, dask=dask)
        started = time.monotonic()
        merged: dict[str, object] | None = None
        try:
            entries = run_batch(
                scenes,
                out_dir,
                listener=reporter,
                model=model,
                segmenting=segmenting,
                options=options,
                creation_options=co,
                stop=stop,
            )
            if merge is not None and any(each.state in ("done", "skipped") for each in entries):
                merged = join(entries, out_dir, merge, log, model)
        finally:
            seconds = time.monotonic() - started
            report(log, list(reporter.entries.values()), seconds, out_dir, merged)
        failures = [entry for entry in entries if entry.state == "failed"]
        if failures:
            raise BatchError(
                f"{len(failures):,} of {amount(len(entries), 'scene')} failed; "
                f"see {out_dir / MANIFEST}"
            )


@contextmanager
def scheduler_of(dask: str | None) -> Iterator[str | None]:
    """The address of the cluster that `--dask` names, one for all scenes; None without it."""
    if dask is None:
        yield None
        return
    from geohr.cluster import served

    with served(dask) as address:
        yield address


@contextmanager
def measured(reporter: Reporter, path: Path | None) -> Iterator[None]:
    """Write the numbers of what runs within the block, however it ends."""
    started, code = time.monotonic(), GeohrError.exit_code
    try:
        yield
        code = 0
    except GeohrError as error:
        code = error.exit_code
        raise
    finally:
        if path is not None:
            from geohr.workflows.batch.prometheus import write_metrics

            seconds = time.monotonic() - started
            write_metrics(path, list(reporter.entries.values()), seconds=seconds, code=code)


def report(
    log: Log,
    entries: Sequence[Entry],
    seconds: float,
    out_dir: Path,
    merged: dict[str, object] | None,
) -> None:
    """A table of what is not simply done or skipped, and a line that a program can read."""
    if not entries:
        return
    log.info("table", table(entries), {"scenes": len(entries)})
    there = [entry for entry in entries if entry.state in ("done", "skipped")]
    states = ("done", "skipped", "failed", "growing")
    counts = {state: sum(entry.state == state for entry in entries) for state in states}
    values: dict[str, object] = {
        **counts,
        "objects": sum(entry.objects or 0 for entry in entries),
        "seconds": round(seconds, 1),
    }
    text = " ".join(f"{name}={value}" for name, value in values.items())
    written = {
        "outputs": [out_dir / each for entry in there for each in entry.outputs],
        "manifest": out_dir / MANIFEST,
        "merged": merged,
    }
    log.summary("batch", f"geohr batch: {text}", values, more=written)


def join(
    entries: Sequence[Entry], out_dir: Path, path: Path, log: Log, model: str | None
) -> dict[str, object]:
    """Join the polygons of all scenes that are done, now or before; anew each time.

    Returns:
        `output`, `objects`, and how many were left out as seen `twice`.
    """
    from geohr.models.model import resolve_model
    from geohr.outputs.vector import EXTENSIONS
    from geohr.workflows.batch.merge import merge_files

    files = [
        out_dir / output
        for entry in entries
        if entry.state in ("done", "skipped")
        for output in entry.outputs
        if Path(output).suffix.lower() in EXTENSIONS
    ]
    colours = {label.name: label.colour for label in resolve_model(model).card.classes}
    merged = merge_files(files, path, colours=colours, overwrite=True)
    values: dict[str, object] = {"output": str(path), "objects": merged.kept, "twice": merged.twice}
    text = f"{path}: {amount(merged.kept, 'object')}, {merged.twice:,} seen twice left out"
    log.info("merged", text, values)
    return values
