"""The documentation: built with warnings as errors, links followed, code executed."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import Geohr

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EXAMPLES = ROOT / "examples"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
PAGES = ("how-to/view.md", "how-to/crs.md")
"""Pages whose code runs, in this order, in one folder."""


def blocks(page: str, *kinds: str) -> list[tuple[str, str]]:
    """Kinds and texts of a page's code blocks."""
    text = (DOCS / page).read_text("utf-8")
    return [(kind, code) for kind, code in BLOCK.findall(text) if kind in kinds]


@pytest.fixture
def workplace(tmp_path: Path, geohr: Geohr, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: like a checkout as far as the pages are concerned, with a result."""
    shutil.copytree(EXAMPLES / "data", tmp_path / "examples" / "data")
    monkeypatch.chdir(tmp_path)
    ended = geohr("segment", "examples/data/kampala.tif", "--out", "buildings.gpkg")
    assert ended.code == 0, ended.err
    return tmp_path


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={"PATH": "", "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'cli'}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    page = (tmp_path / "site" / "reference" / "commands" / "index.html").read_text("utf-8")
    assert "geohr segment" in page
    assert "--min-area" in page
    api = (tmp_path / "site" / "reference" / "python" / "index.html").read_text("utf-8")
    assert "geohr.segment_to_files" in api


def test_every_error_has_its_place_on_the_page_of_exit_codes() -> None:
    from geohr import errors

    text = (DOCS / "reference" / "exit-codes.md").read_text("utf-8")
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    for kind in kinds:
        if issubclass(kind, errors.GeohrError):
            assert f"#code-{kind.exit_code} " in text, kind
            assert f"`{kind.__name__}`" in text


def test_the_code_of_the_pages_runs(workplace: Path, geohr: Geohr) -> None:
    for page in PAGES:
        session = ""
        for kind, code in blocks(page, "console", "python"):
            if kind == "python":
                session += code
                continue
            for line in code.splitlines():
                arguments = shlex.split(line.removeprefix("$ "))
                assert arguments[0] == "geohr"
                if arguments[1] == "view" and "--html" not in arguments:
                    continue  # it would serve for ever; tests/view drives it
                ended = geohr(*arguments[1:])
                assert ended.code == 0, ended.err
        subprocess.run([sys.executable, "-c", session], cwd=workplace, check=True)
    made = {each.name for each in workplace.iterdir()}
    assert {"buildings.html", "buildings_utm.gpkg"} <= made
