"""Part of a scene: what is found there is what is found in the whole scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
import pyogrio
import pytest
import rasterio
import rasterio.features
import shapely

from geohr.api.memory import predict
from geohr.encoding import NODATA
from geohr.geobox import Window
from geohr.options import SegmentOptions, ViewOptions
from geohr.scene.prepare import open_view
from tests.command import Geohr
from tests.makers import UTM, noise, write_scene

X, Y = 450_000.0, 40_000.0


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "scene.tif", noise(500, 700, seed=5))


def area(path: Path, *shapes: Any, crs: str | None = UTM, to: str | None = None) -> Path:
    frame = geopandas.GeoDataFrame(geometry=list(shapes), crs=crs)
    (frame if to is None else frame.to_crs(to)).to_file(path)
    return path


SHAPES = {
    "a triangle": [shapely.Polygon([(X + 60, Y - 50), (X + 200, Y - 80), (X + 90, Y - 210)])],
    "two far apart": [
        shapely.box(X + 10, Y - 30, X + 30, Y - 10),
        shapely.box(X + 300, Y - 240, X + 340, Y - 200),
    ],
    "with a hole": [
        shapely.box(X + 50, Y - 200, X + 250, Y - 40).difference(
            shapely.box(X + 120, Y - 140, X + 200, Y - 80)
        )
    ],
    "beyond the scene": [shapely.box(X - 100, Y - 60, X + 55, Y + 100)],
}


@pytest.mark.usefixtures("local_predictor")
@pytest.mark.parametrize("to", [None, "EPSG:4326"])
@pytest.mark.parametrize("name", SHAPES)
def test_an_area_holds_what_the_whole_scene_holds_there(
    scene: Path, model: Path, tmp_path: Path, name: str, to: str | None
) -> None:
    shapes = SHAPES[name]
    aoi = area(tmp_path / "aoi.gpkg", *shapes, to=to)
    whole = predict(scene, model=model, options=SegmentOptions(tile=96), progress=None)
    part = predict(scene, model=model, options=SegmentOptions(tile=96, aoi=str(aoi)), progress=None)
    left, top = ~whole.transform @ (part.transform.c, part.transform.f)
    row, col = round(top), round(left)
    _, height, width = part.probabilities.shape
    there = whole.probabilities[:, row : row + height, col : col + width]
    inside = np.isfinite(part.probabilities)
    assert (part.probabilities[inside] == there[inside]).all()
    mask = rasterio.features.rasterize(
        shapes, out_shape=whole.probabilities.shape[1:], transform=whole.transform
    )
    assert abs(int(mask.sum()) - int(inside.sum())) <= 20


@pytest.mark.usefixtures("local_predictor")
def test_an_area_may_begin_far_from_the_first_windows(model: Path, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "wide.tif", noise(150, 2000, seed=6))
    right = shapely.box(X + 980, Y - 10, X + 990, Y - 2)
    left = shapely.box(X + 5, Y - 70, X + 15, Y - 60)
    aoi = area(tmp_path / "aoi.gpkg", right, left)
    whole = predict(scene, model=model, options=SegmentOptions(tile=64), progress=None)
    part = predict(scene, model=model, options=SegmentOptions(tile=64, aoi=str(aoi)), progress=None)
    inside = np.isfinite(part.probabilities[0])
    assert inside.sum() == 16 * 20 + 20 * 20
    rows, cols = slice(4, 140), slice(10, 1980)
    assert (part.probabilities[0][inside] == whole.probabilities[0][rows, cols][inside]).all()


@pytest.mark.usefixtures("local_predictor")
def test_only_windows_that_are_touched_are_predicted(
    scene: Path, model: Path, tmp_path: Path, geohr: Geohr
) -> None:
    aoi = area(tmp_path / "aoi.geojson", *SHAPES["two far apart"], to="EPSG:4326")
    out = tmp_path / "out.tif"
    ended = geohr(
        "segment", scene, "--aoi", aoi, "--out", out, "--tile", "64", "--model", model,
        "--min-area", "0",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    predicted, windows = (int(each) for each in _numbers(ended.out))
    assert predicted < windows / 5
    with rasterio.open(out) as raster:
        classes = raster.read(1)
        assert raster.bounds == (X + 10, Y - 240, X + 340, Y - 10)
    assert 0.01 < (classes != NODATA).mean() < 0.1


def _numbers(text: str) -> tuple[str, str]:
    words = text.split(" windows predicted")[0].split()
    return words[-3], words[-1]


@pytest.mark.usefixtures("local_predictor")
def test_a_box_in_degrees_is_an_area(
    scene: Path, model: Path, tmp_path: Path, geohr: Geohr
) -> None:
    shape = geopandas.GeoSeries([shapely.box(X + 60, Y - 160, X + 220, Y - 70)], crs=UTM)
    box = ",".join(f"{each:.7f}" for each in shape.to_crs("EPSG:4326").total_bounds)
    out = tmp_path / "out.gpkg"
    named = ("segment", scene, "--bbox", box, "--out", out, "--model", model, "--tile", "64")
    assert geohr(*named).code == 0
    found = geopandas.read_file(out, layer="out")
    assert len(found) > 0
    assert shapely.box(*found.total_bounds).within(shape.buffer(1).iloc[0])
    assert "time:" in geohr("plan", scene, "--bbox", box, "--model", model).out
    chips = geohr("tile", scene, "--bbox", box, "--out", tmp_path / "chips", "--tile", "128")
    assert 0 < len(list((tmp_path / "chips" / "images").iterdir())) < 20, chips.err


def test_areas_that_cannot_be_used_give_one_line(
    scene: Path, model: Path, tmp_path: Path, geohr: Geohr
) -> None:
    far = area(tmp_path / "far.gpkg", shapely.box(X + 9000, Y, X + 9100, Y + 50))
    with pytest.warns(UserWarning, match="'crs' was not provided"):
        bare = area(tmp_path / "bare.gpkg", shapely.box(0, 0, 1, 1), crs=None)
    points = area(tmp_path / "points.gpkg", shapely.Point(X + 50, Y - 50))
    text = tmp_path / "text.gpkg"
    text.write_text("nothing")
    unplaced = write_scene(tmp_path / "unplaced.tif", noise(100, 100), crs=None)
    for given, aoi, line in (
        (scene, far, "lies outside the scene"),
        (scene, bare, "the area has no CRS"),
        (scene, points, "holds no polygon"),
        (scene, text, "cannot be read as an area"),
        (scene, tmp_path / "none.gpkg", "cannot be read as an area"),
        (unplaced, far, "has no CRS, so an area cannot be placed on it"),
    ):
        ended = geohr(
            "segment", given, "--aoi", aoi, "--out", tmp_path / "o.gpkg", "--model", model
        )
        assert ended.code == 3, aoi
        assert line in ended.err
        assert ended.err.splitlines()[-1].startswith("geohr: ")
    assert not (tmp_path / "o.gpkg").exists()


def test_layers_without_geometries_are_no_area(scene: Path, tmp_path: Path) -> None:
    """As for labels: the first layer is the first with geometries."""
    box = shapely.box(X + 10, Y - 60, X + 40, Y - 20)
    geopandas.GeoDataFrame(geometry=[box], crs=UTM).to_file(tmp_path / "area.gpkg", layer="area")
    pandas.DataFrame({"style": ["red"]}).to_csv(tmp_path / "styles.csv")
    layers = "".join(
        f'<OGRVRTLayer name="{name}"><SrcDataSource relativeToVRT="1">{file}</SrcDataSource>'
        "</OGRVRTLayer>"
        for name, file in (("styles", "styles.csv"), ("area", "area.gpkg"))
    )
    path = tmp_path / "aoi.vrt"
    path.write_text(f"<OGRVRTDataSource>{layers}</OGRVRTDataSource>")
    assert [kind is None for _, kind in pyogrio.list_layers(path)] == [True, False]
    found = open_view(scene, ViewOptions(aoi=str(path)))
    assert found.area_window == Window(40, 20, 80, 60)
