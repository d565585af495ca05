"""Installing: torch without CUDA, hints that name extras, the conda recipe, project metadata."""

from __future__ import annotations

import re
import socket
import threading
import time
import tomllib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from install import cpu_torch

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CONDA_NAMES = {"torch": "pytorch"}


class Quiet(SimpleHTTPRequestHandler):
    """A file server that logs nothing."""

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """The URL of a package index that has torch."""
    (tmp_path / "torch").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def said(index: str, capsys: pytest.CaptureFixture[str]) -> str:
    cpu_torch.main(["--dry-run", "--index", index])
    return capsys.readouterr().out


def test_torch_comes_without_cuda_where_there_is_no_driver(
    index: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cpu_torch, "wants_cpu_wheels", lambda: True)
    assert f"without CUDA, from {index}" in said(index, capsys)
    monkeypatch.setattr(cpu_torch, "wants_cpu_wheels", lambda: False)
    assert "from PyPI, which is right" in said(index, capsys)


def test_an_index_that_does_not_answer_costs_seconds_and_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cpu_torch, "wants_cpu_wheels", lambda: True)
    monkeypatch.setattr(cpu_torch, "SECONDS_MAX", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and never replies
        started = time.monotonic()
        text = said(f"http://127.0.0.1:{silent.getsockname()[1]}", capsys)
        assert time.monotonic() - started < 5
    assert "does not answer; from PyPI instead" in text
    assert "does not answer" in said("http://nowhere.invalid", capsys)


def test_a_driver_keeps_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(cpu_torch, "DRIVER", tmp_path / "version")
    assert cpu_torch.wants_cpu_wheels()
    (tmp_path / "version").touch()
    assert not cpu_torch.wants_cpu_wheels()
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    (tmp_path / "version").unlink()
    assert not cpu_torch.wants_cpu_wheels()


def hints() -> list[tuple[str, str]]:
    """Files and what their messages tell people to install."""
    sources = [*(ROOT / "geohr").rglob("*.py"), *(ROOT / "cli").rglob("*.py")]
    return [
        (path.name, found[1])
        for path in sources
        for found in re.finditer(r"pip install (.*?)[\"\n]", path.read_text("utf-8"))
    ]


def test_hints_name_an_extra_in_one_form() -> None:
    """`pip install 'geohr[dask]'` adds to the geohr that says so, wherever that came from."""
    assert len(hints()) > 5
    for name, text in hints():
        if "force-reinstall" in text or "{" in text:
            continue
        found = re.match(r"'geohr(?:\[(\w+)\])?'", text)
        assert found, f"{name}: pip install {text}"
        assert found[1] is None or found[1] in PROJECT["optional-dependencies"], name


def test_the_conda_recipe_asks_for_what_the_package_asks_for() -> None:
    text = (ROOT / "install" / "conda" / "meta.yaml").read_text("utf-8")
    listed = set(re.findall(r"^    - (\S+ >=\S+)$", text.partition("  run:")[2], re.M))
    wanted = {"python >=" + PROJECT["requires-python"].removeprefix(">=")}
    for each in PROJECT["dependencies"]:
        name, bounds = re.fullmatch(r"([\w-]+)(\S+)", each).groups()  # type: ignore[union-attr]
        wanted.add(f"{CONDA_NAMES.get(name, name)} {bounds}")
    assert listed == wanted
