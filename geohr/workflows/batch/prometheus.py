"""Numbers of a batch as node exporter's textfile collector reads them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from geohr._runtime.files import written_whole
from geohr.workflows.batch.manifest import Entry, State


def write_metrics(path: Path, entries: Sequence[Entry], *, seconds: float, code: int) -> None:
    """Write the numbers of a batch to a `.prom` in the collector's folder, whole or not at all.

    Raises:
        OutputError: When it cannot be written.
    """
    lines = ["# HELP geohr_batch_scenes Scenes of the last batch.", *head("scenes")]
    for state in get_args(State):
        number = sum(entry.state == state for entry in entries)
        lines.append(f'geohr_batch_scenes{{state="{state}"}} {number}')
    objects = sum(entry.objects or 0 for entry in entries)
    values = {
        "objects": ("Objects found by the last batch.", objects),
        "seconds": ("Duration of the last batch.", round(seconds, 3)),
        "exit_code": ("Exit code of the last batch.", code),
        "finished_time_seconds": ("When the last batch ended, in Unix time.", round(time.time())),
    }
    for name, (text, value) in values.items():
        lines += [f"# HELP geohr_batch_{name} {text}", *head(name), f"geohr_batch_{name} {value}"]
    with written_whole(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")


def head(name: str) -> list[str]:
    """The line that says what kind of number follows."""
    return [f"# TYPE geohr_batch_{name} gauge"]
