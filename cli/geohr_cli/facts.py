"""What a command prints of its result: text for people, or with `--json` one object."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from geohr._runtime.redact import redact, redact_all

Command = TypeVar("Command", bound=Callable[..., Any])
STARTED = "geohr_cli.started"


def json_option(command: Command) -> Command:
    """Add `--json`, passed as `as_json`: one JSON object on stdout instead of text."""
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        callback=start_clock,
        help="Print the result as one JSON object instead of text.",
    )(command)


def start_clock(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    """Note when the command began, for `seconds`."""
    del param
    ctx.meta[STARTED] = time.monotonic()
    return value


def tell(text: str, facts: Mapping[str, object], *, as_json: bool) -> None:
    """Print the result of the command that is running, without credentials.

    Args:
        text: For people.
        facts: For programs, by the names that docs/reference/json.md lists; `seconds` are added
            where they are not among them. Numbers that are not finite become null.
        as_json: Whether `--json` was given.
    """
    if not as_json:
        click.echo(redact(text))
        return
    seconds = facts.get("seconds", time.monotonic() - click.get_current_context().meta[STARTED])
    values = redact_all(plain({**facts, "seconds": round(float(str(seconds)), 3)}))
    click.echo(json.dumps(values, ensure_ascii=False))


def plain(value: object) -> object:
    """A value as JSON has it: paths as text, None for numbers that are not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value
