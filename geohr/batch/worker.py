"""Segments scenes one after the other in a process of its own: `python -m geohr.batch.worker`.

A scene that makes a library crash, or hang, or take all memory, then ends this process and not
the batch. Tasks come as lines of JSON on stdin, what happens goes out as lines of JSON on stdout.
When stdin ends, so does the process: whoever started it is gone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TextIO

from geohr._runtime.messages import pass_over_unreadable_messages, show_warning
from geohr._runtime.stop import Stop
from geohr.errors import GeohrError, InterruptedRunError
from geohr.models.model import Model, resolve_model
from geohr.options import SegmentOptions
from geohr.tiling.blocks import BlockSize

if TYPE_CHECKING:
    from geohr.api.segment import Workplace


@dataclass(frozen=True)
class Task:
    """One scene to be segmented.

    Attributes:
        scene: Path or address.
        outputs: Files to write, by extension.
        probs: A raster of probabilities to write, or None.
        stac: Write a STAC Item beside the first output.
        model: A bundled name or a file; None for the default.
        options: Of `SegmentOptions`, by name.
        overwrite: Replace outputs that exist.
        work_dir: Where finished blocks are kept; None for beside the outputs.
        resume: Keep finished blocks, and use those of an earlier run.
        dask: Address of a cluster's scheduler; None for this process.
        block: Windows of a block, such as 4x4; None for the default.
    """

    scene: str
    outputs: tuple[str, ...]
    probs: str | None
    stac: bool
    model: str | None
    options: Mapping[str, Any]
    overwrite: bool
    work_dir: str | None
    resume: bool
    dask: str | None
    block: str | None


def serve(tasks: TextIO, answers: TextIO) -> None:
    """Carry out tasks until there are no more."""
    waiting: SimpleQueue[Task] = SimpleQueue()
    stop = Stop()
    threading.Thread(target=listen, args=(tasks, waiting, stop), daemon=True).start()
    while True:
        answer(carry_out(waiting.get(), answers, stop), answers)


def listen(tasks: TextIO, waiting: SimpleQueue[Task], stop: Stop) -> None:
    """Queue what comes; end the process where nothing more can come."""
    for line in tasks:
        values = json.loads(line)
        if values.pop("stop", False):
            stop.request()
        else:
            waiting.put(Task(**values))
    os._exit(InterruptedRunError.exit_code)


def carry_out(task: Task, answers: TextIO, stop: Stop) -> dict[str, Any]:
    """Segment one scene; the result or the error as JSON."""
    from geohr.api.segment import segment_to_files

    def progress(done: int, total: int) -> None:
        answer({"event": "progress", "done": done, "total": total}, answers)

    try:
        with workplace_at(task.dask) as workplace:
            summary = segment_to_files(
                task.scene,
                [Path(each) for each in task.outputs],
                probs=Path(task.probs) if task.probs else None,
                stac=task.stac,
                model=load_model(task.model),
                options=SegmentOptions.from_mapping(task.options, source="batch"),
                cut=BlockSize.parse(task.block),
                workplace=workplace,
                overwrite=task.overwrite,
                progress=progress,
                work_dir=Path(task.work_dir) if task.work_dir else None,
                resume=task.resume,
                stop=stop,
            )
    except GeohrError as error:
        return {"event": "failed", "code": error.exit_code, "error": str(error)}
    except MemoryError:
        return {"event": "failed", "code": 1, "error": "out of memory; use a smaller --tile"}
    except Exception as error:
        return {
            "event": "failed",
            "code": 1,
            "error": f"unexpected {type(error).__name__}: {error}",
        }
    return {"event": "done", **dataclasses.asdict(summary)}


@contextmanager
def workplace_at(dask: str | None) -> Iterator[Workplace | None]:
    """The cluster at an address; None for this process."""
    if dask is None:
        yield None
        return
    from geohr.cluster import Cluster, connected

    with connected(dask) as client:
        yield Cluster(client)


@lru_cache(maxsize=1)
def load_model(name: str | None) -> Model:
    """The model, read once for all scenes."""
    return resolve_model(name)


def answer(values: Mapping[str, Any], answers: TextIO) -> None:
    """Send one line."""
    answers.write(json.dumps(values) + "\n")
    answers.flush()


def main() -> None:
    """Serve stdin, with stdout kept free of what libraries may print."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    pass_over_unreadable_messages()
    warnings.showwarning = show_warning
    serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
