"""`geohr vectorize` on files."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine

from geohr.api.options import VectorizeOptions
from geohr.api.vectorize import vectorize
from geohr.errors import InputError, UsageError
from geohr_cli.main import main
from tests.hostile.makers import python_in_vrt
from tests.polygons.tracing import METRES, UTM, whole


def write(path: Path, classes: Any, **profile: Any) -> Path:
    bands = np.atleast_3d(classes.T).T if classes.ndim == 2 else classes
    settings = {
        "driver": "GTiff",
        "dtype": bands.dtype,
        "count": len(bands),
        "height": bands.shape[1],
        "width": bands.shape[2],
        "crs": UTM,
        "transform": METRES,
        **profile,
    }
    with rasterio.open(path, "w", **settings) as raster:
        raster.write(bands)
    return path


def blocks(seed: int = 0) -> Any:
    generator = np.random.default_rng(seed)
    return np.kron(generator.integers(0, 3, (20, 30)), np.ones((5, 4))).astype(np.uint8)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`geohr vectorize` with the given arguments."""

    def call(*arguments: str | Path) -> Ended:
        monkeypatch.setattr("sys.argv", ["geohr", "vectorize", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, printed.out, printed.err)

    return call


def test_the_command_traces_a_mask(tmp_path: Path, run: Run) -> None:
    mask = write(tmp_path / "mask.tif", blocks(), tiled=True, blockxsize=16, blockysize=16)
    done = run(mask, "--out", tmp_path / "x.gpkg")
    table = geopandas.read_file(tmp_path / "x.gpkg", layer="x")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(f"x.gpkg: {len(whole(blocks()))} polygons")
    assert table.area.sum() == (blocks() != 0).sum()
    assert table["confidence"].isna().all()


def test_a_picture_is_told_from_classes(tmp_path: Path) -> None:
    picture = write(tmp_path / "p.tif", np.stack([blocks()] * 3), photometric="rgb")
    with pytest.warns(UserWarning, match="red, green and blue, .* use geohr segment"):
        vectorize(picture, tmp_path / "p.gpkg")


def test_classes_of_a_run_are_told_from_its_objects(tmp_path: Path) -> None:
    mask = write(tmp_path / "mask.tif", blocks())
    with rasterio.open(mask, "r+") as raster:
        raster.update_tags(geohr_options="{}")
    with pytest.warns(UserWarning, match="more polygons than .* vectorize its prob"):
        vectorize(mask, tmp_path / "p.gpkg")


def test_no_object_is_said_and_gives_an_empty_layer(tmp_path: Path, run: Run) -> None:
    mask = write(tmp_path / "mask.tif", np.zeros((9, 9), np.uint8))
    done = run(mask, "--out", tmp_path / "x.fgb")
    assert done.returncode == 0
    assert "no object found; the layer is empty" in done.stdout
    assert len(geopandas.read_file(tmp_path / "x.fgb")) == 0


@pytest.mark.parametrize(
    ("dtype", "nodata", "background"),
    [("uint8", 2, 0), ("int16", -9999, 0), ("uint16", 2, 1), ("int32", None, 0)],
)
def test_nodata_and_background_are_not_traced(
    dtype: str, nodata: int | None, background: int, tmp_path: Path
) -> None:
    classes = blocks().astype(dtype)
    if nodata == -9999:
        classes[:10] = nodata
    mask = write(tmp_path / "mask.tif", classes, nodata=nodata)
    options = VectorizeOptions(background=background)
    vectorize(mask, tmp_path / "x.gpkg", options=options)
    table = geopandas.read_file(tmp_path / "x.gpkg", layer="x")
    for label in (0, 1, 2):
        expected = 0 if label in (nodata, background) else (classes == label).sum()
        assert table[table.class_id == label].area.sum() == expected


def test_probabilities_give_confidence_and_place_contours(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:60, :60]
    scores = np.clip(127 + 10 * (20 - np.hypot(rows - 30, columns - 30)), 0, 254).astype(np.uint8)
    mask = write(tmp_path / "mask.tif", (scores >= 127).astype(np.uint8))
    probs = write(tmp_path / "probs.tif", scores, nodata=255)
    options = VectorizeOptions(outline="contour")
    assert vectorize(mask, tmp_path / "x.gpkg", options=options, probabilities=probs).objects == 1
    (row,) = geopandas.read_file(tmp_path / "x.gpkg", layer="x").itertuples()
    assert row.confidence == pytest.approx(scores[scores >= 127].mean() / 254, abs=1e-5)
    assert shapely.hausdorff_distance(row.geometry, row.geometry.centroid.buffer(20)) < 0.4


@pytest.mark.parametrize(
    ("classes", "profile", "says"),
    [
        (np.zeros((5, 5), np.float32), {}, "classes must be whole numbers from 0 to 254, the band"),
        (np.full((5, 5), 300, np.uint16), {}, "class ids must lie in 0 to 254 .* found 300"),
        (np.full((5, 5), -3, np.int16), {}, "found -3"),
    ],
)
def test_a_raster_that_holds_no_classes_is_refused(
    classes: Any, profile: dict[str, Any], says: str, tmp_path: Path
) -> None:
    mask = write(tmp_path / "mask.tif", classes, **profile)
    with pytest.raises(InputError, match=says):
        vectorize(mask, tmp_path / "x.gpkg")
    assert not (tmp_path / "x.gpkg").exists()


def test_nodata_that_is_the_background_is_ground_like_any_other(tmp_path: Path) -> None:
    classes = np.zeros((20, 20), np.uint8)
    classes[5:15, 5:15] = 1
    mask = write(tmp_path / "mask.tif", classes, nodata=0)
    vectorize(mask, tmp_path / "x.gpkg")
    (row,) = geopandas.read_file(tmp_path / "x.gpkg", layer="x").itertuples()
    assert not row.touches_edge


@pytest.mark.parametrize("transform", [METRES, Affine(2.7e-6, 0, 32.0, 0, -2.7e-6, 0.3)])
def test_probabilities_elsewhere_are_refused(transform: Affine, tmp_path: Path) -> None:
    crs = UTM if transform is METRES else "EPSG:4326"
    mask = write(tmp_path / "mask.tif", blocks(), crs=crs, transform=transform)
    scores = np.stack([np.full(blocks().shape, 200, np.uint8)] * 2)
    for number, off in enumerate((Affine.translation(3, 0), Affine.scale(1.1))):
        other = tmp_path / f"{number}.tif"
        write(other, scores, crs=crs, transform=transform @ off)
        with pytest.raises(InputError, match=r"lie up to .* pixels off"):
            vectorize(mask, tmp_path / "x.gpkg", probabilities=other)
    elsewhere = write(tmp_path / "crs.tif", scores, crs="EPSG:3857", transform=transform)
    with pytest.raises(InputError, match="must have the CRS of"):
        vectorize(mask, tmp_path / "x.gpkg", probabilities=elsewhere)
    near = write(tmp_path / "near.tif", scores, crs=crs, transform=transform)
    assert vectorize(mask, tmp_path / "x.gpkg", probabilities=near).objects > 0


@pytest.mark.parametrize("which", ["classes", "probabilities"])
def test_no_python_is_run_for_a_vrt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    monkeypatch.setenv("GDAL_VRT_ENABLE_PYTHON", "YES")
    mask, vrt = write(tmp_path / "mask.tif", np.ones((128, 128), np.uint8)), python_in_vrt(tmp_path)
    raster, probabilities = (vrt, None) if which == "classes" else (mask, vrt)
    with pytest.raises(InputError):
        vectorize(raster, tmp_path / "x.gpkg", probabilities=probabilities)
    assert not (tmp_path / "ran").exists()


def test_formats_that_run_queries_are_not_opened(tmp_path: Path) -> None:
    service = tmp_path / "service.xml"
    service.write_text('<GDAL_WMS><Service name="TMS"></Service></GDAL_WMS>')
    with pytest.raises(InputError, match="not a raster that GDAL can read"):
        vectorize(service, tmp_path / "x.gpkg")


def test_other_bad_input_is_refused(tmp_path: Path) -> None:
    mask = write(tmp_path / "mask.tif", blocks())
    with pytest.raises(InputError, match="band 2 asked for, the raster has 1"):
        vectorize(mask, tmp_path / "x.gpkg", options=VectorizeOptions(band=2))
    with pytest.raises(InputError, match="no such file"):
        vectorize(tmp_path / "none.tif", tmp_path / "x.gpkg")
    with pytest.raises(UsageError, match="not a vector format"):
        vectorize(mask, tmp_path / "x.csv")
    with pytest.raises(UsageError, match="simplify must be at least 0; got -1"):
        VectorizeOptions(simplify=-1)
    small = write(tmp_path / "small.tif", np.zeros((5, 5), np.uint8))
    with pytest.raises(InputError, match="probabilities must lie on the grid of"):
        vectorize(mask, tmp_path / "x.gpkg", probabilities=small)
    one = write(tmp_path / "one.tif", np.where(blocks(), 200, 20).astype(np.uint8))
    with pytest.raises(InputError, match="class 2 has no band of probabilities"):
        vectorize(mask, tmp_path / "x.gpkg", probabilities=one)
    assert not (tmp_path / "x.gpkg").exists()
    plain = write(tmp_path / "plain.tif", blocks(), crs=None, transform=Affine(2, 0, 5, 0, -2, 7))
    with pytest.raises(InputError, match="in metres, and the raster has no CRS"):
        vectorize(plain, tmp_path / "x.gpkg", options=VectorizeOptions(min_area=2))
    assert vectorize(plain, tmp_path / "x.gpkg").objects > 0
    with pytest.raises(UsageError, match="exists"):
        vectorize(plain, tmp_path / "x.gpkg")


def test_the_file_says_what_it_was_made_of(tmp_path: Path) -> None:
    mask = write(tmp_path / "mask.tif", blocks())
    os.utime(mask, (86_400, 86_400))
    vectorize(mask, tmp_path / "x.gpkg")
    told = pyogrio.read_info(tmp_path / "x.gpkg", layer="x")["layer_metadata"]
    assert told["geohr_raster"] == "mask.tif"
    assert told["geohr_raster_modified"] == "1970-01-02T00:00:00Z"
    assert "geohr_version" in told


@pytest.mark.parametrize(
    ("tags", "acquired"),
    [
        ({}, None),
        ({"TIFFTAG_DATETIME": "2021:03:04 05:06:07"}, "2021-03-04T05:06:07"),
        ({"geohr_scene_acquired": "2020-01-02T03:04:05Z"}, "2020-01-02T03:04:05Z"),
    ],
)
def test_rows_say_which_raster_and_when_it_was_taken(
    tags: dict[str, str], acquired: str | None, tmp_path: Path
) -> None:
    mask = write(tmp_path / "mask.tif", blocks())
    with rasterio.open(mask, "r+") as raster:
        raster.update_tags(**tags)
    vectorize(mask, tmp_path / "x.gpkg")
    table = geopandas.read_file(tmp_path / "x.gpkg", layer="x")
    assert set(table["scene"]) == {"mask.tif"}
    assert (
        table["acquired"].isna().all() if acquired is None else set(table["acquired"]) == {acquired}
    )


def test_codes_and_one_line(tmp_path: Path, run: Run) -> None:
    mask = write(tmp_path / "mask.tif", blocks())
    for arguments, code in (
        ((mask, "--out", tmp_path / "x.doc"), 2),
        ((mask, "--out", tmp_path / "x.gpkg", "--min-area", "-1"), 2),
        ((tmp_path / "none.tif", "--out", tmp_path / "x.gpkg"), 3),
        ((mask, "--out", tmp_path / "none" / "x.gpkg"), 6),
    ):
        done = run(*arguments)
        assert done.returncode == code, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
