"""Messages of GDAL's that Python cannot read, which rasterio lets pass as tracebacks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

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
