"""Scenes segmented one after the other in a process of its own.

A scene that makes a library crash, or hang, or take all memory then ends that process and not the
batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from queue import Empty
from typing import Self

from geohr._runtime.child import Child, Parent
from geohr._runtime.stop import POLL_SECONDS, Stop
from geohr.errors import GeohrError, InterruptedRunError
from geohr.models.model import Model, resolve_model
from geohr.options import SegmentOptions
from geohr.tiling.blocks import BlockSize
from geohr.workflows.executors import executor_at


@dataclass(frozen=True)
class Task:
    """A task for a worker process: one scene to segment; see `geohr.segment_to_files`.

    Attributes:
        scene: Path or address.
        outputs: Files to write, by extension.
        probs: A raster of probabilities to write, or None.
        stac: Write a STAC Item beside the first output.
        model: A bundled name or a file; None for the default.
        options: The options of segmentation.
        overwrite: Replace outputs that exist.
        work_dir: The folder of finished blocks; None is beside the outputs.
        resume: Keep finished blocks, and use those of an earlier run.
        dask: Address of a cluster's scheduler; None for the worker's own process.
        block: Windows of a block, such as 4x4; None for the default.
        creation_options: Options of GDAL's COG driver for the rasters.
    """

    scene: str
    outputs: tuple[Path, ...]
    probs: Path | None
    stac: bool
    model: str | None
    options: SegmentOptions
    overwrite: bool
    work_dir: Path | None
    resume: bool
    dask: str | None
    block: str | None
    creation_options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a task.

    Attributes:
        objects: Polygons found, where polygons were asked for.
        reused: Blocks that an earlier run had finished.
        error: Why it failed; None where it did not.
        code: The exit code that it alone would have had.
    """

    objects: int | None = None
    reused: int = 0
    error: str | None = None
    code: int = 0


class Worker:
    """A process that segments scenes; started when it is first needed, and again after a crash.

    Args:
        allow_vrt: Whether VRT files can be opened at all.
    """

    def __init__(self, *, allow_vrt: bool) -> None:
        # Left out by GDAL itself, so that neither a disguised file nor a mask beside a scene can
        # be one.
        self._environment = {} if allow_vrt else {"GDAL_SKIP": "VRT"}
        self._child: Child | None = None

    def __enter__(self) -> Self:
        """The worker itself; nothing is started yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._end()

    def run(
        self,
        task: Task,
        *,
        timeout: float | None,
        stop: Stop,
        progress: Callable[[int, int], None],
    ) -> Outcome:
        """Segment one scene in the worker process.

        Args:
            task: The task.
            timeout: Seconds after which the process is ended.
            stop: When requested, the process is asked to stop too.
            progress: Called with windows done and windows in all.

        Returns:
            The outcome; a failed one also where the process crashed or took too long.
        """
        child = self._child = self._child or Child(serve, self._environment)
        child.send(task)
        deadline = None if timeout is None else time.monotonic() + timeout
        asked = False
        while True:
            if deadline is not None and time.monotonic() > deadline:
                self._end(at_once=True)
                return failed(f"took longer than {timeout:g} s, and was given up")
            if stop.requested and not asked:
                asked = True
                child.stop()
            if stop.overdue:
                self._end(at_once=True)
                return failed("stopped as asked", InterruptedRunError.exit_code)
            try:
                message = child.receive(POLL_SECONDS)
            except Empty:
                continue
            if message is None:
                return failed(how_it_ended(self._end()))
            if isinstance(message, Outcome):
                return message
            progress(*message)

    def _end(self, *, at_once: bool = False) -> int:
        """End the process, if there is one; its exit code."""
        child, self._child = self._child, None
        return child.end(at_once=at_once) if child is not None else 0


def how_it_ended(code: int) -> str:
    """Why a worker is gone, in words."""
    if code < 0:
        return f"the process that read it was ended by signal {-code}; it may be damaged"
    return f"the process that read it ended with code {code}"


def failed(error: str, code: int = GeohrError.exit_code) -> Outcome:
    """The outcome of a scene that failed."""
    return Outcome(error=error, code=code)


def serve(parent: Parent) -> None:
    """Segment the scenes that the parent process sends; runs in the worker process."""
    while True:
        parent.send(carry_out(parent.receive(), parent))


def carry_out(task: Task, parent: Parent) -> Outcome:
    """Segment one scene; runs in the worker process."""
    from geohr.api.segment import segment_to_files

    try:
        with executor_at(task.dask) as executor:
            summary = segment_to_files(
                task.scene,
                task.outputs,
                probs=task.probs,
                stac=task.stac,
                creation_options=task.creation_options,
                model=load_model(task.model),
                options=task.options,
                block_size=BlockSize.parse(task.block),
                executor=executor,
                overwrite=task.overwrite,
                progress=lambda done, total: parent.send((done, total)),
                work_dir=task.work_dir,
                resume=task.resume,
                stop=parent.stop,
            )
    except GeohrError as error:
        return failed(str(error), error.exit_code)
    except MemoryError:
        return failed("out of memory; use a smaller --tile")
    except Exception as error:
        return failed(f"unexpected {type(error).__name__}: {error}")
    return Outcome(objects=summary.objects, reused=summary.reused)


@lru_cache(maxsize=1)
def load_model(name: str | None) -> Model:
    """The model, read once for all scenes."""
    return resolve_model(name)
