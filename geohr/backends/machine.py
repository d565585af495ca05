"""What engines agree on, and what the machine offers, asked without importing an engine."""

from __future__ import annotations

import os
from pathlib import Path

Shape = tuple[int, int, int, int]
"""Windows, bands, rows and columns of a batch."""
PIXELS, SCORES = "pixels", "scores"
"""Names of a network's input and output."""


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_gpu() -> bool:
    """Whether an NVIDIA GPU's driver is loaded."""
    return Path("/proc/driver/nvidia/version").exists()
