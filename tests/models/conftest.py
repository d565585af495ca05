from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.models.local_hub import LocalHub, local_hub

torch.set_num_threads(1)

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    with local_hub(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def geohr_online(hub: LocalHub, tmp_path: Path) -> Run:
    """`geohr` in a process of its own: the hub's client reads its address on import."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        import os

        return subprocess.run(
            [sys.executable, "-m", "geohr_cli", *map(str, arguments)],
            env=os.environ | hub.environment(tmp_path / "cache"),
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )

    return run
