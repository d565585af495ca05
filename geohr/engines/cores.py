"""What engines agree on, and what the machine offers, asked without importing an engine."""

from __future__ import annotations

import os
from pathlib import Path

# Windows, bands, rows and columns of a batch.
Shape = tuple[int, int, int, int]
# The names of a network's input and output.
PIXELS, SCORES = "pixels", "scores"


_callers: int | None = None


def share_cores(callers: int) -> None:
    """Let engines opened from now on share the cores among `callers` calling threads."""
    global _callers
    _callers = callers


def one_core_a_call() -> bool:
    """Whether each call of an engine may use one core only; see `share_cores`."""
    return _callers is not None


def cores() -> int:
    """Cores that engines may use."""
    if _callers is not None:
        return _callers
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_gpu() -> bool:
    """Whether an NVIDIA GPU's driver is loaded."""
    return Path("/proc/driver/nvidia/version").exists()
