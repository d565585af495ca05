"""The log of a run: lines of text for people, or JSON for machines.

Lines go to stderr, so that stdout holds nothing but the summary.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import click

from geohr._runtime.progress import Report, heard
from geohr._runtime.redact import redact, redact_all
from geohr.options import Options, opt
from geohr_cli.facts import tell
from geohr_cli.progress import progress


@dataclass(frozen=True)
class LogOptions(Options):
    """How a run reports."""

    log_format: Literal["plain", "json"] = opt(
        "plain", "Format of the log: text (plain), or one JSON object per line (json)."
    )
    quiet: bool = opt(False, "Print only warnings and errors.")


class Log:
    """Writes what happens, as the options say.

    Args:
        options: Format and amount.
        as_json: Whether the summary alone is JSON, as `geohr_cli.facts.tell` prints it.
    """

    def __init__(self, options: LogOptions, *, as_json: bool = False) -> None:
        self._as_json = as_json
        self._json = options.log_format == "json"
        self._quiet = options.quiet

    def info(self, event: str, text: str, values: dict[str, object] | None = None) -> None:
        """A line on stderr.

        Args:
            event: A short name, for machines.
            text: A sentence, for people.
            values: What goes with the event.
        """
        if not self._quiet:
            self._write("info", event, text, values or {})

    def warn(self, event: str, text: str, values: dict[str, object] | None = None) -> None:
        """The same, also where nothing else is said."""
        self._write("warning", event, text, values or {})

    def summary(
        self,
        event: str,
        text: str,
        values: dict[str, object],
        *,
        more: Mapping[str, object] | None = None,
    ) -> None:
        """What is said on stdout: what was done.

        Args:
            event: A short name, for machines.
            text: A sentence, for people.
            values: What goes with the event.
            more: What `--json` prints besides, and is too long for a line of a log.
        """
        if self._as_json:
            tell(text, {**values, **(more or {})}, as_json=True)
        elif self._json:
            click.echo(line("info", event, text, values))
        elif not self._quiet:
            click.echo(redact(text))

    @contextmanager
    def progress(self, label: str) -> Iterator[Report]:
        """A function to call with what is done and how much there is."""
        if self._quiet:
            yield lambda _, __: None
        elif self._json:
            with self._progress_lines(label) as report:
                yield report
        else:
            with progress(label) as report:
                yield report

    @contextmanager
    def _progress_lines(self, label: str) -> Iterator[Report]:
        """A JSON line a second, for the last, and for each phase."""
        last, name = 0.0, ""

        def report(done: int, total: int) -> None:
            nonlocal last
            if done == total or time.monotonic() - last >= 1:
                last = time.monotonic()
                values: dict[str, object] = {"label": label, "done": done, "total": total}
                self.info("progress", f"{label}: {done} of {total}", {**values, "phase": name})

        def on_phase(phase: str) -> None:
            nonlocal name
            name = phase
            self.info("phase", f"{label}: {phase}", {"label": label, "phase": phase})

        with heard(on_phase, lambda _: None):
            yield report

    def _write(self, level: str, event: str, text: str, values: dict[str, object]) -> None:
        if self._json:
            print(line(level, event, text, values), file=sys.stderr, flush=True)
        else:
            print(redact(text), file=sys.stderr, flush=True)


def line(level: str, event: str, text: str, values: dict[str, object]) -> str:
    """An event as one line of JSON; the time is UTC."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    head = {"time": now, "level": level, "event": event, "message": text, "process": os.getpid()}
    return json.dumps(redact_all({**head, **values}), ensure_ascii=False, default=str)
