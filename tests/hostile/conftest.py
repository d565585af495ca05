from __future__ import annotations

from pathlib import Path

import pytest

from tests.makers import random_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file with random weights."""
    return random_model(tmp_path_factory.mktemp("model") / "model.safetensors")
