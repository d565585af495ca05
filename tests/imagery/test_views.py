"""Which grid a scene is read on, and in which CRS its polygons come back."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.warp
import rasterio.windows
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

from geohr.api.memory import predict, segment
from geohr.errors import InputError, UsageError
from geohr.options import SegmentOptions, ViewOptions
from geohr.scene import Scene
from geohr.scene.prepare import FACTOR, SQUARE, ResolutionRange, open_view
from tests.command import Geohr
from tests.makers import noise, one_class_card, random_model, write_scene

SUITS = ResolutionRange(trained=(0.1, 2.0), best=(0.4, 0.6))


@pytest.mark.parametrize(
    ("own", "read_at"),
    [
        (0.5, 0.5),
        (0.6 * FACTOR * 0.99, 0.6 * FACTOR * 0.99),
        (0.6 * FACTOR * 1.01, 0.6),
        (0.4 / FACTOR * 1.01, 0.4 / FACTOR * 1.01),
        (0.4 / FACTOR * 0.99, 0.4),
        (0.01, 0.4),
        (4.0, 1.0),  # enlarged four times and no more
        (8.1, 8.1),  # too coarse for this model, however it is read
    ],
)
def test_auto_brings_a_scene_to_what_suits_the_model(
    tmp_path: Path, own: float, read_at: float
) -> None:
    path = write_scene(tmp_path / "scene.tif", noise(200, 200))
    scene = open_view(path, ViewOptions(scene_gsd=own), suits=SUITS)
    assert scene.gsd == pytest.approx(read_at)
    assert scene.height == pytest.approx(200 * own / read_at, abs=1)


def test_native_leaves_a_scene_as_it_is_and_numbers_do_not(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "scene.tif", noise(200, 300))
    own = Scene.open(path)
    assert open_view(path, ViewOptions(gsd="native"), suits=SUITS) == own
    coarse = open_view(path, ViewOptions(gsd="2"), suits=SUITS)
    assert (coarse.height, coarse.width) == (50, 75)
    assert coarse.gsd == 2.0


def test_a_scene_in_degrees_is_read_in_metres_on_its_own_datum(tmp_path: Path) -> None:
    place = Affine(5e-6, 0, -97.5, 0, -5e-6, 39.1)
    path = write_scene(tmp_path / "scene.tif", noise(100, 100), crs="EPSG:4269", transform=place)
    scene = open_view(path, ViewOptions())
    assert scene.crs == "EPSG:26914"  # NAD83 / UTM zone 14N
    assert scene.gsd == pytest.approx(Scene.open(path).gsd, rel=1e-3)
    assert scene.native.crs == "EPSG:4269"
    assert scene.transform.a == -scene.transform.e


@pytest.mark.filterwarnings("ignore:.*so near to a pole:UserWarning")
@pytest.mark.parametrize(
    ("latitude", "stretch", "as_it_is"),
    [
        (0.0, 1.0, True),
        (0.0, SQUARE * 1.01, False),
        (60.0, 1.0, False),
        (60.0, 0.5, True),  # degrees of longitude are half as long there
        (90.0, 1.0, False),
    ],
)
def test_a_scene_in_degrees_whose_pixels_are_square_on_the_ground_is_read_as_it_is(
    tmp_path: Path, latitude: float, stretch: float, as_it_is: bool
) -> None:
    place = Affine(5e-6 / stretch, 0, 32, 0, -5e-6, latitude)
    path = write_scene(tmp_path / "scene.tif", noise(100, 100), crs="EPSG:4326", transform=place)
    own = Scene.open(path)
    assert (open_view(path, ViewOptions()) == own) == as_it_is
    # What is resampled anyway is resampled to metres.
    assert open_view(path, ViewOptions(gsd="1.5")).crs != own.crs


def test_what_spans_too_much_for_one_metric_crs_is_refused(tmp_path: Path) -> None:
    place = Affine(0.5, 0, 0, 0, -0.5, 60)
    path = write_scene(tmp_path / "scene.tif", noise(50, 60), crs="EPSG:4326", transform=place)
    with pytest.raises(InputError, match="30 degrees of longitude"):
        open_view(path, ViewOptions())
    assert open_view(path, ViewOptions(gsd="native")).crs == "EPSG:4326"


def test_slivers_at_a_pole_are_told_of(tmp_path: Path) -> None:
    for latitude, told in ((90.0, True), (89.0, False)):
        place = Affine(1e-3, 0, 32, 0, -1e-3, latitude)
        path = write_scene(
            tmp_path / "scene.tif", noise(100, 100), crs="EPSG:4326", transform=place
        )
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            open_view(path, ViewOptions())
        assert any("near to a pole" in str(each.message) for each in said) == told


def test_without_a_crs_a_resolution_must_be_told(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "scene.tif", noise(80, 80), crs=None)
    assert open_view(path, ViewOptions(), suits=SUITS).warped_from is None
    with pytest.raises(InputError, match="--scene-gsd"):
        open_view(path, ViewOptions(gsd="1"))
    assert open_view(path, ViewOptions(gsd="1", scene_gsd=0.5)).height == 40


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"gsd": "fine"}, "auto, native or metres a pixel such as 0.3; got 'fine'"),
        ({"gsd": "-1"}, "got '-1'"),
        ({"gsd": "nan"}, "got 'nan'"),
        ({"scene_gsd": 0.0}, "scene_gsd must be in"),
        ({"bbox": (1.0, 2.0, 3.0)}, "four numbers WEST,SOUTH,EAST,NORTH; got 1,2,3"),
        ({"bbox": (3.0, 2.0, 1.0, 4.0)}, "WEST < EAST"),
        ({"bbox": (500000.0, 2.0, 600000.0, 4.0)}, "degrees"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], line: str) -> None:
    with pytest.raises(UsageError) as refused:
        ViewOptions(**options)
    assert line in str(refused.value)


def blobs(path: Path, crs: str, gsd: float) -> Path:
    """Bright squares on dark ground, 0.5 m, brought into a CRS."""
    pixels = np.full((3, 300, 300), 30, np.uint8)
    for row in range(40, 280, 60):
        for col in range(40, 280, 60):
            pixels[:, row : row + 20, col : col + 26] = 220
    fine = write_scene(path.with_name("fine.tif"), pixels)
    with rasterio.open(fine) as source:
        transform, width, height = rasterio.warp.calculate_default_transform(
            source.crs, crs, source.width, source.height, *source.bounds,
            resolution=None if gsd == 0.5 else gsd,
        )  # fmt: skip
        out = np.zeros((3, height, width), np.uint8)
        rasterio.warp.reproject(
            rasterio.band(source, [1, 2, 3]), out, dst_transform=transform, dst_crs=crs,
            resampling=rasterio.warp.Resampling.average,
        )  # fmt: skip
    return write_scene(path, out, crs=crs, transform=transform, nodata=0)


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> None:
    """A predictor for which bright is a building."""
    from benchmarks.scenes import ReadOff

    monkeypatch.setattr(
        "geohr.inference.executor.open_predictor", lambda *_, **__: ReadOff(0.5, workers=1)
    )


@pytest.mark.usefixtures("bright")
@pytest.mark.filterwarnings("ignore:.*is resampled:UserWarning")
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32636"])
def test_polygons_come_back_in_the_scenes_crs_and_on_the_objects(
    tmp_path: Path, model: Path, crs: str
) -> None:
    path = blobs(tmp_path / "scene.tif", crs, 0.5)
    options = SegmentOptions(gsd="0.5", tile=128, min_area=20.0, threshold=0.5)
    found = segment(path, model=model, options=options, progress=None)
    assert found.crs == crs
    metric = found.to_crs("EPSG:32636").geometry
    true = [
        (450_000 + (col + 13) / 2, 40_000 - (row + 10) / 2)
        for row in range(40, 280, 60)
        for col in range(40, 280, 60)
    ]
    assert len(metric) == len(true)
    centres = np.column_stack([metric.centroid.x, metric.centroid.y])
    apart = np.linalg.norm(centres[:, None] - np.array(true)[None], axis=2)
    assert apart.min(axis=0).max() < 0.25  # half a pixel
    assert found["area_m2"].to_numpy() == pytest.approx(10 * 13, rel=0.12)


@pytest.mark.usefixtures("bright")
def test_polygons_come_in_the_crs_that_is_asked_for(
    tmp_path: Path, model: Path, geohr: Geohr
) -> None:
    path = blobs(tmp_path / "scene.tif", "EPSG:32636", 0.5)
    out = tmp_path / "out.gpkg"
    named = ("segment", path, "--out", out, "--model", model, "--tile", "128")
    assert geohr(*named, "--out-crs", "EPSG:4326").code == 0
    found = geopandas.read_file(out, layer="out")
    assert found.crs == "EPSG:4326"
    west, _, east, north = found.total_bounds
    assert 32 < west < east < 33
    assert 0 < north < 1
    ended = geohr(*named, "--out-crs", "EPSG:99", "--overwrite")
    assert ended.code == 2
    assert "give one such as EPSG:32636" in ended.err


@pytest.mark.usefixtures("bright")
@pytest.mark.filterwarnings("ignore:.*is resampled:UserWarning")
def test_arrays_and_rasters_lie_on_the_grid_that_was_read(tmp_path: Path, model: Path) -> None:
    path = blobs(tmp_path / "scene.tif", "EPSG:4326", 0.5)
    options = SegmentOptions(gsd="0.5", tile=128)
    made = predict(path, model=model, options=options, progress=None)
    assert made.crs is not None
    assert made.crs.to_epsg() == 32636
    assert made.transform.a == pytest.approx(0.5, rel=0.01)


@pytest.mark.usefixtures("bright")
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32636"])
@pytest.mark.parametrize("part", [False, True])
def test_rasters_come_back_on_the_scenes_own_grid(
    tmp_path: Path, model: Path, geohr: Geohr, crs: str, part: bool
) -> None:
    path = blobs(tmp_path / "scene.tif", crs, 0.5)
    classes, probs = tmp_path / "classes.tif", tmp_path / "probs.tif"
    named = ["segment", path, "--out", classes, "--probs", probs, "--model", model, "--tile", "96"]
    box = ("--bbox", "32.5506,0.3612,32.5512,0.3617") if part else ()
    ended = geohr(*named, "--gsd", "0.31", *box)
    assert ended.code == 0, ended.err
    with rasterio.open(path) as scene, rasterio.open(classes) as made, rasterio.open(probs) as p:
        left, top = ~scene.transform @ (made.transform.c, made.transform.f)
        assert (left, top) == pytest.approx((round(left), round(top)), abs=1e-6)
        assert p.shape == made.shape
        if not part:
            assert made.shape == scene.shape
        window = rasterio.windows.Window(round(left), round(top), made.width, made.height)
        pixels, valid = scene.read(1, window=window), scene.dataset_mask(window=window) > 0
        found, share = made.read(1), p.read(1)
    known = (found != 255) & valid
    assert known.mean() > 0.9
    assert ((found == 1) == (pixels > 125))[known].mean() > 0.98
    assert ((share > 127) == (pixels > 125))[known].mean() > 0.98
    left_over = sorted(each.name for each in tmp_path.iterdir())
    assert left_over == ["classes.tif", "fine.tif", "probs.tif", "scene.tif"]


@pytest.mark.filterwarnings("ignore:.*is resampled:UserWarning")
def test_the_resolution_is_part_of_what_a_run_is_known_by(tmp_path: Path) -> None:
    from geohr.inference.executor import LocalExecutor
    from geohr.inference.prepare import prepare
    from geohr.models.model import resolve_model

    card = one_class_card(gsd=(0.3, 0.6))
    model = resolve_model(random_model(tmp_path / "m.safetensors", card=card))
    path = write_scene(tmp_path / "scene.tif", noise(200, 200))
    box = (32.5505, 0.3611, 32.551, 0.3615)
    several = [
        SegmentOptions(),
        SegmentOptions(gsd="0.7"),
        SegmentOptions(scene_gsd=1.0),
        SegmentOptions(bbox=box),
    ]
    jobs = [prepare(path, model, each, LocalExecutor()) for each in several]
    known = [json.dumps(job.fingerprint("")["view"]) for job in jobs]
    assert len(set(known)) == 4


def test_a_crs_without_a_geotransform_is_told_of(tmp_path: Path) -> None:
    with pytest.warns(NotGeoreferencedWarning):  # rasterio's, at writing
        path = write_scene(tmp_path / "scene.tif", noise(40, 40), transform=Affine.identity())
    with pytest.warns(UserWarning, match="has a CRS but no geotransform"):
        open_view(path, ViewOptions())
