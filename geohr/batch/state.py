"""What a batch knows while it runs, and whom it tells."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from geohr._runtime.stop import Stop
from geohr.batch.inputs import Source
from geohr.batch.manifest import Entry, Manifest
from geohr.batch.options import BatchOptions
from geohr.batch.worker_client import Worker
from geohr.models.model import Model
from geohr.options import SegmentOptions

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


def close(batch: Batch, source: Source, entry: Entry) -> None:
    """Count an entry, and tell of it."""
    batch.entries[source.name] = entry
    batch.listener.ended(entry)


def pause(seconds: float, stop: Stop) -> None:
    """Wait, unless asked to stop."""
    until = time.monotonic() + seconds
    while not stop.requested and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, POLL_SECONDS))
