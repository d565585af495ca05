"""What became of each scene of a batch: one line of JSON a scene, appended and never rewritten."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from geohr._runtime.files import as_output_error, to_disk
from geohr._runtime.redact import redact_all

MANIFEST = "manifest.jsonl"
State = Literal["running", "done", "skipped", "failed", "growing"]


@dataclass(frozen=True)
class Entry:
    """The entry of a scene in the manifest of a batch.

    Attributes:
        scene: The name of the scene, without credentials.
        state: `running`, which stays where a run was cut short; `done`; `skipped`, for it was
            done before; `failed`; or `growing`, to be taken by the next run.
        seconds: The time that the scene took.
        objects: Polygons found, where polygons were asked for.
        outputs: Files, from the output folder on.
        error: Why it failed.
        code: The exit code that it alone would have had.
        attempts: The number of tries.
        reused: Blocks that an earlier run had finished.
        fingerprint: The fingerprint of input, model, options and version.
        finished: When, in UTC.
    """

    scene: str
    state: State
    seconds: float = 0.0
    objects: int | None = None
    outputs: tuple[str, ...] = ()
    error: str | None = None
    code: int = 0
    attempts: int = 0
    reused: int = 0
    fingerprint: str = ""
    finished: str = ""

    @property
    def reason(self) -> str:
        """The error without the scene's name, which stands beside it."""
        return (self.error or "").removeprefix(f"{self.scene}: ")


class Manifest:
    """The manifest of an output folder.

    Args:
        folder: The folder of the manifest, which is that of the outputs.

    Attributes:
        last: The last entry of each scene, by name.
        path: The file.

    Raises:
        OutputError: When it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / MANIFEST
        self.last: dict[str, Entry] = {}
        self._written: set[str] = set()
        try:
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                entry = parse(line)
                if entry is not None:
                    self._remember(entry)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise as_output_error(error, self.path) from error

    def append(self, entry: Entry) -> None:
        """Append an entry, and flush it to disk.

        Raises:
            OutputError: When the disk is full or went away.
        """
        self._remember(entry)
        try:
            line = json.dumps(redact_all(dataclasses.asdict(entry)), ensure_ascii=False)
            # Appended, never rewritten: a crash costs the line in hand alone.
            with self.path.open("ab+") as file:
                if (
                    file.seek(0, os.SEEK_END)
                    and file.seek(-1, os.SEEK_END)
                    and file.read(1) != b"\n"
                ):
                    # A line that a crash cut short is ended first, so that it spoils no other.
                    file.write(b"\n")
                file.write(line.encode() + b"\n")
                to_disk(file)
        except OSError as error:
            raise as_output_error(error, self.path) from error

    def _remember(self, entry: Entry) -> None:
        """Take note of an entry, and of the outputs that a batch has begun to write."""
        self.last[entry.scene] = entry
        # Also of runs that were cut short, whose half outputs may be replaced.
        if entry.state in ("running", "done"):
            self._written.update(entry.outputs)

    def made(self, entry: Entry) -> bool:
        """Whether a scene's outputs were made from the same input, model and options."""
        last = self.last.get(entry.scene)
        return (
            last is not None
            and last.state == "done"
            and last.fingerprint == entry.fingerprint
            and last.outputs == entry.outputs
        )

    def owns(self, outputs: Iterable[Path], folder: Path) -> bool:
        """Whether all of these files that exist were written by an earlier batch."""
        return all(relative(path, folder) in self._written for path in outputs if path.exists())


def relative(path: Path, folder: Path) -> str:
    """An output's name from the output folder on."""
    return path.relative_to(folder).as_posix()


def parse(line: str) -> Entry | None:
    """The entry in a line; None where a crash has cut it short, or another version wrote it."""
    with suppress(ValueError, TypeError):
        values: dict[str, Any] = json.loads(line)
        return Entry(**{**values, "outputs": tuple(values["outputs"])})
    return None


def table(entries: Iterable[Entry]) -> str:
    """Entries as lines of text, widths fitted to the names."""
    rows = [("state", "seconds", "objects", "scene", "")]
    rows += [
        (
            each.state,
            f"{each.seconds:.1f}",
            "" if each.objects is None else str(each.objects),
            each.scene,
            each.reason,
        )
        for each in entries
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  "
        f"{row[3]:<{widths[3]}}  {row[4]}".rstrip()
        for row in rows
    )
