"""Tile predictions of other tools, joined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geohr.api.options import TileOptions
from geohr.api.stitch import stitch
from geohr.api.tile import tile
from geohr.errors import InputError, UsageError
from geohr.options import StitchOptions
from tests.command import Geohr
from tests.makers import ORIGIN, noise, write_scene


def place(row: int, col: int) -> Affine:
    return Affine(0.5, 0, ORIGIN[0] + 0.5 * col, 0, -0.5, ORIGIN[1] - 0.5 * row)


def test_tiles_of_one_truth_give_that_truth_back(tmp_path: Path) -> None:
    truth = np.random.default_rng(0).random((2, 150, 200)).astype(np.float32)
    paths = []
    for row in range(0, 150, 40):
        for col in range(0, 200, 50):
            part = truth[:, row : row + 64, col : col + 64]
            path = tmp_path / f"{row}_{col}.tif"
            paths.append(write_scene(path, part, transform=place(row, col)))
    extent = stitch(paths[::-1], tmp_path / "probs.tif")
    assert (extent.height, extent.width) == (150, 200)
    with rasterio.open(tmp_path / "probs.tif") as raster:
        assert raster.transform == place(0, 0)
        found = raster.read()
    assert np.abs(found - truth * 254).max() <= 0.55


def test_places_without_a_tile_have_no_data(tmp_path: Path) -> None:
    paths = [
        write_scene(
            tmp_path / f"{row}.tif",
            np.full((1, 20, 20), 0.5, np.float32),
            transform=place(row, row),
        )
        for row in (0, 500)
    ]
    extent = stitch(paths, tmp_path / "probs.tif")
    assert (extent.height, extent.width) == (520, 520)
    with rasterio.open(tmp_path / "probs.tif") as raster:
        found = raster.read(1)
    assert (found == 127).sum() == 800
    assert (found == 255).sum() == 520 * 520 - 800


def test_nodata_of_one_tile_leaves_another_s_probabilities_as_they_are(tmp_path: Path) -> None:
    there, gone = np.full((1, 20, 20), 0.8, np.float32), np.full((1, 20, 20), np.nan, np.float32)
    paths = [
        write_scene(tmp_path / f"{col}.tif", pixels, transform=place(0, col))
        for col, pixels in ((0, there), (10, gone))
    ]
    stitch(paths, tmp_path / "probs.tif")
    with rasterio.open(tmp_path / "probs.tif") as raster:
        found = raster.read(1)
    assert (found[:, :20] == 203).all()
    assert (found[:, 20:] == 255).all()


def test_whole_numbers_need_a_scale(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "a.tif", np.full((1, 20, 20), 51, np.uint8))
    with pytest.raises(UsageError, match="--scale MIN,MAX, such as --scale 0,255"):
        stitch([path], tmp_path / "probs.tif")
    stitch([path], tmp_path / "probs.tif", options=StitchOptions(scale=(0, 255)))
    with rasterio.open(tmp_path / "probs.tif") as raster:
        assert (raster.read(1) == round(51 / 255 * 254)).all()


def test_creation_options_are_those_of_the_cog_driver(tmp_path: Path, geohr: Geohr) -> None:
    path = write_scene(tmp_path / "a.tif", np.full((1, 20, 20), 0.5, np.float32))
    out = tmp_path / "probs.tif"
    assert geohr("stitch", path, "--out", out, "--co", "COMPRESS=ZSTD").code == 0
    with rasterio.open(out) as raster:
        assert raster.profile["compress"] == "zstd"
    ended = geohr("stitch", path, "--out", out, "--co", "COMPRESS=JPEG", "--overwrite")
    assert (ended.code, "COMPRESS=JPEG" in ended.err) == (2, True)
    ended = geohr("stitch", path, "--out", out, "--co", "COMPRESS", "--overwrite")
    assert (ended.code, "give NAME=VALUE" in ended.err) == (2, True)


def test_tiles_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    part = np.full((1, 20, 20), 0.5, np.float32)
    first = write_scene(tmp_path / "a.tif", part)
    off = write_scene(
        tmp_path / "off.tif", part, transform=place(0, 0) @ Affine.translation(3.4, 0)
    )
    coarse = write_scene(tmp_path / "coarse.tif", part, transform=place(0, 0) @ Affine.scale(2))
    other = write_scene(tmp_path / "other.tif", part, crs="EPSG:3857")
    two = write_scene(tmp_path / "two.tif", np.concatenate([part, part]))
    logits = write_scene(tmp_path / "logits.tif", part * 9)
    out = tmp_path / "probs.tif"
    for path, message in (
        (off, "off the pixel grid"),
        (coarse, "in size or direction"),
        (other, "one coordinate reference system"),
        (two, "has 2 bands"),
        (logits, "no probabilities between 0 and 1"),
    ):
        with pytest.raises(InputError, match=message):
            stitch([first, path], out)
        assert not out.exists()
    with pytest.raises(InputError, match="no tile to stitch"):
        stitch([], out)
    with pytest.raises(UsageError, match=r"writes a \.tif"):
        stitch([first], tmp_path / "probs.gpkg")


def test_chips_and_labels_lie_on_the_scene(tmp_path: Path) -> None:
    pixels = noise(150, 130)
    pixels[:, :70, :70] = 0
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    classes = np.random.default_rng(1).integers(0, 2, (1, 150, 130), dtype=np.uint8)
    labels = write_scene(tmp_path / "labels.tif", classes, nodata=255)
    out = tmp_path / "chips"
    count = tile(scene, out, labels=labels, options=TileOptions(tile=64, overlap=0.25))
    images = sorted((out / "images").iterdir())
    assert len(images) == count == len(list((out / "labels").iterdir()))
    assert "scene_r000000_c000000.tif" not in {path.name for path in images}
    covered = np.zeros((150, 130), bool)
    for path in images:
        with rasterio.open(path) as chip, rasterio.open(out / "labels" / path.name) as label:
            col, row = (round(each) for each in ~place(0, 0) @ (chip.transform.c, chip.transform.f))
            where = (slice(row, row + 64), slice(col, col + 64))
            assert chip.shape == (64, 64)
            assert (chip.read() == pixels[:, *where]).all()
            valid = pixels[0][where] > 0
            assert (label.read(1)[valid] == classes[0][where][valid]).all()
            assert (label.read(1)[~valid] == 255).all()
            covered[where] = True
    assert covered[pixels[0] > 0].all()


def test_a_scene_smaller_than_a_chip_is_one_chip(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", noise(20, 30))
    assert tile(scene, tmp_path / "chips", options=TileOptions(tile=64)) == 1
    with rasterio.open(next((tmp_path / "chips/images").iterdir())) as chip:
        assert chip.shape == (20, 30)
