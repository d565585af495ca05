from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from geohr.models.hub import reachable
from tests.command import Ended, Geohr
from tests.models.local_hub import LocalHub, local_hub

torch.set_num_threads(1)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    with local_hub(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def geohr_online(
    hub: LocalHub, tmp_path: Path, geohr: Geohr, monkeypatch: pytest.MonkeyPatch
) -> Geohr:
    """The command line in `tmp_path`, with the hub of this machine."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Ended:
        hub.lead_here(monkeypatch, tmp_path / "cache")
        reachable.cache_clear()
        try:
            with warnings.catch_warnings():
                # The hub's client and the one of HTTP below it are not of one opinion.
                warnings.filterwarnings("ignore", "Use 'content=", DeprecationWarning)
                return geohr(*arguments)
        finally:
            reachable.cache_clear()

    return run
