"""Cells of a mosaic, made one by one and joined, are what one run over the mosaic gives."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio

import geohr as package
from tests.command import Geohr

pytestmark = pytest.mark.usefixtures("local_predictor")


def objects_of(path: Path) -> geopandas.GeoDataFrame:
    """The objects of a file or a data set, in an order of their own."""
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    frame = pd.concat([geopandas.read_parquet(each) for each in files], ignore_index=True)
    key = frame.geometry.to_wkb().map(bytes)
    return frame.assign(key=key).sort_values("key", ignore_index=True)


def assert_same(found: geopandas.GeoDataFrame, expected: geopandas.GeoDataFrame) -> None:
    """The same objects, to the bit, whatever their order."""
    assert len(found) == len(expected)
    for name in expected.columns:
        if name not in ("geometry", "bbox"):
            one, other = found[name], expected[name]
            assert ((one == other) | (one.isna() & other.isna())).all(), name


def make_cells(
    geohr: Geohr, scenes: list[Path], model: Path, folder: Path, *options: str, to: str = ""
) -> Path:
    """Plan, run and join; the data set."""
    plan = folder / "plan.json"
    where = ["--to", to] if to else []
    ended = geohr("cells", "plan", *scenes, "--model", model, "--out", plan, *where, *options)
    assert ended.code == 0, ended.err
    for task in (2, 3, 1):
        ended = geohr("cells", "run", plan, "--task", f"{task}/3")
        assert ended.code == 0, ended.err
    out = folder / "country.parquet"
    ended = geohr("cells", "join", plan, "--out", out)
    assert ended.code == 0, ended.err
    return out


VARIANTS = {
    "plain": (["--instances", "1", "--threshold", "0.5"], "50m"),
    "walls": (
        ["--regularize", "--simplify", "0.3", "--min-area", "5", "--instances", "0.6"],
        "36m",
    ),
    "parted": (["--instances", "0.6", "--instance-area", "2", "--outline", "contour"], "50m"),
    "thinned": (["--simplify", "0.7", "--connectivity", "8"], "25m"),
    "resampled": (["--gsd", "0.7", "--outline", "contour"], "60m"),
    "area": (["--bbox", "32.55095,0.3613,32.5517,0.3619"], "30m"),
}


FULL = {"area", "parted", "plain", "thinned"}


@pytest.mark.parametrize(
    "variant",
    [pytest.param(each, marks=[pytest.mark.full] * (each in FULL)) for each in VARIANTS],
)
def test_cells_give_what_one_run_gives(
    variant: str, scenes: list[Path], model: Path, tmp_path: Path, geohr: Geohr
) -> None:
    options, cell = VARIANTS[variant]
    one = tmp_path / "one"
    one.mkdir()
    outputs = ["--out", one / "b.parquet", "--out", one / "classes.tif", "--probs", one / "p.tif"]
    ended = geohr("segment", *scenes, "--model", model, *outputs, *options)
    assert ended.code == 0, ended.err
    out = make_cells(geohr, scenes, model, tmp_path, *options, "--cell", cell, "--probs")
    expected = objects_of(one / "b.parquet")
    assert len(expected) > 10
    assert_same(objects_of(out), expected)
    for name, kind in (("classes", "classes"), ("p", "probabilities")):
        with (
            rasterio.open(one / f"{name}.tif") as whole,
            rasterio.open(tmp_path / f"country.{kind}.vrt") as joined,
        ):
            assert joined.shape == whole.shape
            assert joined.transform == whole.transform
            assert (joined.read() == whole.read()).all()
            assert joined.nodata == 255
    told = json.loads(geohr("cells", "status", tmp_path / "plan.json", "--json").out)
    assert told["done"] == told["cells"] > 3
    assert np.isclose(told["km2_to_go"], 0)


def test_cells_from_python(scenes: list[Path], model: Path, tmp_path: Path) -> None:
    options = package.SegmentOptions(threshold=0.5, instances=1)
    plan = package.plan_cells(
        scenes[:2], tmp_path / "to", model=model, options=options,
        asked=package.CellOptions(cell="50m", classes=False),
    )  # fmt: skip
    assert package.run_cells(plan, plan.task(1, 2))["done"] == len(plan.cells) // 2
    counts = package.run_cells(plan)
    assert (counts["done"], counts["failed"]) == (len(plan.cells) - counts["skipped"], 0)
    assert package.cells_status(plan).done == len(plan.cells)
    joined = package.join_cells(plan, tmp_path / "all.parquet")
    assert joined.objects == len(objects_of(tmp_path / "all.parquet")) > 10
