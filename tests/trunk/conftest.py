"""A small scene, and a model that finds objects in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.makers import noise, one_class_card, random_model, write_scene


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "scene.tif", noise(100, 120))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Random, with a threshold in the middle of what it says, so that there are objects."""
    return random_model(tmp_path / "model.safetensors", card=one_class_card(threshold=0.5))
