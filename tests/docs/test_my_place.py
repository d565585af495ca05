"""The tutorial from a new scene to a checked map: every command, with the truth as the analyst."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.windows import Window

from geohr.scene.vectors import LABELLED, LABELS, first_layer
from geohr.viewer.drawn import TRACED, DrawnLayer, DrawnPolygon, Edit
from geohr.viewer.tasks import Tasks
from geohr.workflows.check.estimate import estimate

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial-my-place.md").read_text("utf-8")
SHORT = {"adapt": ["--steps", "2", "--tile", "64"], "sample": ["--minutes", "1"]}
"""Options that make a command quick; the rest is as the page has it."""
PART = Window(300, 0, 900, 700)
"""Columns and rows of the sample scene that stand for the reader's own."""


def commands() -> list[list[str]]:
    """The page's commands in order, as lists of words."""
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE, re.M | re.S)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [shlex.split(line) for line in lines]


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, geopandas.GeoDataFrame]:
    """A folder with `scene.tif`, and the truth of that scene."""
    data = ROOT / "examples" / "data"
    with rasterio.open(data / "kampala.tif") as scene:
        profile = {
            **scene.profile, "driver": "GTiff", "compress": "deflate", "photometric": "rgb",
            "width": PART.width, "height": PART.height, "transform": scene.window_transform(PART),
        }  # fmt: skip
        bounds, crs = scene.window_bounds(PART), scene.crs
        with rasterio.open(tmp_path / "scene.tif", "w", **profile) as piece:
            piece.write(scene.read(window=PART))
    truth = geopandas.read_file(data / "kampala_buildings.gpkg").to_crs(crs)
    return tmp_path, truth[truth.intersects(shapely.box(*bounds))]


def judge(sample: Path, found: Path, truth: geopandas.GeoDataFrame) -> None:
    """Answer every task as the truth does, and trace what the map misses."""
    tasks = Tasks.open(sample)
    traced = DrawnLayer(sample, TRACED, tasks.crs)
    real = np.asarray(truth.to_crs("OGC:CRS84").geometry.array, object)
    middles = shapely.centroid(real)
    mapped = shapely.union_all(
        pyogrio.read_dataframe(found, layer=first_layer(found)).to_crs("OGC:CRS84").geometry
    )
    for task in tasks.listed():
        shape = shapely.geometry.shape(task["geometry"])
        overlap = shapely.area(shapely.intersection(real, shape))
        union = shapely.area(shapely.union(real, shape))
        if task["layer"] == "objects":
            tasks.keep("objects", task["id"], int((overlap / union).max(initial=0) >= 0.5))
            continue
        missed = real[shapely.contains(shape, middles) & ~shapely.intersects(real, mapped)]
        tasks.keep("places", task["id"], int(len(missed) > 0))
        if len(missed):
            traced.apply(Edit([DrawnPolygon(None, shapely.force_2d(each)) for each in missed]))


def label(labels: Path, truth: geopandas.GeoDataFrame) -> None:
    """Draw every building, and mark the whole scene as labelled."""
    real = truth.to_crs("OGC:CRS84").geometry
    crs = truth.crs.to_wkt()
    drawings = [DrawnPolygon(None, shapely.force_2d(each), {"class": "building"}) for each in real]
    DrawnLayer(labels, LABELS, crs).apply(Edit(drawings))
    DrawnLayer(labels, LABELLED, crs).apply(
        Edit([DrawnPolygon(None, shapely.box(*real.total_bounds))])
    )


@pytest.mark.full
def test_every_command_runs_and_ends_in_a_checked_map(
    place: tuple[Path, geopandas.GeoDataFrame],
) -> None:
    folder, truth = place
    seen = set()
    for _, name, *rest in commands():
        seen.add(name)
        if name == "view" and "--html" not in rest:
            # It serves until it is stopped, and tests/view drives it; this is what is done there.
            if "--check" in rest and rest[-1] != "next.gpkg":
                judge(folder / rest[-1], folder / rest[1], truth)
            else:
                label(folder / "scene.labels.gpkg", truth)
            continue
        short = SHORT.get(name, []) or SHORT.get(rest[0], [])
        done = subprocess.run(
            [sys.executable, "-m", "geohr_cli", name, *rest, *short],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert seen == {"segment", "check", "view", "adapt", "report"}
    assert estimate(folder / "check_mine.gpkg").objects > 0
    assert (folder / "mine.html").stat().st_size > 1e6


def test_the_page_names_files_as_they_are_made() -> None:
    made = {"scene.tif", "scene.labels.gpkg"}
    for words in commands():
        outputs = {
            words[place + 1]
            for place, word in enumerate(words)
            if word in ("--out", "--probs", "--html")
        }
        named = {word for word in words[2:] if "." in word and not word.startswith("--")}
        assert named - outputs <= made, words
        made |= outputs
