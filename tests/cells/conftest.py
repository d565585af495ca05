from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from scipy import ndimage

from tests.makers import ORIGIN, Local, one_class_card, random_model, write_scene

HEIGHT, WIDTH = 250, 280
"""Pixels of the mosaic."""


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file with random weights, for 0.3 to 0.6 m."""
    card = one_class_card(gsd=(0.3, 0.6))
    return random_model(tmp_path_factory.mktemp("model") / "model.safetensors", card=card)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four scenes that overlap, of blobs of all sizes, with a place without data."""
    folder = tmp_path_factory.mktemp("scenes")
    generator = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(generator.normal(size=(3, HEIGHT, WIDTH)), (0, 2, 2))
    smooth += ndimage.gaussian_filter(generator.normal(size=(3, HEIGHT, WIDTH)), (0, 12, 12)) * 6
    pixels = np.clip(smooth / smooth.std() * 60 + 128, 1, 255).astype(np.uint8)
    pixels[:, 60:110, 170:190] = 0
    found = []
    for number, (top, left) in enumerate((row, col) for row in (0, 110) for col in (0, 130)):
        part = pixels[:, top : top + 140, left : left + 150]
        transform = Affine(0.5, 0, ORIGIN[0] + left / 2, 0, -0.5, ORIGIN[1] - top / 2)
        path = folder / f"scene{number}.tif"
        found.append(write_scene(path, part, transform=transform, nodata=0))
    return found


@pytest.fixture
def local_predictor(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is predicted depends on the pixels nearby, and takes no time."""
    monkeypatch.setattr(
        "geohr.inference.executor.open_predictor", lambda *_, **__: Local(2, batch=4)
    )
    monkeypatch.setattr("geohr.workflows.cells.planner.seconds_a_window", lambda *_: 0.5)
