"""Finished blocks on disk, so that a run that was cut short goes on where it stopped.

    ROOT/NAME/lock                       held while a run writes the outputs of that name
    ROOT/NAME/FINGERPRINT/block-N.npz    a finished block, whole or not there
    ROOT/NAME/FINGERPRINT/strip-*.npz    finished rows, traced, where that is done apart
    ROOT/NAME/FINGERPRINT/edge-*.npz     buildings that cross the edge between two strips
    ROOT/NAME/FINGERPRINT/reading-*/     the blocks of a coarser reading, likewise
    ROOT/NAME/FINGERPRINT/reading-*.tif  a coarser reading that is finished
    ROOT/NAME/FINGERPRINT/journal.jsonl  what happened, a line an event

A block is written under another name and renamed. It is not waited for until it is on the disk:
what a power cut leaves of it does not pass its checksums, and is predicted again. Blocks under
another fingerprint are of a run that can no longer go on, and are removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from geohr._runtime.files import as_output_error, remove_empty, to_disk
from geohr._runtime.locks import locked
from geohr.geobox import Window
from geohr.stitching.blocks import BlockScores
from geohr.stitching.mosaic import Part
from geohr.tiling.blocks import Block

# Beside the outputs, where no other folder is named.
WORK_FOLDER = ".geohr-work"
JOURNAL = "journal.jsonl"
LOCK = "lock"
# Long enough for a run that was killed a moment ago to be gone.
LOCK_WAIT_SECONDS = 2.0


class WorkFolder:
    """The finished blocks of one run; a `geohr.inference.pipeline.BlockStore`.

    Args:
        folder: Named by the run's fingerprint; made where it is missing.
        note: The identity of the run, for readers of the journal.

    Attributes:
        finished: Indices of the blocks that an earlier run finished.
        published: Whether an earlier run came as far as giving outputs their names.
        folder: The folder.

    Raises:
        OutputError: When it cannot be written.
    """

    def __init__(self, folder: Path, note: Mapping[str, object]) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.published = was_published(folder)
            found = {int(path.stem.partition("-")[2]): path for path in folder.glob("block-*.npz")}
            self.finished = frozenset(index for index, path in found.items() if is_whole(path))
            damaged = [path for index, path in found.items() if index not in self.finished]
            strips = (*folder.glob("strip-*.npz"), *folder.glob("edge-*.npz"))
            damaged += [path for path in strips if not is_whole(path)]
            for path in (*folder.glob("*.part"), *damaged):
                path.unlink()
        except OSError as error:
            raise as_output_error(error, folder) from error
        self.note("start", {**note, "process": os.getpid(), "reused": sorted(self.finished)})

    def begin(self, block: Block) -> None:
        """Take note that a block's windows are being read."""
        self.note("begin", {"block": block.index})

    def save(self, block: Block, scores: BlockScores) -> None:
        """Write a finished block.

        Raises:
            OutputError: When the disk is full or went away.
        """
        save_block(self.folder, block, scores)
        self.done(block, {"windows": scores.windows})

    def done(self, block: Block, values: Mapping[str, object]) -> None:
        """Take note that a block is kept."""
        self.note("done", {"block": block.index, **values})

    def load(self, block: Block) -> BlockScores:
        """Read a finished block.

        Raises:
            OutputError: When it went away.
        """
        return load_block(self.folder, block)

    def publish(self) -> None:
        """Take note, for good, that from now on outputs get their names."""
        self.note("publish", {}, durable=True)

    def note(self, event: str, values: Mapping[str, object], *, durable: bool = False) -> None:
        """Append a line to the journal."""
        line = json.dumps({"event": event, "time": time.time(), **values}, sort_keys=True)
        path = self.folder / JOURNAL
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
                if durable:
                    to_disk(file)
        except OSError as error:
            raise as_output_error(error, path) from error


def block_path(folder: Path, block: Block) -> Path:
    """The file of a block in a work folder."""
    return folder / f"block-{block.index:06d}.npz"


def save_block(folder: Path, block: Block, scores: BlockScores) -> None:
    """Keep a block, whole or not at all, whoever else writes the same one.

    Raises:
        OutputError: When the folder is not there, or the disk is full.
    """
    save_arrays(block_path(folder, block), to_arrays(scores))


