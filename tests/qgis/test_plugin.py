"""The plugin in QGIS itself, by qgis_process; and a result as QGIS draws it."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import geopandas
import pyogrio
import pytest
import rasterio
from shapely import box

from geohr.models.model import DEFAULT_MODEL, bundled_models
from tests.makers import noise, one_class_card, random_model, write_scene

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples" / "qgis"


def find() -> str:
    """qgis_process, the program itself: Debian's wrapper adds an option that it refuses."""
    path = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
    if path is None:
        pytest.skip("qgis_process is not installed; apt-get install qgis")
    return path


def build_zip(folder: Path) -> Path:
    """The plugin, packed by its own script."""
    out = folder / "geohr_qgis.zip"
    subprocess.run([sys.executable, PLUGIN / "build.py", out], check=True, capture_output=True)
    return out


def test_the_zip_holds_one_folder_and_repeats(tmp_path: Path) -> None:
    first = build_zip(tmp_path).read_bytes()
    assert build_zip(tmp_path).read_bytes() == first
    names = zipfile.ZipFile(tmp_path / "geohr_qgis.zip").namelist()
    assert {name.split("/")[0] for name in names} == {"geohr_qgis"}
    assert {"geohr_qgis/metadata.txt", "geohr_qgis/__init__.py", "geohr_qgis/LICENSE"} <= set(names)


def test_the_plugin_names_the_bundled_models() -> None:
    """It runs in QGIS's Python, which has no geohr to ask."""
    text = (PLUGIN / "geohr_qgis" / "algorithms.py").read_text("utf-8")
    models = next(
        ast.literal_eval(node.value)
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODELS"
    )
    assert models[0] == DEFAULT_MODEL
    assert sorted(models) == sorted(bundled_models())


def boxes(path: Path, layer: str) -> tuple[float, float, float, float]:
    """The bounds of a layer's objects."""
    west, south, east, north = pyogrio.read_dataframe(path, layer=layer).total_bounds
    return west, south, east, north


@pytest.mark.full
def test_segment_and_evaluate_run_in_qgis(tmp_path: Path) -> None:
    program = find()
    zipfile.ZipFile(build_zip(tmp_path)).extractall(tmp_path / "plugins")
    command = tmp_path / "bin" / "geohr"
    command.parent.mkdir()
    path = f"PYTHONPATH='{ROOT}:{ROOT / 'cli'}'"
    command.write_text(f"#!/bin/sh\n{path} exec '{sys.executable}' -m geohr_cli \"$@\"\n")
    command.chmod(0o755)
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRT"))
    }
    env = {
        **clean, "HOME": str(tmp_path), "QT_QPA_PLATFORM": "offscreen",
        "QGIS_PLUGINPATH": str(tmp_path / "plugins"), "PATH": f"{command.parent}:/usr/bin:/bin",
    }  # fmt: skip

    def qgis(*arguments: str | Path) -> str:
        done = subprocess.run(
            [program, *arguments], env=env, capture_output=True, text=True, check=False, timeout=300
        )
        return done.stdout + done.stderr

    scene = write_scene(tmp_path / "scene.tif", noise(100, 120))
    model = random_model(tmp_path / "model.safetensors", card=one_class_card(threshold=0.5))
    out, scores = tmp_path / "objects.gpkg", tmp_path / "scores.json"
    assert "Enabled geohr_qgis" in qgis("plugins", "enable", "geohr_qgis")
    said = qgis(
        "run", "geohr:segment", f"--SCENE={scene}", f"--MODEL_FILE={model}", f"--OUTPUT={out}",
        f"--PROBABILITIES={tmp_path / 'probs.tif'}", "--EXTRA=--backend torch",
    )  # fmt: skip
    found = pyogrio.read_info(out, layer="objects")["features"]
    assert f"{found} objects" in said
    with rasterio.open(tmp_path / "probs.tif") as probabilities:
        assert probabilities.shape == (100, 120)
    whole = boxes(out, "objects")
    middle = (whole[0] + whole[2]) / 2
    area = tmp_path / "areas.gpkg"
    west = box(whole[0], whole[1], middle, whole[3])
    # The layer that is named is used, though another comes first.
    for name, shape in (("all", box(*whole)), ("west", west)):
        part = geopandas.GeoDataFrame(geometry=[shape], crs="EPSG:32636")
        part.to_file(area, layer=name)
    chosen = f"{whole[0]},{middle},{whole[1]},{whole[3]} [EPSG:32636]"
    for number, (argument, outlines) in enumerate(
        ((f"--AOI={area}|layername=west", 1), (f"--EXTENT={chosen}", 2))
    ):
        part = tmp_path / f"part{number}.gpkg"
        said = qgis(
            "run", "geohr:segment", f"--SCENE={scene}", f"--MODEL_FILE={model}", argument,
            f"--OUTLINES={outlines}", f"--OUTPUT={part}", "--EXTRA=--backend torch",
        )  # fmt: skip
        assert ("--regularize", "--no-regularize")[number] in said
        assert boxes(part, f"part{number}")[2] < middle + 3
    said = qgis("run", "geohr:segment", f"--SCENE={scene}", "--MODEL=nothing", f"--OUTPUT={out}")
    assert "Incorrect parameter value for MODEL" in said
    said = qgis("run", "geohr:evaluate", f"--OBJECTS={out}", f"--TRUTH={out}", f"--OUTPUT={scores}")
    assert json.loads(scores.read_text())["scores"]["iou"] == pytest.approx(1)
    said = qgis("run", "geohr:segment", f"--SCENE={scene}", f"--OUTPUT={out}", "--EXTRA=--tile 4")
    assert "tile must be in [32, 8192]; got 4" in said
