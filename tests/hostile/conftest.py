from __future__ import annotations

from pathlib import Path

import pytest

from tests.command import Geohr, command
from tests.makers import random_model


@pytest.fixture
def geohr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Geohr:
    """Run the command line in this process."""
    return command(monkeypatch, capsys)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file with random weights."""
    return random_model(tmp_path_factory.mktemp("model") / "model.safetensors")
