"""`--json`: one object on stdout, with the keys that docs/reference/json.md lists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyogrio
import pytest

from geohr.geobox import Window
from geohr_cli.facts import plain
from geohr_cli.main import geohr as group
from tests.command import Geohr
from tests.makers import UTM, noise, write_scene

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "json.md"
SILENT = {"geohr view", "geohr completion", "geohr models card"}
"""A server, a script of the shell, and a command that prints JSON as it is."""


def facts(geohr: Geohr, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
    """The object that a command prints, whose keys the page lists for it."""
    ended = geohr(*arguments, "--json")
    assert ended.code == code, ended.err
    found: dict[str, Any] = json.loads(ended.out, parse_constant=lambda name: pytest.fail(name))
    words = [str(each) for each in arguments[:2]]
    row = next(
        line
        for name in (" ".join(words), words[0])
        for line in PAGE.read_text("utf-8").splitlines()
        if line.startswith(f"| `{name}` |")
    )
    assert set(found) <= {*re.findall(r"`(\w+)`", row), "seconds", "outputs"}, row
    assert found["seconds"] >= 0
    assert all(Path(each).exists() for each in found.get("outputs", []))
    return found


def leaves(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """The commands that do something, by their full names."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    for inner in command.commands.values():
        yield from leaves(inner, f"{name} {inner.name}")


def test_every_command_that_tells_something_has_the_option() -> None:
    for name, command in leaves(group, "geohr"):
        has = any("--json" in each.opts for each in command.params)
        assert has or name in SILENT, name


def test_what_segment_and_vectorize_found(
    geohr: Geohr, scene: Path, model: Path, tmp_path: Path
) -> None:
    out, probs = tmp_path / "a.gpkg", tmp_path / "p.tif"
    made = facts(
        geohr, "segment", scene, "--model", model, "--backend", "torch", "--out", out, "--probs",
        probs, "--log-format", "json",
    )  # fmt: skip
    found = pyogrio.read_dataframe(out, layer="a")
    assert made["outputs"] == [str(out), str(probs)]
    assert made["objects"] == len(found) > 0
    assert made["area_m2"] == pytest.approx(found.area_m2.sum(), abs=0.06)
    assert made["classes"] == {"building": {name: made[name] for name in ("objects", "area_m2")}}
    assert made["predicted"] == made["windows"] > 1
    assert made["engine"].startswith("torch")
    traced = facts(geohr, "vectorize", probs, "--out", tmp_path / "b.gpkg")
    assert [traced[name] for name in ("objects", "area_m2", "classes")] == [
        made[name] for name in ("objects", "area_m2", "classes")
    ]
    page = facts(geohr, "report", scene, out, "--out", tmp_path / "r.html", "--model", model)
    assert page["bytes"] == (tmp_path / "r.html").stat().st_size
    raster = facts(
        geohr, "segment", scene, "--model", model, "--backend", "torch", "--out", tmp_path / "c.tif"
    )
    assert [raster["objects"], raster["area_m2"], raster["classes"]] == [None, None, {}]


@pytest.mark.filterwarnings("ignore")
def test_areas_are_not_known_without_a_crs(geohr: Geohr, tmp_path: Path) -> None:
    classes = np.zeros((1, 40, 40), np.uint8)
    classes[0, 5:9, 5:9] = 1
    path = tmp_path / "mask.tif"
    write_scene(path, classes, crs=None)
    made = facts(geohr, "vectorize", path, "--out", tmp_path / "o.gpkg")
    assert made["objects"] == 1
    assert made["area_m2"] is None
    assert made["classes"] == {"class 1": {"objects": 1, "area_m2": None}}


def test_what_batch_did_with_each_scene(
    geohr: Geohr, scene: Path, model: Path, tmp_path: Path
) -> None:
    broken, merged = tmp_path / "broken.tif", tmp_path / "all.gpkg"
    broken.write_bytes(b"II*\0")
    made = facts(
        geohr, "batch", scene, broken, "--out-dir", tmp_path / "out", "--model", model,
        "--backend", "torch", "--settle", "0", "--merge", merged, code=4,
    )  # fmt: skip
    (output,) = made["outputs"]
    assert (made["done"], made["failed"]) == (1, 1)
    assert len(pyogrio.read_dataframe(output, layer=0)) == made["objects"] > 0
    assert made["merged"] == {"output": str(merged), "objects": made["objects"], "twice": 0}
    assert Path(made["manifest"]).exists()


