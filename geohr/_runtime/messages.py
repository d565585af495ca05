"""What Python prints on its own account, in the form that a log can hold."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from geohr._runtime.redact import redact

if TYPE_CHECKING:
    from sys import UnraisableHookArgs


def pass_over_unreadable_messages() -> None:
    """Say nothing where rasterio could not log a message because it was no UTF-8.

    Damaged files make such messages. That the file is damaged is told by the error that follows.
    """
    sys.unraisablehook = hook


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
