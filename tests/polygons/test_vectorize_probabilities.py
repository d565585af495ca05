"""`geohr vectorize` on probabilities that `geohr segment` wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio

from geohr.api.options import VectorizeOptions
from geohr.api.segment import segment_to_files
from geohr.api.vectorize import vectorize
from geohr.errors import InputError, UsageError
from geohr.options import SegmentOptions
from tests.makers import noise, one_class_card, random_model, write_scene

ASKED = SegmentOptions(gsd="native", tile=64, backend="torch", threshold=0.012, min_area=0.5)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scene, a model and probabilities to try thresholds on."""
    folder = tmp_path_factory.mktemp("probabilities")
    write_scene(folder / "scene.tif", noise(96, 80))
    random_model(
        folder / "model.safetensors", card=one_class_card(regularize=True, outline="contour")
    )
    run(folder, "half.gpkg", ASKED, probs="probs.tif")
    return folder


def run(folder: Path, name: str, options: SegmentOptions, *, probs: str | None = None) -> Path:
    """Segment the scene into a file of polygons."""
    segment_to_files(
        folder / "scene.tif",
        [folder / name],
        probs=None if probs is None else folder / probs,
        model=folder / "model.safetensors",
        options=options,
    )
    return folder / name


def told(path: Path) -> tuple[dict[str, str], list[tuple[object, ...]]]:
    """The provenance and the rows of a file, but for where these came from."""
    layer = path.stem
    table = pyogrio.read_dataframe(path, layer=layer)
    rows = [(each.geometry.wkb, *list(each)[1:-1]) for each in table.itertuples()]
    return pyogrio.read_info(path, layer=layer)["layer_metadata"], rows


@pytest.mark.parametrize("threshold", [None, 0.008, 0.03])
@pytest.mark.parametrize("regularize", [None, False])
def test_gives_what_segment_gives(
    threshold: float | None, regularize: bool | None, work: Path
) -> None:
    options = replace(ASKED, threshold=threshold or ASKED.threshold, regularize=regularize)
    expected, rows = told(run(work, f"s{threshold}{regularize}.gpkg", options))
    out = work / f"v{threshold}{regularize}.gpkg"
    asked = VectorizeOptions(threshold=threshold, regularize=regularize)
    assert vectorize(work / "probs.tif", out, options=asked).objects == len(rows) > 1
    found, again = told(out)
    assert again == rows
    for name in ("geohr_model", "geohr_model_sha256", "geohr_scene", "geohr_engine"):
        assert found[name] == expected[name]
    of_rasters = {"background": 0, "band": 1}
    made = json.loads(expected["geohr_options"])
    assert json.loads(found["geohr_options"]) == {**made, **of_rasters}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_picture_is_measured_by_the_resolution_that_was_told(work: Path, tmp_path: Path) -> None:
    picture = write_scene(tmp_path / "picture.tif", noise(96, 80), crs=None)
    options = replace(ASKED, scene_gsd=0.5)
    out, probs = tmp_path / "s.gpkg", tmp_path / "probs.tif"
    segment_to_files(picture, [out], probs=probs, model=work / "model.safetensors", options=options)
    rows = told(out)[1]
    assert vectorize(probs, tmp_path / "v.gpkg").objects == len(rows) > 1
    assert told(tmp_path / "v.gpkg")[1] == rows


def test_options_of_class_rasters_are_refused(work: Path) -> None:
    with pytest.raises(UsageError, match="--band and --background are for class rasters"):
        vectorize(work / "probs.tif", work / "x.gpkg", options=VectorizeOptions(band=2))


def test_probabilities_that_do_not_say_how_they_were_made_are_refused(work: Path) -> None:
    bare = work / "bare.tif"
    with rasterio.open(work / "probs.tif") as source:
        profile = {**source.profile, "driver": "GTiff"}
        with rasterio.open(bare, "w", **profile) as raster:
            raster.write(np.asarray(source.read()))
            raster.scales = source.scales
            raster.update_tags(geohr_options="[")
    with pytest.raises(InputError, match=r"its geohr_options cannot be read .* segment the scene"):
        vectorize(bare, work / "x.gpkg")
    assert not (work / "x.gpkg").exists()
