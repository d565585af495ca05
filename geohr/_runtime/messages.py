"""Warnings, and what libraries print on their own account, in the form that a log can hold."""

from __future__ import annotations

import inspect
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from geohr._runtime.redact import redact
from geohr.errors import GeohrError

if TYPE_CHECKING:
    from sys import UnraisableHookArgs


# A flag of the command line, with its value where that is a number, a list or a placeholder.
FLAG = re.compile(r"(?<![\w-])--(no-)?([a-z]+(?:-[a-z]+)*)(?: ([A-Z]{2,}\b|[\d.,]*\d))?")


def as_keywords(message: str) -> str:
    """A message with the flags of the command line as the keywords that they are in Python."""

    def keyword(found: re.Match[str]) -> str:
        name, value = found[2].replace("-", "_"), "False" if found[1] else found[3]
        if value is None:
            return name
        return f"{name}=({value.replace(',', ', ')})" if "," in value else f"{name}={value}"

    return FLAG.sub(keyword, message)


def amount(number: int, noun: str) -> str:
    """A number with what it counts, such as 1 object or 1,234 classes."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def first_line(error: BaseException) -> str:
    """The first line of what an error says, without a full stop; its kind if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@contextmanager
def python_words() -> Iterator[None]:
    """Within the block, errors speak of keywords instead of flags, as warnings do."""
    try:
        yield
    except GeohrError as error:
        error.args = (as_keywords(str(error)),)
        raise


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the caller's own code that led here, however deep inside geohr it is.

    Python shows each place's warning once, so that a warning about each of two scenes needs places
    outside of this package.
    """
    if warnings.showwarning is not show_warning:
        message = as_keywords(message)
    level, frame = 1, inspect.currentframe()
    # The generator of a context manager is entered by contextlib.
    ours = {"geohr", "contextlib"}
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ours:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


class OwnLines(logging.Handler):
    """Writes a record as one line on stderr, as warnings are."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line; see `show_warning`."""
        show_warning(record.getMessage(), UserWarning, "", 0)


_LINES = OwnLines(logging.WARNING)
_NOTHING = logging.NullHandler()


def take_over_messages() -> None:
    """Give stderr to geohr alone, in a process of its own: a command line's or a worker's.

    Warnings and geohr's own log are lines that begin with its name. What libraries log, and what
    GDAL, PROJ and libgeotiff print from C, is left out: what matters of it comes as an error.
    """
    # Both are read once, when the libraries are loaded, and there is no other switch for what is
    # printed without one of rasterio's environments, such as libgeotiff's "Cannot find proj.db".
    os.environ.setdefault("CPL_LOG", os.devnull)
    os.environ.setdefault("PROJ_DEBUG", "0")
    logging.getLogger().addHandler(_NOTHING)
    logging.getLogger("geohr").addHandler(_LINES)
    # Damaged files make messages that are no UTF-8, which rasterio cannot log.
    sys.unraisablehook = hook
    warnings.showwarning = show_warning


def hook(unraisable: UnraisableHookArgs) -> None:
    """Leave out what rasterio's logging could not read; the rest goes where it went."""
    unreadable = isinstance(unraisable.exc_value, UnicodeDecodeError)
    if not (unreadable and "rasterio" in str(unraisable.object)):
        sys.__unraisablehook__(unraisable)


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Write a warning as one line, without the place in the code; see `warnings.showwarning`."""
    text = redact(" ".join(str(message).split()))
    (file or sys.stderr).write(f"geohr: warning: {text}\n")