def load_block(folder: Path, block: Block) -> BlockScores:
    """Read a finished block.

    Raises:
        OutputError: When it went away.
    """
    return from_arrays(load_arrays(block_path(folder, block)))


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read what `save_arrays` wrote.

    Raises:
        OutputError: When it went away.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except OSError as error:
        raise as_output_error(error, path) from error


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Keep named arrays, whole or not at all, whoever else writes the same ones.

    Raises:
        OutputError: When the folder is not there, or the disk is full.
    """
    part = path.with_suffix(f".{uuid4().hex[:8]}.part")
    try:
        with part.open("wb") as file:
            np.savez(file, **arrays)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise as_output_error(error, path) from error


@contextmanager
def locked_outputs(outputs: Sequence[Path], root: Path, name: str) -> Iterator[None]:
    """Hold the outputs of a run, by their final names, so that no other run writes any of them.

    The run holds its own lock in `root`, the folder of all work folders, under `work_name`.

    Raises:
        LockedError: When another run writes one of them.
        OutputError: When a folder cannot be written.
    """
    # Two locks a file: that of the run, under which it is made, and its own, for runs that have it
    # in common with this one and write others besides.
    homes = {path.parent.resolve() / WORK_FOLDER / name: name for path in outputs}
    homes |= {
        path.parent.resolve() / WORK_FOLDER / work_name([path]): path.name for path in outputs
    }
    homes.pop(root.resolve() / name, None)
    try:
        with ExitStack() as stack:
            for home, what in sorted(homes.items()):
                stack.enter_context(locked(home / LOCK, what=what, wait=LOCK_WAIT_SECONDS))
            yield
    finally:
        for home in homes:
            remove_empty(home, home.parent)


@contextmanager
def work_folder(
    root: Path, name: str, fingerprint: Mapping[str, object], *, resume: bool = True
) -> Iterator[WorkFolder]:
    """The work folder of a run, locked; it is removed when the block ends without an error.

    Args:
        root: The folder of all work folders.
        name: The name of the outputs; two runs that write the same outputs have the same name.
        fingerprint: All that the blocks depend on.
        resume: Keep what an earlier run with this fingerprint has left.

    Raises:
        LockedError: When another run writes the same.
        OutputError: When the folder cannot be written.
    """
    digest = hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:32]
    home = root / name
    folder = home / digest
    try:
        with locked(home / LOCK, what=name, wait=LOCK_WAIT_SECONDS):
            for other in home.iterdir():
                if other.is_dir() and not (resume and other == folder):
                    shutil.rmtree(other, ignore_errors=True)
            try:
                yield WorkFolder(folder, {"fingerprint": fingerprint})
            except BaseException:
                kept = (*folder.rglob("block-*"), *folder.glob("reading-*.tif"))
                if not kept and not was_published(folder):
                    shutil.rmtree(folder, ignore_errors=True)
                raise
            # The journal last: until it is gone, it says that the outputs are this run's.
            for path in folder.glob("block-*"):
                path.unlink()
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        remove_empty(home, root)


def was_published(folder: Path) -> bool:
    """Whether a run came as far as giving outputs their names."""
    return any(each.get("event") == "publish" for each in read_journal(folder))


def read_journal(folder: Path) -> list[dict[str, object]]:
    """The events of a journal; a line that a crash cut short is left out."""
    events = []
    with suppress(FileNotFoundError):
        for line in (folder / JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError):
                events.append(json.loads(line))
    return [each for each in events if isinstance(each, dict)]


def to_arrays(scores: BlockScores) -> dict[str, Any]:
    """The sums of a block as named arrays."""
    arrays: dict[str, Any] = {
        "finished": scores.finished,
        "windows": np.array(scores.windows),
    }
    if scores.core is not None:
        arrays["core"] = corners(scores.core)
    for number, part in enumerate(scores.parts):
        arrays[f"window{number}"] = corners(part.window)
        arrays[f"sums{number}"] = part.sums
        arrays[f"weights{number}"] = part.weights
        arrays[f"valid{number}"] = part.valid
    return arrays


def from_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> BlockScores:
    """The block that `to_arrays` was given."""

    def window(name: str) -> Window:
        row, col, height, width = arrays[name].tolist()
        return Window(row, col, height, width)

    numbers = range(sum(name.startswith("sums") for name in arrays))
    return BlockScores(
        core=window("core") if "core" in arrays else None,
        finished=arrays["finished"].astype(np.uint8, copy=False),
        parts=tuple(
            Part(
                window(f"window{number}"),
                arrays[f"sums{number}"].astype(np.uint32, copy=False),
                arrays[f"weights{number}"].astype(np.uint32, copy=False),
                arrays[f"valid{number}"].astype(bool, copy=False),
            )
            for number in numbers
        ),
        windows=int(arrays["windows"].item()),
    )


def corners(window: Window) -> NDArray[np.int64]:
    """The corners of a window as four numbers."""
    return np.array([window.row, window.col, window.height, window.width], np.int64)


def is_whole(path: Path) -> bool:
    """Whether a block's file is as it was written, by its checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError):
        return False


def machine() -> str:
    """The kind of processor and libraries, on which the last bits of scores depend."""
    told = [processor(), str(os.cpu_count()), os.environ.get("OMP_NUM_THREADS", "")]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


@cache
def processor() -> str:
    """The kind of processor, by what it can do."""
    told = [platform.machine()]
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        told += sorted({each for each in lines if each.startswith(("flags", "Features"))})
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]


def work_name(outputs: Iterable[Path]) -> str:
    """A name for what is written, the same for the same outputs."""
    paths = [str(path.resolve()) for path in outputs]
    return (
        f"{Path(paths[0]).name}-{hashlib.sha256(os.fsencode(chr(0).join(paths))).hexdigest()[:8]}"
    )
