"""What is written appears whole or not at all, and reads back as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from geohr._runtime.files import check_writable, written_whole
from geohr.errors import OutputError, UsageError
from geohr.outputs.cog import class_writer, probability_writer
from geohr.scene import Scene
from tests.command import Geohr
from tests.makers import noise, write_scene


@pytest.mark.parametrize(
    ("height", "step"), [(1, 130), (511, 130), (512, 130), (1300, 130), (1300, 256), (1064, 512)]
)
def test_probabilities_read_back(tmp_path: Path, height: int, step: int) -> None:
    scene = Scene.open(write_scene(tmp_path / "scene.tif", noise(height, 700)))
    rows = np.random.default_rng(0).integers(0, 256, (2, height, 700), dtype=np.uint8)
    path = tmp_path / "probs.tif"
    with probability_writer(path, scene, ["house", "road"], {"made_by": "a test"}) as sink:
        for start in range(0, height, step):
            sink.write(rows[:, start : start + step])
    with rasterio.open(path) as raster:
        assert (raster.read() == rows).all()
        assert (raster.crs, raster.transform) == (scene.crs, scene.transform)
        assert raster.descriptions == ("house", "road")
        assert raster.nodata == 255
        assert raster.scales == pytest.approx((1 / 254, 1 / 254))
        assert raster.tags()["made_by"] == "a test"
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert raster.overviews(1)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["probs.tif", "scene.tif"]


def test_classes_have_colours(tmp_path: Path) -> None:
    scene = Scene.open(write_scene(tmp_path / "scene.tif", noise(40, 30)))
    rows = np.random.default_rng(0).integers(0, 3, (40, 30), dtype=np.uint8)
    path = tmp_path / "classes.tif"
    with class_writer(path, scene, {0: (0, 0, 0), 1: (230, 85, 13), 2: (9, 8, 7)}, {}) as sink:
        sink.write(rows)
    with rasterio.open(path) as raster:
        assert (raster.read(1) == rows).all()
        assert raster.colormap(1)[1] == (230, 85, 13, 255)


def test_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    scene = Scene.open(write_scene(tmp_path / "scene.tif", noise(600, 600)))
    path = tmp_path / "probs.tif"

    def half() -> None:
        with probability_writer(path, scene, ["house"], {}) as sink:
            sink.write(np.zeros((1, 550, 600), np.uint8))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        half()
    assert [each.name for each in tmp_path.iterdir()] == ["scene.tif"]


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    path.write_text("old")

    def half() -> None:
        with written_whole(path) as part:
            part.write_text("ne")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        half()
    assert path.read_text() == "old"
    with written_whole(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist; make it first"):
        check_writable(tmp_path / "none" / "a.tif", overwrite=False)
    with (
        pytest.raises(OutputError, match="cannot be written"),
        written_whole(tmp_path / "none" / "a.txt") as part,
    ):
        part.write_text("x")


def test_an_existing_file_needs_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.touch()
    with pytest.raises(UsageError, match="exists; choose another name or pass --overwrite"):
        check_writable(path, overwrite=False)
    check_writable(path, overwrite=True)
    with pytest.raises(UsageError, match="is a folder"):
        check_writable(tmp_path, overwrite=True)


@pytest.mark.parametrize(
    "asked", [{}, {"COMPRESS": "ZSTD"}, {"compress": "LZW", "BLOCKSIZE": "256"}]
)
def test_creation_options_change_the_file_and_not_its_pixels(
    asked: dict[str, str], tmp_path: Path
) -> None:
    scene = Scene.open(write_scene(tmp_path / "scene.tif", noise(600, 600)))
    rows = np.random.default_rng(0).integers(0, 3, (600, 600), dtype=np.uint8)
    path = tmp_path / "classes.tif"
    with class_writer(path, scene, {1: (230, 85, 13)}, {}, asked) as sink:
        sink.write(rows)
    with rasterio.open(path) as raster:
        assert (raster.read(1) == rows).all()
        kept = raster.tags(ns="IMAGE_STRUCTURE")
        expected = asked.get("COMPRESS", asked.get("compress", "DEFLATE"))
        assert (kept["LAYOUT"], kept["COMPRESSION"]) == ("COG", expected)
        assert raster.block_shapes == [(int(asked.get("BLOCKSIZE", "512")),) * 2]


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("COMPRESS", "give NAME=VALUE"),
        ("COMPRES=ZSTD", "not one of BIGTIFF"),
        ("COMPRESS=JPEG", "must be DEFLATE|ZSTD"),
        ("LEVEL=high", "must be a number"),
        ("BLOCKSIZE=100", "BLOCKSIZE=100: "),
    ],
)
def test_bad_creation_options_are_refused_in_one_line(
    pair: str, said: str, tmp_path: Path, geohr: Geohr
) -> None:
    scene = write_scene(tmp_path / "scene.tif", noise(32, 32))
    ended = geohr("segment", scene, "--out", tmp_path / "a.tif", "--co", pair)
    assert (ended.code, said in ended.err) == (2, True), ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert not (tmp_path / "a.tif").exists()
