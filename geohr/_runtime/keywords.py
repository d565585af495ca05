"""Options as the keywords of a call, checked as those of the command line are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from geohr.errors import UsageError
from geohr.options import Options, choices

Chosen = TypeVar("Chosen", bound=Options)

# What the type of a field is called in a message.
KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}


def kind_of(hint: Any) -> str:
    """What a value of an annotated type is called."""
    for part in get_args(hint) or (hint,):
        if get_origin(part) is tuple or get_origin(hint) is tuple:
            return "several numbers"
        if part in KINDS:
            return KINDS[part]
    return "a path"


def is_of(value: object, hint: Any) -> bool:
    """Whether a value is of an annotated type; whole numbers are numbers, truth values are not."""
    parts = get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(is_of(each, parts[0]) for each in value)
    if parts:
        return any(is_of(value, part) for part in parts)
    if hint in (int, float):
        kind = Integral if hint is int else Real
        return isinstance(value, kind) and not isinstance(value, bool)
    return isinstance(value, hint)


def with_keywords(options: Chosen, keywords: Mapping[str, Any], *, source: str) -> Chosen:
    """The options with some of them changed.

    Args:
        options: The options as they were.
        keywords: Field names to values. A number, path or CRS may stand where a field holds text.
        source: What the keywords were given to, for the message of an error.

    Raises:
        UsageError: For a name that is no option (the nearest one is named) or a bad value.
    """
    hints = get_type_hints(type(options))
    changes = options.parse(keywords, source=source)
    for name, value in changes.items():
        hint = hints[name]
        textual = str in (hint, *get_args(hint))
        if textual and value is not None and not isinstance(value, (str, bool, tuple)):
            changes[name] = str(value)
        elif not choices(hint) and not is_of(value, hint):
            raise UsageError(f"{name} must be {kind_of(hint)}; got {value!r}")
    return dataclasses.replace(options, **changes)
