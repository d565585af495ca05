"""Broken and hostile model files: refused before a network is built or a pixel is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from geohr.errors import InputError
from geohr.models.model import Model
from tests.command import Geohr
from tests.hostile import makers
from tests.hostile.makers import changed_card, changed_model, model_of


def first(header: dict[str, Any]) -> dict[str, Any]:
    """The header's entry for a tensor."""
    entry: dict[str, Any] = next(each for name, each in header.items() if name != "__metadata__")
    return entry


CARDS: dict[str, tuple[dict[str, Any], str]] = {
    "megabytes": ({"notes": "x" * 3_000_000}, "a header of"),
    "20,000 bands": ({"bands": ["b"] * 20_000}, "1 to 1000 bands; got 20000"),
    "a tile of text": ({"tile": "64"}, "tile cannot be '64'"),
    "half a pixel": ({"tile": 64.5}, "tile cannot be 64.5"),
    "a boundless tile": ({"tile": 10**6}, "tile must be in [32, 4096] pixels"),
    "a path for an encoder": ({"encoder": "../../etc/passwd"}, "encoder cannot be"),
    "an address for an encoder": ({"encoder": "tu-hf-hub:someone/net"}, "encoder cannot be"),
    "code for an architecture": ({"architecture": "os.system"}, "unknown architecture"),
    "not a number": ({"mean": [float("nan")] * 3}, "mean cannot be"),
    "a range of text": ({"range": [0, "x"]}, "range cannot be"),
    "a threshold of NaN": ({"threshold": float("nan")}, "threshold cannot be"),
    "a negative area": ({"min_area": -5}, "min_area must be at least 0"),
    "a newline in a class": (
        {"classes": [{"name": "a\n/b", "colour": "#000000"}]}, "printable letters",
    ),
    "other classes than weights": (
        {"classes": [{"name": f"c{i}", "colour": "#000000"} for i in range(250)]},
        "its weights are not those of",
    ),
    "an unknown entry": ({"code": "import os"}, "unknown entries code"),
}  # fmt: skip


@pytest.mark.parametrize("name", CARDS)
def test_a_card_that_lies_is_refused(name: str, geohr: Geohr, model: Path, tmp_path: Path) -> None:
    changes, line = CARDS[name]
    check(geohr, changed_card(model, **changes)(tmp_path), tmp_path, line)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "not a safetensors model file"),
        ((16).to_bytes(8, "little") + b"abc", "the header is cut short"),
        (b"no model at all", "geohr loads no pickle"),
        (b"PK\3\4" + bytes(200), "geohr loads no pickle"),
        ((2).to_bytes(8, "little") + b"[]", "geohr loads no pickle"),
        ((100_000).to_bytes(8, "little") + b"[" * 100_000, "not a safetensors model file"),
    ],
)
def test_what_is_no_model_is_refused(
    content: bytes, line: str, geohr: Geohr, tmp_path: Path
) -> None:
    check(geohr, model_of(content)(tmp_path), tmp_path, line)


def test_a_truncated_model_is_refused(geohr: Geohr, model: Path, tmp_path: Path) -> None:
    content = model.read_bytes()
    path = model_of(content[: len(content) // 2])(tmp_path)
    check(geohr, path, tmp_path, "the model file is damaged")


@pytest.mark.parametrize(
    "change",
    [
        lambda header: first(header).update(shape=[10**6, 10**6]),
        lambda header: first(header).update(data_offsets=[0, 10**12]),
        lambda header: first(header).update(dtype="F16"),
    ],
)
def test_tensors_that_lie_about_their_shape_are_refused(
    change: Any, geohr: Geohr, model: Path, tmp_path: Path
) -> None:
    check(geohr, changed_model(model, change)(tmp_path), tmp_path, "the model file is damaged")


def test_no_pickle_is_loaded(geohr: Geohr, tmp_path: Path) -> None:
    check(geohr, makers.pickled(tmp_path), tmp_path, "geohr loads no pickle")


def test_a_card_is_refused_when_it_is_read(model: Path, tmp_path: Path) -> None:
    path = changed_card(model, notes="x" * 3_000_000)(tmp_path)
    with pytest.raises(InputError, match="a header of 30"):
        Model.load(path)


def check(geohr: Geohr, model: Path, folder: Path, line: str) -> None:
    """The model is refused with the line, nothing was run and nothing is left."""
    scene, out = makers.plain(folder), folder / "out"
    out.mkdir()
    ended = geohr("segment", scene, "--out", out / "a.gpkg", "--model", model, "--backend", "torch")
    assert (ended.code, ended.out) == (3, "")
    assert line in ended.err
    assert "Traceback" not in ended.err
    assert list(out.iterdir()) == []
    assert not (folder / "ran").exists()
