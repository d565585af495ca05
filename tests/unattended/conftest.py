from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.makers import noise, one_class_card, random_model, shared_cache, write_scene


@pytest.fixture(scope="package", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with shared_cache(tmp_path_factory):
        yield


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file with random weights, and a threshold at which there are objects."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    return random_model(path, card=one_class_card(threshold=0.1))


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A scene of 16 blocks at a tile of 32."""
    return write_scene(tmp_path / "scene.tif", noise(380, 350))
