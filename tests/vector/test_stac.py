"""A STAC Item beside the outputs, and when the scene was taken."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pystac
import pytest
import rasterio
import rasterio.warp
import shapely
from pystac.stac_object import STACObjectType
from pystac.validation.stac_validator import JsonSchemaSTACValidator

from geohr.api.segment import segment_to_files
from geohr.errors import UsageError
from geohr.options import SegmentOptions
from geohr.outputs.stac import item_beside
from geohr.scene.stac import acquired
from tests.makers import noise, random_model, write_scene

TAKEN = "2021-06-05T07:08:09"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of a run on a scene that says when it was taken, with their Item."""
    folder = tmp_path_factory.mktemp("run")
    scene = write_scene(folder / "scene.tif", noise(96, 128))
    with rasterio.open(scene, "r+") as raster:
        raster.update_tags(TIFFTAG_DATETIME="2021:06:05 07:08:09")
    model = random_model(folder / "m.safetensors")
    outputs = [folder / "objects.gpkg", folder / "classes.tif"]
    # Untrained, the model gives some probability to anything.
    options = SegmentOptions(threshold=0.1, min_area=0)
    segment_to_files(scene, outputs, model=model, options=options, stac=True)
    return folder


@pytest.fixture
def item(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "objects.stac.json").read_text("utf-8"))
    return read


def test_the_item_is_valid_stac(item: dict[str, Any]) -> None:
    JsonSchemaSTACValidator().validate_core(item, STACObjectType.ITEM, "1.1.0")
    assert pystac.Item.from_dict(item).datetime is not None


def test_a_scene_that_says_no_time_has_a_range(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", noise(64, 64))
    model = random_model(tmp_path / "m.safetensors")
    segment_to_files(scene, [tmp_path / "objects.gpkg"], model=model, stac=True)
    item = json.loads((tmp_path / "objects.stac.json").read_text("utf-8"))
    JsonSchemaSTACValidator().validate_core(item, STACObjectType.ITEM, "1.1.0")
    told = item["properties"]
    # The time of the file is no time of the image.
    assert told["datetime"] is None
    assert told["start_datetime"] < "1900"
    assert told["end_datetime"] == told["geohr:scene_modified"]
    read = pystac.Item.from_dict(item)
    assert read.datetime is None
    assert read.common_metadata.end_datetime is not None


def test_the_item_says_what_was_made_of_what(item: dict[str, Any], folder: Path) -> None:
    for name, kind in (("objects.gpkg", "sqlite3"), ("classes.tif", "geotiff")):
        assert item["assets"][name]["href"] == f"./{name}"
        assert kind in item["assets"][name]["type"]
        assert (folder / name).exists()
    assert item["links"] == [{"rel": "derived_from", "href": "scene.tif", "type": "image/tiff"}]
    assert item["properties"]["datetime"] == f"{TAKEN}Z"
    with rasterio.open(folder / "scene.tif") as raster:
        bounds = rasterio.warp.transform_bounds(raster.crs, "OGC:CRS84", *raster.bounds)
    assert item["bbox"] == pytest.approx(bounds, abs=1e-6)
    assert shapely.geometry.shape(item["geometry"]).exterior.is_ccw


def test_the_item_has_what_its_extensions_ask_for(item: dict[str, Any]) -> None:
    """The rules of MLM 1.5.0 and processing 1.2.0; their schemas lie on a server."""
    told = item["properties"]
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]", told["mlm:name"])
    assert {"mlm:architecture", "mlm:tasks", "mlm:input", "mlm:output"} <= told.keys()
    (taken,), (given,) = told["mlm:input"], told["mlm:output"]
    assert taken["input"]["shape"] == [-1, 3, *given["result"]["shape"][2:]]
    assert [each["name"] for each in given["classification:classes"]] == ["building"]
    models = [each for each in item["assets"].values() if "mlm:model" in each["roles"]]
    assert len(models) == 1
    assert models[0]["mlm:artifact_type"]
    assert told["geohr:model_sha256"] in models[0]["href"]
    assert told["processing:software"]["geohr"] == told["geohr:version"]
    assert told["geohr:scene_modified"].endswith("Z")


def test_objects_say_when_the_scene_was_taken(folder: Path) -> None:
    table = geopandas.read_file(folder / "objects.gpkg", layer="objects")
    assert len(table)
    assert (table["acquired"] == TAKEN).all()


def test_an_item_that_exists_is_not_replaced(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"objects\.stac\.json"):
        segment_to_files(
            folder / "scene.tif",
            [folder / "objects.fgb"],
            model=folder / "m.safetensors",
            stac=True,
        )
    assert not (folder / "objects.fgb").exists()


def test_the_item_lies_beside_the_output() -> None:
    assert item_beside(Path("a/b.c/x.y.gpkg")) == Path("a/b.c/x.y.stac.json")
    assert item_beside("s3://bucket/a/x.gpkg") == "s3://bucket/a/x.stac.json"


@pytest.mark.parametrize("time", ["", "yesterday", "0000:00:00 00:00:00"])
def test_a_time_that_is_none_is_not_told(time: str, tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", np.zeros((1, 8, 8), np.uint8))
    assert acquired([str(scene)], [str(scene)]) is None
    with rasterio.open(scene, "r+") as raster:
        raster.update_tags(TIFFTAG_DATETIME=time)
    assert acquired([str(scene)], [str(scene)]) is None


def test_satellite_metadata_win_over_the_tag_and_stac_over_both(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", np.zeros((1, 8, 8), np.uint8))
    with rasterio.open(scene, "r+") as raster:
        raster.update_tags(TIFFTAG_DATETIME="2021:06:05 07:08:09")
    (tmp_path / "scene.IMD").write_text(
        'BEGIN_GROUP = IMAGE_1\n\tsatId = "WV02";\n'
        "\tfirstLineTime = 2014-10-29T08:11:25.130000Z;\nEND_GROUP = IMAGE_1\nEND;\n"
    )
    assert acquired([str(scene)], [str(scene)]) == "2014-10-29T08:11:25Z"
    item = {"type": "Feature", "properties": {"datetime": "2019-01-02T03:04:05Z"}}
    later = {"type": "Feature", "properties": {"datetime": "2020-01-02T03:04:05Z"}}
    both = {"type": "FeatureCollection", "features": [later, item]}
    (tmp_path / "item.json").write_text(json.dumps(item))
    (tmp_path / "both.json").write_text(json.dumps(both))
    assert acquired([str(tmp_path / "item.json")], [str(scene)]) == "2019-01-02T03:04:05Z"
    assert (
        acquired([str(tmp_path / "both.json")], [str(scene)])
        == "2019-01-02T03:04:05Z/2020-01-02T03:04:05Z"
    )
