"""The page of ten commands and ten cells: they print what it says, but for numbers."""

from __future__ import annotations

import ast
import contextlib
import html
import io
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import pytest
import rasterio
from rasterio.windows import Window

from tests.command import Geohr

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "ten-minutes.md").read_text("utf-8")
STEPS = re.findall(r"^```(console|python)\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", PAGE, re.M | re.S)
PART = Window(820, 560, 330, 330)
"""Columns and rows of the sample scene that stand for all of it, to be quick."""
VARIES = ("doctor", "batch")
"""Commands whose lines depend on the machine."""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder like a checkout, with a part of the sample scene; the working folder."""
    data = tmp_path / "examples" / "data"
    data.mkdir(parents=True)
    own = ROOT / "examples" / "data"
    with rasterio.open(own / "kampala.tif") as scene:
        profile = {
            **scene.profile, "driver": "GTiff", "compress": "deflate", "photometric": "rgb",
            "width": PART.width, "height": PART.height, "transform": scene.window_transform(PART),
        }  # fmt: skip
        with rasterio.open(data / "kampala.tif", "w", **profile) as piece:
            piece.write(scene.read(window=PART))
    shutil.copy(own / "kampala_buildings.gpkg", data)
    monkeypatch.chdir(tmp_path)


def shape(text: str) -> set[str]:
    """The words of each line, without numbers and plurals, and without the path of a file."""
    text = re.sub(r"\b(object|window|polygon|place|minute)s\b", r"\1", text)
    lines = (re.sub(r"[-+\d.,%:()/]+|\[.*\]", " ", line).split() for line in text.splitlines())
    return {" ".join(words) for words in lines if words and words[0] != "file"}


def shown(value: Any) -> str:
    """What a notebook shows of a value, as text."""
    if value is None:
        return ""
    if hasattr(value, "_repr_html_") and not isinstance(value, pd.DataFrame):
        text = re.sub(r"</t[dr]>|</strong>|</pre>", "\n", value._repr_html_())
        return html.unescape(re.sub(r"</th>|<[^>]+>", " ", text))
    return str(value)


def run_cell(code: str, names: dict[str, Any]) -> str:
    """What a cell prints and shows."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, "cell", "exec"), names)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    return printed.getvalue() + shown(value)


def test_there_are_ten_of_each() -> None:
    assert [kind for kind, *_ in STEPS] == ["console"] * 10 + ["python"] * 10


@pytest.mark.usefixtures("workplace")
def test_commands_print_what_the_page_says(geohr: Geohr) -> None:
    for kind, code, told in STEPS:
        if kind != "console":
            continue
        program, *arguments = shlex.split(code.removeprefix("$ "))
        assert program == "geohr"
        ended = geohr(*arguments)
        assert ended.code == 0, ended.err
        if arguments[0] not in VARIES:
            assert shape(ended.out) == shape(told), code


@pytest.mark.usefixtures("workplace")
def test_cells_show_what_the_page_says() -> None:
    mpl.use("agg")
    names: dict[str, Any] = {}
    for kind, code, told in STEPS:
        if kind != "python":
            continue
        try:
            seen = run_cell(code, names)
        except Exception as error:
            seen = f"{type(error).__name__}: {error}"
        assert shape(seen) == shape(told), code
