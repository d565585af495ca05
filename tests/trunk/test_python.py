"""What a notebook types: options as keywords, scenes that are held in memory, results shown."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rioxarray
from affine import Affine
from rasterio.vrt import WarpedVRT

import geohr
import geohr.api.xarray
from geohr._runtime.messages import as_keywords
from geohr._runtime.progress import heard
from geohr.api.keywords import SegmentKeywords
from geohr.errors import InputError, UsageError
from tests.makers import one_class_card, random_model, write_scene

# rioxarray's own, from what it computes with affine.
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

BRIGHT = (slice(None), slice(30, 60), slice(20, 70))
"""The one object of the scene."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = np.full((3, 100, 90), 40, np.uint8)
    pixels[BRIGHT] = 220
    pixels[:, :5] = 0
    return write_scene(tmp_path_factory.mktemp("python") / "scene.tif", pixels, nodata=0)


@pytest.fixture(autouse=True)
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that takes the brightness for the probability, in place of the bundled one."""

    class Brightness:
        workers, engine, batch = 1, "brightness", 1

        def predict(self, pixels: np.ndarray) -> np.ndarray:
            return 1 / (1 + np.exp(-4 * pixels[:, :1])).astype(np.float32)

    model = random_model(tmp_path / "m.safetensors", card=one_class_card(gsd=(0.3, 0.7)))
    monkeypatch.setattr("geohr.inference.executor.open_predictor", lambda *_, **__: Brightness())
    monkeypatch.setattr("geohr.models.model.bundled_models", lambda: {"buildings": model})


def same(one: geopandas.GeoDataFrame, other: geopandas.GeoDataFrame) -> bool:
    return len(one) == 1 and one.crs == other.crs and one.geometry.equals(other.geometry)


def test_an_editor_knows_each_option_as_a_keyword() -> None:
    fields = [each.name for each in dataclasses.fields(geohr.SegmentOptions)]
    assert [*SegmentKeywords.__annotations__] == fields


def test_options_are_keywords(scene: Path) -> None:
    by_options = geohr.segment(scene, options=geohr.SegmentOptions(threshold=0.4, simplify=1.0))
    by_keywords = geohr.segment(scene, threshold=0.4, simplify=1)
    assert same(by_keywords, by_options)
    # Keywords are taken over options; what is text may come as a number or a path.
    both = geohr.segment(scene, options=geohr.SegmentOptions(threshold=0.9, gsd="1"), threshold=0.4)
    assert both.geometry.equals(geohr.segment(scene, gsd=1.0, threshold=0.4).geometry)
    assert geohr.segment(scene, bands=[3, 2, 1], out_crs=rasterio.CRS.from_epsg(4326)).crs == 4326


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"treshold": 0.4}, "segment: unknown option 'treshold'; did you mean threshold"),
        ({"threshold": 4}, r"threshold must be in \[0.004, 1\]; got 4"),
        ({"threshold": "0.4"}, "threshold must be a number; got '0.4'"),
        ({"regularize": "no"}, "regularize must be True or False; got 'no'"),
        ({"bands": 3}, "bands must be several numbers; got 3"),
        ({"tile": 64.5}, "tile must be a whole number; got 64.5"),
        ({"outline": "round"}, "outline must be one of pixel, contour, None; got 'round'"),
        ({"crs": "EPSG:4326"}, "transform and crs are for arrays"),
    ],
)
def test_wrong_keywords_are_refused(scene: Path, keywords: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        geohr.segment(scene, **keywords)


def test_scenes_may_be_held_in_memory(scene: Path) -> None:
    expected = geohr.segment(scene)
    array = rioxarray.open_rasterio(scene)
    with rasterio.open(scene) as dataset:
        pixels, transform, crs = dataset.read(), dataset.transform, dataset.crs
        assert same(geohr.segment(dataset), expected)
        with WarpedVRT(dataset, crs=crs) as warped:
            assert same(geohr.segment(warped), expected)
    assert same(geohr.segment(pixels, transform=transform, crs=crs, nodata=0), expected)
    assert same(geohr.segment(array), expected)
    assert same(geohr.segment(array.transpose("y", "x", "band")), expected)
    # NaN in place of nodata, as rioxarray reads it with masked, goes back to what the file has.
    masked = rioxarray.open_rasterio(scene, masked=True, chunks=32)
    assert same(masked.geohr.segment(), expected)
    prediction = masked.geohr.predict()
    assert np.array_equal(
        prediction.probabilities, geohr.predict(scene).probabilities, equal_nan=True
    )
    assert prediction.to_xarray().rio.crs == crs


def test_what_is_no_scene_is_refused(scene: Path) -> None:
    with rasterio.open(scene) as dataset:
        pixels = dataset.read()
    with pytest.raises(InputError, match="is closed"):
        geohr.segment(dataset)
    with rasterio.open(scene, "r+") as dataset, pytest.raises(InputError, match="for writing"):
        geohr.segment(dataset)
    with pytest.raises(InputError, match=r"must be \(band, row, col\)"):
        geohr.segment(pixels[0, 0])
    with pytest.raises(InputError, match="cannot be read as a raster"):
        geohr.segment(pixels.astype("datetime64[s]"))
    with pytest.raises(UsageError, match=r"crs: .*give one such as EPSG:32636"):
        geohr.segment(pixels, transform=Affine.identity(), crs="EPSG:999999")
    with pytest.raises(UsageError, match="crs needs transform"):
        geohr.segment(pixels, crs="EPSG:32636")
    with pytest.raises(UsageError, match="got int"):
        geohr.segment(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the DataArray is no raster"):
        geohr.segment(rioxarray.open_rasterio(scene).rename(x="a", y="b"))


def test_messages_speak_of_keywords(scene: Path) -> None:
    with rasterio.open(scene) as dataset:
        pixels = dataset.read() / 255.0
    with pytest.raises(InputError, match="scale=MIN,MAX") as refused:
        geohr.segment(pixels, transform=Affine(0.5, 0, 450_000, 0, -0.5, 40_000), crs="EPSG:32636")
    assert "--" not in str(refused.value)
    assert as_keywords(
        "give it with --scene-gsd METRES, or --no-regularize; choose with --bands"
    ) == ("give it with scene_gsd=METRES, or regularize=False; choose with bands")


def test_results_show_themselves(scene: Path) -> None:
    model = geohr.Model.bundled()
    assert repr(model) == "Model('tiny', hrnetv2 on hrnetv2_w18_small_v1)"
    for shown in (model, geohr.predict(scene), geohr.Scene.open(scene)):
        assert "<table>" in shown._repr_html_()
    assert "data:image/png;base64," in geohr.predict(scene)._repr_html_()


def test_a_run_says_each_of_its_phases_once_and_in_order(scene: Path, tmp_path: Path) -> None:
    named: list[str] = []
    with heard(named.append, lambda _: None):
        geohr.segment_to_files(
            scene, [tmp_path / "objects.gpkg"], progress=lambda done, windows: None
        )
    assert named == ["reading", "predicting", "drawing", "writing"]
