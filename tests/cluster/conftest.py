from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.processes import scheduler, workers
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


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene of 256 windows at a tile of 32, with a hole without data."""
    pixels = noise(380, 350)
    pixels[:, 100:180, 40:200] = 0
    return write_scene(tmp_path_factory.mktemp("scene") / "scene.tif", pixels, nodata=0)


@pytest.fixture(scope="session")
def one_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a scheduler with one worker; each is a process, the worker has one thread."""
    home = tmp_path_factory.mktemp("one")
    with scheduler(home) as address, workers(address, 1, home, ["--no-nanny"]):
        yield address


@pytest.fixture(scope="session")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same with two workers."""
    home = tmp_path_factory.mktemp("two")
    with scheduler(home) as address, workers(address, 2, home, ["--no-nanny"]):
        yield address