def test_what_the_steps_of_their_own_made(
    geohr: Geohr, scene: Path, model: Path, tmp_path: Path
) -> None:
    chips = tmp_path / "chips"
    cut = facts(geohr, "tile", scene, "--out", chips, "--tile", "64", "--overlap", "0")
    assert cut["chips"] == len(list((chips / "images").glob("*.tif")))
    probs = np.full((1, 64, 64), 200, np.uint8)
    whole = facts(
        geohr,
        "stitch",
        write_scene(tmp_path / "t.tif", probs),
        "--out",
        tmp_path / "s.tif",
        "--scale",
        "0,254",
    )
    assert (whole["height"], whole["width"]) == (64, 64)
    made = facts(geohr, "export", model, "--out", tmp_path / "m.pt", "--format", "torchscript")
    assert made["shape"] == [1, 3, 64, 64]
    assert made["agreement"]["largest_difference"] < 1e-3
    assert facts(geohr, "clean", tmp_path)["bytes"] == 0
    assert facts(geohr, "plan", scene, "--model", model, "--backend", "torch")["width"] == 120


def test_an_error_leaves_stdout_empty(geohr: Geohr, tmp_path: Path) -> None:
    ended = geohr("segment", tmp_path / "none.tif", "--out", tmp_path / "a.gpkg", "--json")
    assert (ended.code, ended.out) == (3, "")


def test_credentials_and_what_json_has_not_are_left_out() -> None:
    assert plain({"a": (float("nan"), 1.5), 2: Path("b")}) == {"a": [None, 1.5], "2": "b"}


def test_chips_are_what_train_reads(geohr: Geohr, tmp_path: Path) -> None:
    from geohr.training.samples import read_labels, read_manifest
    from tests.train.towns import make_town

    town = make_town(tmp_path, "town", height=320, width=160, houses=40)
    chips = tmp_path / "chips"
    arguments = ("--labels", town.polygons, "--out", chips, "--tile", "64", "--overlap", "0")
    cut = facts(geohr, "tile", town.image, *arguments)
    assert cut["outputs"] == [str(chips), str(chips / "manifest.json")]
    samples = read_manifest(chips / "manifest.json")
    assert len(samples) == cut["chips"]
    assert {each.split for each in samples} == {"train", "validation"}
    found = sum(int((read_labels(each, Window(0, 0, 64, 64)) == 1).sum()) for each in samples)
    assert found >= (town.classes == 1).sum()
    # Another scene comes to it; the same one again takes its own place.
    other = write_scene(tmp_path / "other.tif", noise(64, 64))
    facts(geohr, "tile", other, *arguments[:1], town.polygons, *arguments[2:])
    facts(geohr, "tile", town.image, *arguments, "--overwrite")
    places = [each.place for each in read_manifest(chips / "manifest.json")]
    assert (places.count("town"), places.count("other")) == (len(samples), 1)


def test_a_file_that_is_no_manifest_is_not_replaced(
    geohr: Geohr, scene: Path, tmp_path: Path
) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    ended = geohr("tile", scene, "--labels", scene, "--out", tmp_path, "--overwrite")
    assert (ended.code, "is no manifest of chips" in ended.err) == (2, True)
    assert (tmp_path / "manifest.json").read_text() == "{}"


def test_chips_that_share_pixels_with_validation_are_not_learnt_from(
    geohr: Geohr, tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "s.tif", noise(300, 64))
    label = write_scene(tmp_path / "l.tif", np.ones((1, 300, 64), np.uint8), crs=UTM)
    facts(geohr, "tile", scene, "--labels", label, "--out", tmp_path / "c", "--tile", "64")
    entries = json.loads((tmp_path / "c" / "manifest.json").read_text())
    rows = {
        split: [
            int(each["image"][-15:-12].lstrip("r")) for each in entries if each["split"] == split
        ]
        for split in ("train", "validation")
    }
    assert max(rows["train"]) + 64 <= min(rows["validation"])
    assert len(entries) < len(list((tmp_path / "c" / "images").iterdir()))
