from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.command import Geohr, command
from tests.imagery.servers import moto_server

# A shell that starts the tests in the background makes them, and the commands that they start,
# deaf to SIGINT, which some of them send.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Test processes beside each other compute on one core each, and so do the commands they start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shared machine may stall any example; how long one takes is not what is tested.
settings.register_profile("geohr", deadline=None, max_examples=50)
settings.load_profile("geohr")


@pytest.fixture
def geohr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Geohr:
    """Run the command line in this process."""
    return command(monkeypatch, capsys)


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    with moto_server() as server:
        yield f"http://{server}"


@pytest.fixture
def store(moto: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an S3-compatible server, which all of geohr takes for S3."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return moto
