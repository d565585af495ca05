"""`geohr train` and `geohr evaluate` on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from geohr.models.card import read_card
from geohr_cli.main import main
from tests.makers import random_model
from tests.train.towns import Town, make_town

Run = Callable[..., tuple[int, str, str]]

QUICK = ("--encoder", "hrnetv2_w18_small_v1", "--steps", "2", "--batch", "2", "--tile", "32")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    return make_town(tmp_path_factory.mktemp("town"), "town")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, stdout and stderr of a command run in this process."""

    def command(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["geohr", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, printed.out, printed.err

    return command


def test_trains_from_scenes_and_goes_on(run: Run, town: Town, tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    command = ("train", "--scene", town.image, "--labels", town.polygons, "--out", out, *QUICK)
    validation = ("--validation-scene", town.image, "--validation-labels", town.raster)
    code, printed, _ = run(*command, *validation)
    assert code == 0
    assert "validation IoU town 0." in printed
    assert read_card(out).name == "mine"
    code, _, error = run(*command)
    assert code == 2
    assert "exists" in error
    code, printed, _ = run(*command, *validation, "--overwrite", "--resume", "--json")
    assert code == 0
    made = json.loads(printed)
    assert made["outputs"] == [str(out), str(out.with_suffix(".run"))]
    assert made["steps"] == 0  # none was left to take
    assert 0 <= made["scores"]["validation"]["town"] <= 1
    assert made["scores"]["test"] == {}


def test_trains_from_chips_and_a_card(run: Run, town: Town, tmp_path: Path) -> None:
    data, card = tmp_path / "manifest.json", tmp_path / "card.json"
    chips = ("--labels", town.polygons, "--out", tmp_path, "--tile", "128", "--overlap", "0")
    assert run("tile", town.image, *chips)[0] == 0
    card.write_text(json.dumps({"licence": "CC0", "notes": "a test"}))
    out = tmp_path / "mine.safetensors"
    code, printed, _ = run("train", "--data", data, "--card", card, "--out", out, *QUICK)
    assert code == 0
    assert "not validated" in printed
    assert read_card(out).licence == "CC0"


def test_says_what_is_missing(run: Run, town: Town, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    code, _, error = run("train", "--out", out)
    assert (code, error) == (
        2,
        "geohr: nothing to train on; add --scene and --labels, or --data\n",
    )
    code, _, error = run("train", "--scene", town.image, "--out", out)
    assert code == 2
    assert "1 scene and 0 files of labels" in error


def test_evaluates_and_writes_both_outputs(run: Run, town: Town, tmp_path: Path) -> None:
    scores, objects = tmp_path / "scores.json", tmp_path / "objects.gpkg"
    command = ("evaluate", town.polygons, town.raster, "--by-size", "--replicates", "20")
    code, printed, _ = run(*command, "--out", scores, "--objects", objects)
    assert code == 0
    told = json.loads(scores.read_text())["scores"]
    assert told["object_f1"] == 1
    assert told["iou"] > 0.99
    assert "panoptic quality" in printed
    assert objects.exists()
    code, _, error = run(*command, "--out", scores)
    assert code == 2
    assert "--overwrite" in error


def test_a_model_is_scored_on_the_chips_of_a_manifest(run: Run, town: Town, tmp_path: Path) -> None:
    data, model = tmp_path / "data.json", tmp_path / "model.safetensors"
    random_model(model)
    entry = {"image": str(town.image), "label": str(town.raster)}
    entries = [{**entry, "place": name, "split": "test"} for name in ("a", "b")]
    data.write_text(json.dumps([*entries, {**entry, "place": "c", "split": "train"}]))
    command = ("evaluate", "--data", data, "--model", model)
    code, printed, _ = run(*command, "--json")
    assert code == 0
    told = json.loads(printed)
    assert told["places"].keys() == {"a", "b"}
    assert told["scores"]["iou"] == pytest.approx(told["places"]["a"])
    assert "mean" in run(*command)[1]
    code, _, error = run(*command, "--split", "validation")
    assert (code, "no labelled chip of split validation" in error) == (3, True)
    assert run("evaluate", town.polygons)[0] == 2


def test_training_says_a_line_a_validation(run: Run, town: Town, tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    command = ("train", "--scene", town.image, "--labels", town.polygons, "--out", out, *QUICK)
    validation = ("--validation-scene", town.image, "--validation-labels", town.raster)
    code, _, said = run(*command, *validation, "--validate-every", "1")
    assert code == 0
    lines = [line for line in said.splitlines() if line.startswith("step ")]
    assert len(lines) == 2
    assert all("loss " in line and "IoU town " in line for line in lines)
