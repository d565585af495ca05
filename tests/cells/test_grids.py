"""Cells on stated grids, on clusters; what lies beside a joined map."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from pyproj import Transformer

from geohr.workflows.cells.plan import read_plan
from tests.cells.test_cells import assert_same, make_cells, objects_of
from tests.command import Geohr
from tests.makers import write_scene

OPTIONS = ("--instances", "1", "--threshold", "0.5")


@pytest.mark.usefixtures("local_predictor")
@pytest.mark.full
def test_a_stated_grid_is_the_same_map_in_any_cells(
    scenes: list[Path], model: Path, tmp_path: Path, geohr: Geohr
) -> None:
    """Scenes are brought to the grid; edges of cells are multiples of their side there."""
    found = []
    for cell in ("50m", "10km"):
        folder = tmp_path / cell
        folder.mkdir()
        out = make_cells(
            geohr, scenes, model, folder, *OPTIONS, "--cell", cell, "--grid", "EPSG:32635"
        )
        with rasterio.open(folder / "country.classes.vrt") as raster:
            assert raster.crs.to_epsg() == 32635
            found.append((objects_of(out), raster.read(1)))
    (small, pixels), (large, whole) = found
    assert len(large) > 10
    assert_same(small, large)
    assert (pixels == whole).all()
    plan = read_plan(tmp_path / "50m" / "plan.json")
    zone = plan.zones[0]
    left = zone.geobox.transform.c + np.array(zone.cols[1:-1]) * zone.geobox.transform.a
    assert (np.abs(left / 50 - np.rint(left / 50)) * 50 <= zone.geobox.transform.a / 2).all()
    x, y = plan.cells[0].name.removeprefix("x").split("y")
    assert abs(int(x) * 50 - zone.geobox.transform.c) < 50
    assert int(y) > 0


@pytest.mark.usefixtures("local_predictor")
def test_what_lies_beside_a_map(
    scenes: list[Path], model: Path, tmp_path: Path, geohr: Geohr
) -> None:
    """The collection is valid STAC, and vector tiles hold the objects."""
    plan, out = tmp_path / "plan.json", tmp_path / "map.parquet"
    ended = geohr(
        "cells", "plan", *scenes, "--model", model, "--out", plan, *OPTIONS, "--cell", "70m",
        "--json", "--price", "2",
    )  # fmt: skip
    told = json.loads(ended.out)
    assert told["cost"] == pytest.approx(told["core_hours"] * 2)
    assert told["cost_per_km2"] * told["km2"] == pytest.approx(told["cost"])
    assert geohr("cells", "run", plan).code == 0
    ended = geohr("cells", "join", plan, "--out", out, "--pmtiles", tmp_path / "map.pmtiles")
    assert ended.code == 0, ended.err
    tiles = geopandas.read_file(tmp_path / "map.pmtiles")
    assert len(tiles) > 10
    collection = pystac.Collection.from_file(str(tmp_path / "map.collection.json"))
    assert set(collection.assets) == {"objects", "classes"}
    items = pystac.ItemCollection.from_file(str(tmp_path / "map.items.json"))
    assert len(items) == told["cells"]
    west, south, east, north = collection.extent.spatial.bboxes[0]
    assert west < east
    assert south < north
    for item in items:
        assert item.bbox is not None
        assert west <= item.bbox[0] < item.bbox[2] <= east
    refused = geohr("cells", "join", plan, "--out", out, "--pmtiles", tmp_path / "map.mbtiles")
    assert refused.code == 2


@pytest.mark.full
@pytest.mark.usefixtures("local_predictor")
def test_scenes_in_two_utm_zones_are_two_mosaics(
    scenes: list[Path], model: Path, tmp_path: Path, geohr: Geohr
) -> None:
    """A scene across 30 degrees east belongs to both zones, each of which has its own part."""
    east = Transformer.from_crs("OGC:CRS84", "EPSG:32636", always_xy=True).transform(30, 0.36)[0]
    with rasterio.open(scenes[0]) as scene:
        pixels = scene.read()
    transform = Affine(0.5, 0, round(east) - pixels.shape[2] / 4, 0, -0.5, 40_000)
    across = write_scene(tmp_path / "across.tif", pixels, transform=transform, nodata=0)
    out = make_cells(geohr, [across], model, tmp_path, *OPTIONS, "--cell", "40m", "--grid", "utm")
    plan = read_plan(tmp_path / "plan.json")
    assert [each.name for each in plan.zones] == ["32635-", "32636-"]
    for zone in ("32635", "32636"):
        parts = [*out.glob(f"cell={zone}-*/*"), *out.glob(f"cell=edges/*{zone}.parquet")]
        frames = [geopandas.read_parquet(each) for each in parts]
        assert sum(map(len, frames)) > 3
        assert all(each.crs.to_epsg() == int(zone) for each in frames)
        with rasterio.open(tmp_path / f"country.{zone}-classes.vrt") as raster:
            assert (raster.read(1) != 255).any()


@pytest.mark.full
def test_workers_of_a_cluster_write_cells(
    scenes: list[Path], model: Path, tmp_path: Path, geohr: Geohr
) -> None:
    plan, one, out = tmp_path / "plan.json", tmp_path / "one.parquet", tmp_path / "map.parquet"
    options = ["--model", model, *OPTIONS, "--backend", "torch"]
    assert geohr("segment", *scenes, "--out", one, *options).code == 0
    assert geohr("cells", "plan", *scenes, "--cell", "60m", "--out", plan, *options).code == 0
    ended = geohr("cells", "run", plan, "--dask", "local:2")
    assert ended.code == 0, ended.err
    count = len(read_plan(plan).cells)
    assert f"done={count} skipped=0" in ended.out
    assert f"skipped={count}" in geohr("cells", "run", plan, "--dask", "local:1").out
    assert geohr("cells", "join", plan, "--out", out).code == 0
    assert_same(objects_of(out), objects_of(one))
