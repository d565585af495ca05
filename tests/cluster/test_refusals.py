"""Clusters that cannot be used are refused in one line, with the documented exit code."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from geohr import __version__
from geohr.cluster.connect import check_geohr, check_versions
from geohr.cluster.tasks import warn_of_processors
from geohr.cluster.worker import Answer
from geohr.errors import EngineError
from tests.cluster.processes import workers
from tests.command import Geohr


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.parametrize(
    ("named", "code", "said"),
    [
        ("local:0", 2, "at least 1 process"),
        ("local", 2, "local:N or an address such as tcp://scheduler:8786; got 'local'"),
        ("scheduler:8786", 2, "local:N or an address"),
        ("tcp://127.0.0.1:CLOSED", 7, "no scheduler answers at tcp://127.0.0.1:"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused(
    named: str, code: int, said: str, scene: Path, model: Path, tmp_path: Path, geohr: Geohr,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("geohr.cluster.connect.CONNECT_SECONDS", 0.5)
    named = named.replace("CLOSED", str(closed_port()))
    ended = geohr("segment", scene, "--model", model, "--out", tmp_path / "a.gpkg", "--dask", named)
    assert ended.code == code
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("block", ["0x4", "4", "4x", "4 x 4", "-1x2"])
def test_a_block_that_is_none_is_refused(
    block: str, scene: Path, model: Path, tmp_path: Path, geohr: Geohr
) -> None:
    ended = geohr(
        "segment", scene, "--model", model, "--out", tmp_path / "a.gpkg", "--block", block
    )
    assert ended.code == 2
    assert "a block " in ended.err


def test_disagreement_is_refused_on_a_cluster(
    scene: Path, model: Path, tmp_path: Path, one_worker: str, geohr: Geohr
) -> None:
    ended = geohr(
        "segment", scene, "--model", model, "--out", tmp_path / "a.gpkg", "--disagreement",
        tmp_path / "d.tif", "--dask", one_worker,
    )  # fmt: skip
    assert ended.code == 2
    assert "run without the cluster" in ended.err


def test_without_dask_it_says_what_to_install(scene: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['distributed'] = None\n"
        f"sys.argv = ['geohr', 'segment', {str(scene)!r}, '--out', {str(tmp_path / 'a.gpkg')!r}, "
        "'--dask', 'local:1']\n"
        "from geohr_cli.main import main\nmain()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 7
    assert ended.stderr == "geohr: clusters need Dask; pip install 'geohr[dask]'\n"


def process(distributed: str, python: str) -> dict[str, Any]:
    return {"host": {"python": python}, "packages": {"distributed": distributed}}


@pytest.mark.parametrize(
    ("scheduler", "worker", "said"),
    [
        (("2025.1", "3.11.7"), ("2026.1", "3.11.7"), "the scheduler has distributed 2025.1, and"),
        (("2026.1", "3.11.7"), ("2025.1", "3.11.7"), "worker tcp://w has distributed 2025.1, and"),
        (("2026.1", "3.12.1"), ("2026.1", "3.12.1"), "worker tcp://w has python 3.12, and here is"),
    ],
)
def test_versions_that_differ_are_named(
    scheduler: tuple[str, str], worker: tuple[str, str], said: str
) -> None:
    found = {"client": process("2026.1", "3.11.2"), "scheduler": process(*scheduler)}
    check_versions({**found, "scheduler": found["client"], "workers": {"w": found["client"]}})
    with pytest.raises(EngineError, match=said):
        check_versions({**found, "workers": {"tcp://w": process(*worker)}})


def test_workers_without_geohr_are_named() -> None:
    check_geohr({"tcp://w": __version__, "tcp://dying": OSError("closed")})
    with pytest.raises(EngineError, match="worker tcp://w has no geohr that can do this, and here"):
        check_geohr({"tcp://w": ModuleNotFoundError("No module named 'geohr'")})


@pytest.mark.full
def test_a_worker_of_another_version_is_refused(
    scene: Path, model: Path, tmp_path: Path, one_worker: str, geohr: Geohr
) -> None:
    preload = tmp_path / "older.py"
    preload.write_text("import geohr\ngeohr.__version__ = '0.0.1'\n")
    options = ["--no-nanny", "--preload", str(preload)]
    with (
        Client(one_worker, set_as_default=False) as client,
        workers(one_worker, 1, tmp_path / "dask", options),
    ):
        client.wait_for_workers(2, timeout=60)
        ended = geohr(
            "segment", scene, "--model", model, "--out", tmp_path / "a.gpkg", "--dask", one_worker
        )
    assert ended.code == 7
    assert "has geohr 0.0.1, and here is " in ended.err
    assert len(ended.err.splitlines()) == 1


def test_another_kind_of_processor_is_warned_of_once() -> None:
    known: dict[str, str] = {}
    warn_of_processors(known, Answer(1, "a", "tcp://one", 1.0))
    with pytest.warns(UserWarning, match="tcp://two has another kind of processor than tcp://one"):
        warn_of_processors(known, Answer(1, "b", "tcp://two", 1.0))
    warn_of_processors(known, Answer(1, "b", "tcp://three", 1.0))
