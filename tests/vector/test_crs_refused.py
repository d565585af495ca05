"""CRSs that polygons cannot be brought into are refused before anything is predicted."""

from __future__ import annotations

from pathlib import Path

import pytest
from affine import Affine

from geohr.api.segment import segment_to_files
from geohr.errors import InputError
from geohr.options import SegmentOptions
from tests.command import Geohr
from tests.makers import noise, one_class_card, random_model, write_scene

LOCAL = 'LOCAL_CS["site",UNIT["metre",1]]'


@pytest.mark.parametrize(
    ("crs", "out", "options", "code", "said"),
    [
        ("EPSG:32636", "a.gpkg", ["--out-crs", "EPSG:4978"], 2, "polygons cannot be in EPSG:4978"),
        (LOCAL, "a.gpkg", ["--out-crs", "EPSG:4326"], 3, "no transformation into EPSG:4326"),
        (LOCAL, "a.geojson", [], 3, "no transformation into OGC:CRS84"),
    ],
)
def test_a_crs_without_a_way_is_refused_before_predicting(
    crs: str, out: str, options: list[str], code: int, said: str, tmp_path: Path, geohr: Geohr,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    scene = write_scene(tmp_path / "scene.tif", noise(64, 64), crs=crs)
    model = random_model(tmp_path / "m.safetensors", card=one_class_card())

    def predicted(*_: object, **__: object) -> None:
        raise AssertionError("predicted before the CRS was looked at")

    monkeypatch.setattr("geohr.inference.executor.predict_rows", predicted)
    ended = geohr(
        "segment", scene, "--model", model, "--out", tmp_path / out, "--gsd", "native",
        "--backend", "torch", *options,
    )  # fmt: skip
    assert (ended.code, said in ended.err) == (code, True), ended.err


def test_a_crs_that_geotiff_cannot_hold_is_refused_before_predicting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotated = "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18 +type=crs"
    transform = Affine(5e-6, 0, 1, 0, -5e-6, 1)
    scene = write_scene(tmp_path / "scene.tif", noise(64, 64), crs=rotated, transform=transform)
    model = random_model(tmp_path / "m.safetensors", card=one_class_card())
    options = SegmentOptions(gsd="native", backend="torch")
    segment_to_files(scene, [tmp_path / "a.gpkg"], model=model, options=options)

    def predicted(*_: object, **__: object) -> None:
        raise AssertionError("predicted before the CRS was looked at")

    monkeypatch.setattr("geohr.inference.executor.predict_rows", predicted)
    raster = tmp_path / "b.tif"
    with pytest.raises(InputError, match=r"cannot hold the scene's CRS.*gdalwarp"):
        segment_to_files(scene, [raster], model=model, options=options)
    with pytest.raises(InputError, match=r"cannot hold the scene's CRS.*gdalwarp"):
        segment_to_files(scene, [], probs=raster, model=model, options=options)
    kept = {"scene.tif", "scene.tif.aux.xml", "m.safetensors", "a.gpkg", "a.qml", "a.sld"}
    assert {path.name for path in tmp_path.iterdir()} - kept == set()
