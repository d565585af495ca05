"""Flags made from the fields of an options dataclass, and from a TOML file."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import click

from geohr._runtime.stores import is_object
from geohr.errors import UsageError
from geohr.options import Options, choices

Command = TypeVar("Command", bound=Callable[..., Any])
Chosen = TypeVar("Chosen", bound=Options)


class Numbers(click.ParamType[tuple[int | float, ...]]):
    """Numbers separated by commas.

    Args:
        kind: `int` or `float`.
    """

    name = "numbers"

    def __init__(self, kind: type[int] | type[float]) -> None:
        self._kind = kind

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int | float, ...]:
        """The numbers in a text, or in a list from a TOML file."""
        parts = value.split(",") if isinstance(value, str) else value
        try:
            return tuple(self._kind(part) for part in parts)
        except (TypeError, ValueError):
            self.fail(f"{value!r} is not a list of numbers such as 3,2,1", param, ctx)


def options_of(kind: type[Options]) -> Callable[[Command], Command]:
    """A decorator that adds a flag for each field; `chosen` gives what they were set to."""

    def decorate(command: Command) -> Command:
        hints = get_type_hints(kind)
        for each in reversed(dataclasses.fields(kind)):
            command = flag(each, hints[each.name])(command)
        return command

    return decorate


def chosen(kind: type[Chosen]) -> Chosen:
    """The options of the command that is running.

    Raises:
        UsageError: When a value is out of its bounds.
    """
    values = click.get_current_context().meta
    return kind(**{each.name: values[each.name] for each in dataclasses.fields(kind)})


def creation_option(command: Command) -> Command:
    """A decorator that adds `--co`; the command gets `co`, text by name."""
    return click.option(
        "--co",
        multiple=True,
        metavar="NAME=VALUE",
        callback=named_values,
        help="Creation option of the rasters, as GDAL's COG driver names them, such as "
        "COMPRESS=ZSTD; repeatable.",
    )(command)


def named_values(
    ctx: click.Context, param: click.Parameter, pairs: tuple[str, ...]
) -> dict[str, str]:
    """Values by name.

    Raises:
        UsageError: For one without a name.
    """
    del ctx
    for pair in pairs:
        if "=" not in pair:
            raise UsageError(f"{param.opts[0]} {pair}: give NAME=VALUE, such as COMPRESS=ZSTD")
    return dict(pair.split("=", 1) for pair in pairs)


def flag(described: dataclasses.Field[Any], hint: Any) -> Callable[[Command], Command]:
    """The click option of one field."""
    # A field whose flag would be a word of Python's, such as --for, ends in an underscore.
    name = "--" + described.name.rstrip("_").replace("_", "-")
    text, metavar = described.metadata["help"], described.metadata["metavar"]
    listed = [choice for choice in choices(hint) if choice is not None]
    if hint is bool or bool in get_args(hint):
        return click.option(
            f"{name}/--no-{name[2:]}",
            described.name,
            default=described.default,
            help=text,
            callback=keep,
            expose_value=False,
        )
    return click.option(
        name,
        described.name,
        type=click.Choice(listed) if listed else value_type(hint),
        default=described.default,
        show_default=described.default is not None,
        metavar=metavar,
        help=text,
        callback=keep,
        expose_value=False,
    )


def keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep a flag's value for `chosen`."""
    ctx.meta[str(param.name)] = value


class Texts(click.ParamType[tuple[str, ...]]):
    """Texts separated by commas."""

    name = "texts"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The texts in a text, or in a list from a TOML file."""
        return tuple(value.split(",") if isinstance(value, str) else value)


class Target(click.ParamType[str | Path]):
    """A path, or the URL of an object in a store."""

    name = "file"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | Path:
        """Leave URLs as they are and make paths of all else."""
        return value if isinstance(value, Path) or is_object(value) else Path(value)


def value_type(hint: Any) -> Any:
    """The click type of an annotation."""
    parts = [part for part in (get_args(hint) or (hint,)) if part is not type(None)]
    for part in (hint, parts[0]):
        if get_origin(part) is tuple:
            kind = get_args(part)[0]
            return Texts() if kind is str else Numbers(kind)
    return parts[0]


def config_option(command: Command) -> Command:
    """Add `--config FILE.toml`: values for any of the command's flags; flags win over it."""
    return click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        callback=load_config,
        is_eager=True,
        expose_value=False,
        metavar="FILE.toml",
        help="Read options from a TOML file, named like the flags; flags take precedence.",
    )(command)


def load_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Make the values of a TOML file the command's defaults.

    Raises:
        UsageError: When the file cannot be read, is not TOML, or names an unknown option.
    """
    if path is None:
        return
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: not a TOML file that can be read ({error})") from error
    own = values.get(str(ctx.info_name))
    # An option may have the command's name, such as --tile of `geohr tile`.
    values = own if isinstance(own, dict) else values
    known = {str(param.name) for param in ctx.command.params if param.name != "config"}
    plain = {name.replace("-", "_"): value for name, value in values.items()}
    plain = {f"{name}_" if f"{name}_" in known else name: plain[name] for name in plain}
    for name in plain.keys() - known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
        raise UsageError(f"{path}: unknown option {name!r}; {hint}")
    ctx.default_map = {**(ctx.default_map or {}), **plain}


def debug_option(command: Command) -> Command:
    """Add `--debug`, which `main` looks for: tracebacks instead of one line."""
    return click.option(
        "--debug", is_flag=True, expose_value=False, help="Show a traceback after an error."
    )(command)
