"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
from affine import Affine

from geohr._runtime.messages import amount, first_line
from geohr.api.segment import Summary
from tests.command import Geohr
from tests.makers import noise, one_class_card, random_model, write_scene


def test_a_scene_becomes_polygons_classes_and_probabilities(
    geohr: Geohr, scene: Path, model: Path, tmp_path: Path
) -> None:
    ended = geohr(
        "segment", scene, "--model", model, "--out", tmp_path / "a.gpkg", "--out",
        tmp_path / "a.tif", "--probs", tmp_path / "p.tif", "--backend", "torch",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    # A log names a phase that lasts, and each that has something to count.
    named = list(dict.fromkeys(line.split(": ")[1] for line in ended.err.splitlines()))
    assert "predicting" in named
    assert named == [
        each for each in ("reading", "predicting", "drawing", "writing") if each in named
    ]
    with rasterio.open(tmp_path / "a.tif") as classes, rasterio.open(tmp_path / "p.tif") as probs:
        assert classes.shape == probs.shape == (100, 120)
        assert ((probs.read(1) >= 127) == (classes.read(1) == 1)).all()
        area = (classes.read(1) == 1).sum() * 0.25
    found = pyogrio.read_dataframe(tmp_path / "a.gpkg", layer="a")
    assert found.area_m2.sum() == pytest.approx(area, rel=2e-3)
    assert re.search(rf"{amount(len(found), 'object')}; \d+ of \d+ windows", ended.out)


def test_a_torchvision_for_another_torch_is_told_of(
    geohr: Geohr, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("geohr_cli.main.geohr.main", fail)
    ended = geohr("segment")
    assert (ended.code, ended.err.count("\n")) == (7, 1)
    assert "torchvision does not fit the installed torch; install both" in ended.err


def test_window_lines_are_told_of_where_they_show() -> None:
    summary = Summary("s.tif", ("o.gpkg",), 3, 9.5, {}, 4, 4, 1.0, "torch", 1, 0, seam_score=1.12)
    assert "seam" not in summary.describe()
    shown = dataclasses.replace(summary, seam_score=17.27).describe()
    assert shown.endswith("; window lines show, seam score 17.3")


def test_one_thing_is_singular() -> None:
    assert [amount(number, "class") for number in (0, 1, 2, 1234)] == [
        "0 classes", "1 class", "2 classes", "1,234 classes"
    ]  # fmt: skip


def test_an_output_that_exists_is_kept_without_overwrite(
    geohr: Geohr, scene: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.gpkg"
    out.write_text("mine")
    ended = geohr("segment", scene, "--model", model, "--out", out)
    assert (ended.code, out.read_text()) == (2, "mine")
    assert "exists; choose another name or pass --overwrite" in ended.err
    assert (
        geohr(
            "segment", scene, "--model", model, "--out", out, "--overwrite", "--backend", "torch"
        ).code
        == 0
    )


def test_a_toml_file_sets_options_and_flags_win(
    geohr: Geohr, scene: Path, model: Path, tmp_path: Path
) -> None:
    config = tmp_path / "job.toml"
    config.write_text(
        f'[segment]\nout = ["{tmp_path}/a.tif"]\nmodel = "{model}"\nthreshold = 0.9\n'
        'backend = "torch"\nnodata-match = "any"\n'
    )
    assert geohr("segment", scene, "--config", config).code == 0
    with rasterio.open(tmp_path / "a.tif") as classes:
        assert '"threshold": 0.9' in classes.tags()["geohr_options"]
    ended = geohr("segment", scene, "--config", config, "--threshold", "0.01", "--overwrite")
    assert ended.code == 0
    with rasterio.open(tmp_path / "a.tif") as classes:
        assert '"threshold": 0.01' in classes.tags()["geohr_options"]
        assert classes.read(1).any()


def test_an_option_may_have_the_name_of_its_command(
    geohr: Geohr, scene: Path, tmp_path: Path
) -> None:
    config = tmp_path / "job.toml"
    config.write_text("tile = 64\noverlap = 0.0\n")
    ended = geohr("tile", scene, "--out", tmp_path / "chips", "--config", config)
    assert ended.code == 0, ended.err
    with rasterio.open(next((tmp_path / "chips").rglob("*.tif"))) as chip:
        assert chip.shape == (64, 64)


def test_without_a_command_the_commands_are_listed(geohr: Geohr) -> None:
    ended = geohr()
    assert ended.code == 2
    assert len(ended.err.splitlines()) > 10
    assert "\n  segment " in ended.err


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["segment", "none.tif", "--out", "a.gpkg"], 3, "none.tif: no such file; check the path"),
        (["segment", "{scene}"], 2, "no output named; add --out objects.gpkg"),
        (["segment", "{scene}", "--out", "a.xyz"], 2, "a.xyz: unknown extension .xyz; polygons go"),
        (["segment", "{scene}", "--out", "{tmp}/none/a.gpkg"], 6, "does not exist; make it first"),
        (["segment", "{scene}", "--out", "a.gpkg", "--model", "cars"], 2, "no bundled model"),
        (["segment", "{scene}", "--out", "a.gpkg", "--overlap", "0.9"], 2, "[0, 0.75]; got 0.9"),
        (["segment", "{scene}", "--out", "a.gpkg", "--tile", "4"], 2, "[32, 8192]; got 4"),
        (["segment", "{scene}", "--out", "a.gpkg", "--tile", "big"], 2, "'big' is not a valid int"),
        (["segment", "{scene}", "--out", "a.gpkg", "--bands", "1,2"], 3, "needs 3 bands (red"),
        (["segment", "{scene}", "--out", "a.gpkg", "--bands", "1,2,9"], 3, "band 9 was asked for"),
        (["segment", "{scene}", "--out", "a.gpkg", "--scale", "5,1"], 2, "MIN < MAX; got 5,1"),
        (["segment", "{scene}", "--out", "a.gpkg", "--modle", "x"], 2, "Did you mean"),
        (["segment", "{scene}", "--out", "a.gpkg", "--out", "a.gpkg"], 2, "named twice"),
        (["segment", "{scene}", "--out", "a.gpkg", "--device", "cuda:9"], 7, "use --device cpu"),
        (["segment", "{text}", "--out", "a.gpkg"], 3, "not a raster that GDAL can read"),
        (["segment", "{wide}", "--out", "a.gpkg"], 3, "give the scene's own range with --scale"),
        (["segment", "{nowhere}", "--out", "a.gpkg", "--simplify", "1"], 3, "CRS"),
        (["segment", "{scene}", "--out", "a.gpkg", "--model", "{text}"], 3, "loads no pickle"),
        (["segment", "{scene}", "--out", "a.gpkg", "--config", "{toml}"], 2, "mean overlap?"),
        (["stitch", "none", "--out", "p.tif"], 3, "none: no such file or folder"),
        (["tile", "{scene}", "--out", "{text}"], 2, "is a file; name a folder"),
        (["models", "cars"], 2, "no bundled model 'cars'"),
        (["sgment"], 2, "No such command"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)  # fmt: skip
def test_bad_input_gets_one_line_and_its_exit_code(
    geohr: Geohr,
    scene: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {
        "scene": scene,
        "tmp": tmp_path,
        "text": tmp_path / "text.txt",
        "toml": tmp_path / "job.toml",
        "wide": write_scene(tmp_path / "wide.tif", noise(90, 90).astype(np.uint16) * 10),
        "nowhere": write_scene(tmp_path / "nowhere.tif", noise(90, 90), crs=None),
    }
    names["text"].write_text("no raster, no model")
    names["toml"].write_text("overlpa = 0.2")
    filled = [each.format(**names) for each in arguments]
    if filled[0] == "segment" and "--model" not in filled:
        filled += ["--model", str(model)]
    before = sorted(tmp_path.rglob("*"))
    ended = geohr(*filled)
    assert ended.code == code, ended.err
    last = ended.err.strip().splitlines()[-1]
    assert last.startswith("geohr: ")
    assert line in last
    assert "Traceback" not in ended.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.filterwarnings("always")
def test_a_scene_of_another_resolution_than_the_models_is_told_of(
    geohr: Geohr, scene: Path, tmp_path: Path
) -> None:
    model = random_model(tmp_path / "fine.safetensors", card=one_class_card(gsd=(0.05, 0.1)))
    ended = geohr("segment", scene, "--model", model, "--out", tmp_path / "a.gpkg")
    assert ended.code == 0
    assert "0.5 m a pixel, but model tiny was trained on 0.05 to 0.1 m" in ended.err
    model = random_model(tmp_path / "near.safetensors", card=one_class_card(gsd=(0.45, 0.45)))
    ended = geohr("segment", scene, "--model", model, "--out", tmp_path / "b.gpkg")
    assert (ended.code, "was trained on" in ended.err) == (0, False)


@pytest.mark.filterwarnings("always")
def test_without_a_crs_the_models_square_metres_are_not_applied(
    geohr: Geohr, tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "scene.tif", noise(64, 64), crs=None)
    model = random_model(tmp_path / "m.safetensors", card=one_class_card(min_area=50.0))
    out = tmp_path / "a.gpkg"
    ended = geohr("segment", scene, "--model", model, "--out", out)
    assert ended.code == 0
    assert "has no CRS, so that its pixels have no size" in ended.err
    assert out.exists()
    asked = geohr("segment", scene, "--out", tmp_path / "b.gpkg", "--min-area", "2")
    assert asked.code == 3
    assert "min_area is in metres, and the raster has no CRS" in asked.err


def test_a_plan_is_json_where_asked(geohr: Geohr, scene: Path, model: Path) -> None:
    ended = geohr("plan", scene, "--model", model, "--backend", "torch", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["width"] == 120


def test_without_a_crs_a_resolution_that_is_told_gives_square_metres(
    geohr: Geohr, tmp_path: Path
) -> None:
    """The same objects and measures as with a CRS in which pixels are as large."""
    card = one_class_card(min_area=2.0, gsd=(0.3, 0.7), threshold=0.1)
    model = random_model(tmp_path / "m.safetensors", card=card)
    tables = []
    for name, place in (
        ("told", {"crs": None, "transform": Affine.translation(10, 20)}),
        ("placed", {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 320_000, 0, -0.5, 40_000)}),
    ):
        scene = write_scene(tmp_path / f"{name}.tif", noise(96, 96), **place)
        out = tmp_path / f"{name}.gpkg"
        ended = geohr(
            "segment", scene, "--model", model, "--scene-gsd", "0.5", "--out", out,
            "--instances", "0.15",
        )  # fmt: skip
        assert ended.code == 0, ended.err
        assert "no CRS" not in ended.err
        tables.append(geopandas.read_file(out, layer=name))
    told, placed = tables
    assert told.crs is None
    assert len(told) == len(placed) >= 3
    for column in ("area_m2", "perimeter_m"):
        assert np.allclose(told[column], placed[column], rtol=2e-3)
    assert np.allclose(told.area * 0.25, told["area_m2"], rtol=1e-5)
    assert told["area_m2"].min() >= 2.0
    turned = (told["orientation"] - placed["orientation"] + 45) % 90 - 45
    assert (turned.abs() < 2).mean() > 0.9


def test_debug_shows_the_traceback(geohr: Geohr) -> None:
    assert "Traceback" in geohr("segment", "none.tif", "--out", "a.gpkg", "--debug").err


def test_models_are_listed_and_described(geohr: Geohr, model: Path) -> None:
    for command in (("models", model), ("models", "show", model)):
        ended = geohr(*command)
        assert ended.code == 0
        assert "encoder: hrnetv2_w18_small_v1" in ended.out
    assert json.loads(geohr("models", "show", model, "--json").out)["name"] == "tiny"
    listed = geohr("models", "list")
    assert listed.out == geohr("models").out
    assert listed.out.startswith("buildings: ")
    assert "buildings" in json.loads(geohr("models", "list", "--json").out)


@pytest.mark.parametrize("command", ["segment", "tile", "stitch", "models", "train", "evaluate"])
def test_each_command_has_help_with_an_example(geohr: Geohr, command: str) -> None:
    ended = geohr(command, "--help")
    assert ended.code == 0
    assert f"Example: geohr {command}" in ended.out


def test_an_error_is_told_by_its_first_line_or_its_kind() -> None:
    assert first_line(ValueError("\n no ink.\nand no paper")) == "no ink"
    assert first_line(OSError()) == "OSError"


def test_the_package_runs_as_a_module() -> None:
    told = subprocess.run([sys.executable, "-m", "geohr", "--version"], capture_output=True)
    assert told.stdout.startswith(b"geohr, version ")


def test_libraries_say_nothing_on_stderr_and_geohr_says_who_it_is() -> None:
    code = (
        "import logging, os, warnings\n"
        "from geohr._runtime.messages import take_over_messages\n"
        "take_over_messages()\n"
        "logging.getLogger('rasterio._env').error('CPLE_AppDefined in x')\n"
        "logging.getLogger('geohr').warning('2 damaged\\nblocks')\n"
        "warnings.warn('odd')\n"
        "from rasterio.crs import CRS\n"
        "from rasterio.warp import transform_geom\n"
        "import rasterio._env\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stderr.splitlines() == [
        "geohr: warning: 2 damaged blocks",
        "geohr: warning: odd",
    ]
