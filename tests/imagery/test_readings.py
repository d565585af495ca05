"""A scene read at several resolutions in one run, joined on the grid of the finest."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely

from geohr.api.memory import predict
from geohr.api.plan import plan
from geohr.encoding import NODATA, PROBABILITY_MAX, Bytes
from geohr.errors import InterruptedRunError, UsageError
from geohr.inference.checkpoint import WORK_FOLDER
from geohr.inference.executor import LocalExecutor
from geohr.inference.prepare import prepare
from geohr.models.model import Model, resolve_model
from geohr.options import SegmentOptions
from geohr.scene import Scene, SceneReader
from geohr.scene.prepare import warp
from geohr.stitching.joins import join
from tests.makers import noise, one_class_card, random_model, write_scene
from tests.unattended.test_resume import contents, run

OPTIONS = SegmentOptions(tile=32, gsd="native", readings=(1.5,), backend="torch")


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A scene at 0.5 m with a hole without data, larger than one block of the lattice."""
    pixels = noise(400, 620, seed=3)
    pixels[:, 60:150, 40:200] = 0
    return write_scene(tmp_path / "scene.tif", pixels, nodata=0)


def read_levels(scene: Path, model: Path, **options: Any) -> Bytes:
    """Probabilities `(class, row, col)` in 1/254, 255 without data, on the grid that is read."""
    asked = dataclasses.replace(OPTIONS, **options)
    found = predict(scene, model=model, options=asked, progress=None).probabilities
    levels = np.where(np.isfinite(found), found * PROBABILITY_MAX, NODATA)
    return np.rint(levels).astype(np.uint8)


def on_fine_grid(levels: Bytes, scene: Path, folder: Path, gsd: float) -> Bytes:
    """A coarse reading written as a raster, and read on the grid of the scene."""
    geobox, own = Scene.open(scene).geobox, Scene.open(scene).gsd
    assert own is not None
    transform = geobox.transform @ rasterio.Affine.scale(gsd / own)
    coarse = write_scene(folder / "coarse.tif", levels, transform=transform, nodata=NODATA)
    with SceneReader(warp(Scene.open(coarse), geobox, by_centre=True)) as reader:
        tile = reader.read(geobox.extent)
    found: Bytes = np.minimum(tile.pixels, PROBABILITY_MAX)
    found[:, ~tile.valid] = NODATA
    return found


@pytest.mark.usefixtures("local_predictor")
@pytest.mark.parametrize("how", ["mean", "larger"])
def test_two_readings_are_two_runs_joined(
    how: str, scene: Path, model: Path, tmp_path: Path
) -> None:
    fine = read_levels(scene, model, readings=())
    coarse = read_levels(scene, model, readings=(), gsd="1.5")
    expected = join([fine, on_fine_grid(coarse, scene, tmp_path, 1.5)], how)
    both = read_levels(scene, model, join=how)
    assert (both == expected).all()
    assert (both != fine).mean() > 0.2
    assert ((both == NODATA) == (fine == NODATA)).all()


@pytest.mark.usefixtures("local_predictor")
def test_an_area_holds_what_the_whole_scene_holds_there(
    scene: Path, model: Path, tmp_path: Path
) -> None:
    import geopandas

    aoi = tmp_path / "aoi.gpkg"
    box = shapely.box(450_190.3, 40_000 - 190, 450_280, 40_000 - 120.7)
    geopandas.GeoDataFrame(geometry=[box], crs="EPSG:32636").to_file(aoi)
    whole = read_levels(scene, model)
    part = read_levels(scene, model, aoi=str(aoi))
    _, height, width = part.shape
    there = whole[:, 241 : 241 + height, 380 : 380 + width]
    inside = part != NODATA
    assert inside.mean() > 0.9
    assert (part[inside] == there[inside]).all()
    few, all_of_it = (
        plan(scene, model=model, options=dataclasses.replace(OPTIONS, aoi=each)).windows
        for each in (str(aoi), None)
    )
    assert few < all_of_it / 2


def test_a_pixel_is_joined_of_the_readings_that_have_it() -> None:
    first = np.array([[[10, 200, NODATA, 0, 253]]], np.uint8)
    second = np.array([[[21, NODATA, 7, 254, 254]]], np.uint8)
    assert join([first, second], "mean").tolist() == [[[16, 200, NODATA, 127, 254]]]
    assert join([first, second], "larger").tolist() == [[[21, 200, NODATA, 254, 254]]]


@pytest.mark.usefixtures("local_predictor")
@pytest.mark.parametrize("stop_after", [20, 120], ids=["in the coarser reading", "after it"])
def test_a_stopped_run_goes_on_where_it_stopped(
    stop_after: int, scene: Path, model: Path, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    whole.mkdir()
    out.mkdir()
    undisturbed = run(scene, whole, model, options=OPTIONS)
    coarse = len(prepare(scene, Model.load(model), OPTIONS, LocalExecutor()).coarser[0].job.grid)
    assert 20 < coarse < 120 < undisturbed.windows
    with pytest.raises(InterruptedRunError, match="goes on where it stopped"):
        run(scene, out, model, stop_after=stop_after, options=OPTIONS)
    assert any(out.glob(f"{WORK_FOLDER}/*/*/reading-*"))
    resumed = run(scene, out, model, options=OPTIONS)
    assert 0 < resumed.reused < undisturbed.blocks
    assert (resumed.windows, resumed.predicted) == (undisturbed.windows, undisturbed.predicted)
    assert contents(out) == contents(whole)
    assert not (out / WORK_FOLDER).exists()


@pytest.mark.parametrize(
    ("own", "options", "readings"),
    [
        (0.1, {}, (0.3,)),
        (0.3, {}, (0.3,)),  # enlarged to 0.15, and read as it is
        (0.35, {}, ()),  # coarser than the card's reading
        (0.1, {"gsd": "0.15"}, ()),  # one resolution was asked for
        (0.1, {"gsd": "0.15", "readings": (0.6, 0.3, 0.16)}, (0.3, 0.6)),
        (0.1, {"readings": ()}, ()),
        (0.1, {"readings": (60.0,)}, ()),  # larger than the scene
    ],
)
def test_the_card_names_readings_and_options_others(
    own: float, options: dict[str, Any], readings: tuple[float, ...], tmp_path: Path
) -> None:
    scale = rasterio.Affine(own, 0, 450_000, 0, -own, 40_000)
    scene = write_scene(tmp_path / "scene.tif", noise(90, 130), transform=scale)
    card = one_class_card(gsd=(0.06, 0.6), gsd_best=(0.1, 0.15), readings=(0.3,), join="larger")
    model = resolve_model(random_model(tmp_path / "m.safetensors", card=card))
    asked = SegmentOptions(backend="torch", **options)
    job = prepare(scene, model, asked, LocalExecutor())
    assert job.options.readings == readings
    assert [each.job.scene.gsd for each in job.coarser] == pytest.approx(list(readings), rel=1e-3)
    assert job.options.join == "larger"
    told = plan(scene, model=model, options=asked)
    assert told.readings == pytest.approx(readings, rel=1e-3)
    assert (" and 0.3" in told.describe()) == (0.3 in readings)


def test_readings_are_lengths() -> None:
    with pytest.raises(UsageError, match=r"readings must be in \[0.0001, 100000\]; got -1"):
        SegmentOptions(readings=(0.3, -1.0))
