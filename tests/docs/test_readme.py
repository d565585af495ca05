"""Every command and every piece of Python in the README, as it stands there."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.transform
import shapely
from rasterio.windows import Window

from tests.command import Geohr

# A reader is warned of what is odd about a scene, and the command goes on.
pytestmark = pytest.mark.filterwarnings("default")
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.M | re.S)
SETUP = ("git clone", "make ", "pip install", "cd ", "python -m venv", "source ", ". ")
"""Commands that set up an environment, which a test of a checkout cannot do."""
SERVES = ("geohr view",)
"""Commands that run until they are stopped; tests/view drives them."""
MENTIONED = ("geohr models show NAME", "geohr check estimate")
"""Commands that sentences name without all of their arguments."""
SHORT = {
    "train": ["--steps", "2", "--batch", "2", "--tile", "64"],
    "adapt": ["--steps", "1", "--batch", "1", "--tile", "64"],
}
"""Options that make a command quick; the rest is as the README has it."""
SIDE = 440
"""The side in pixels of the part of the sample scene that stands for the reader's own: 33 m."""


def commands() -> list[str]:
    """The shell commands, in order, from blocks, tables and sentences."""
    lines = [
        line.strip()
        for kind, code in BLOCKS
        if kind in ("", "console")
        for line in code.splitlines()
    ]
    inline = re.findall(r"`(geohr [a-z][^`]*?)`", README)
    return list(dict.fromkeys(line for line in [*lines, *inline] if line and line not in MENTIONED))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the README speaks of."""
    folder = tmp_path_factory.mktemp("readme")
    data = ROOT / "examples" / "data"
    with rasterio.open(data / "kampala.tif") as scene:
        window = Window(800, 500, SIDE, SIDE)
        profile = {
            **scene.profile, "driver": "GTiff", "compress": "deflate", "photometric": "rgb",
            "width": SIDE, "height": SIDE, "transform": scene.window_transform(window),
        }  # fmt: skip
        pixels = scene.read(window=window)
    for name in ("scene.tif", "a.tif"):
        with rasterio.open(folder / name, "w", **profile) as piece:
            piece.write(pixels)
    (folder / "scenes").mkdir()
    shutil.copy(folder / "scene.tif", folder / "scenes")
    single = {**profile, "count": 1, "photometric": "minisblack"}
    with rasterio.open(folder / "mask.tif", "w", **single) as mask:
        mask.write((pixels[:1] > 128).astype(np.uint8))
    (folder / "predictions").mkdir()
    scores = {**single, "dtype": "float32"}
    with rasterio.open(folder / "predictions" / "p.tif", "w", **scores) as tile:
        tile.write(pixels[:1].astype(np.float32) / 255)
    outlines = geopandas.read_file(data / "kampala_buildings.gpkg")
    for name in ("truth.gpkg", "a.gpkg", "before.gpkg", "after.gpkg"):
        outlines.to_file(folder / name)
    outlines.to_file(folder / "labels.gpkg", layer="labels")
    bounds = rasterio.transform.array_bounds(SIDE, SIDE, profile["transform"])
    labelled = geopandas.GeoSeries([shapely.box(*bounds)], crs=profile["crs"])
    labelled.to_file(folder / "labels.gpkg", layer="labelled")
    shutil.copytree(data, folder / "examples" / "data")
    return folder


@pytest.mark.parametrize("command", commands())
def test_commands_run(
    command: str, workplace: Path, geohr: Geohr, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    if command.startswith(SETUP):
        pytest.skip("setting up is what .ci/run and the release checklist do")
    if command.startswith(SERVES) and "--html" not in command:
        pytest.skip("it runs until it is stopped; tests/view drives it")
    program, name, *rest = shlex.split(command)
    assert program == "geohr", f"{command}: not a command that the tests know"
    arguments = [name, *rest, *SHORT.get(name, [])]
    if name in ("segment", "tile", "stitch", "vectorize", "train", "change", "check"):
        arguments.append("--overwrite")
    done = geohr(*arguments)
    assert done.code == 0, done.err
    for out in (rest[place + 1] for place, each in enumerate(rest) if each == "--out"):
        assert (workplace / out).exists()


@pytest.mark.parametrize("code", [code for kind, code in BLOCKS if kind == "python"])
def test_python_runs(code: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})


def test_pictures_and_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", README):
        if not target.startswith(("http://", "https://")):
            assert (ROOT / target).exists(), target
