"""Bands of several rasters as one scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from geohr.errors import InputError
from geohr.options import ViewOptions
from geohr.scene import Scene
from geohr.scene.prepare import open_view
from tests.command import Geohr
from tests.makers import ORIGIN, noise, write_scene

SIZE = (120, 150)


@pytest.fixture
def rasters(tmp_path: Path) -> tuple[str, str, str]:
    """Three bands, one band of the same grid, and a height model at a quarter of the resolution."""
    image = write_scene(tmp_path / "image.tif", noise(*SIZE))
    second = write_scene(tmp_path / "second.tif", noise(*SIZE, bands=1, seed=1))
    slope = np.add.outer(np.arange(40.0), np.zeros(50))[None].astype(np.float32)
    transform = Affine(2.0, 0, ORIGIN[0] - 8, 0, -2.0, ORIGIN[1] + 8)
    height = write_scene(tmp_path / "height.tif", slope, transform=transform)
    return str(image), str(second), str(height)


def test_bands_follow_each_other_on_the_grid_of_the_first(rasters: tuple[str, str, str]) -> None:
    image, second, height = rasters
    scene = open_view(image, ViewOptions(bands_from=(second, height), gsd="native"))
    own = Scene.open(image)
    tile = scene.read(scene.geobox.extent)
    assert scene.geobox == own.geobox
    assert scene.files == (image, second, height)
    assert tile.pixels.dtype == np.float32
    assert tile.pixels.shape == (5, *SIZE)
    assert tile.valid.all()
    with rasterio.open(image) as one, rasterio.open(second) as two:
        assert np.array_equal(tile.pixels[:4], np.concatenate([one.read(), two.read()]))
    # A slope of 1 in 4 rows begins 16 rows above the image; its first half pixel is level.
    rows = (np.arange(SIZE[0]) + 16 + 0.5) / 4 - 0.5
    assert np.allclose(tile.pixels[4], rows[:, None], atol=1e-3)


def test_bands_are_counted_through_all(rasters: tuple[str, str, str]) -> None:
    image, second, height = rasters
    options = ViewOptions(bands_from=(second, height), bands=(4, 1), gsd="native")
    pixels = open_view(image, options).absolute().read(Scene.open(image).geobox.extent).pixels
    with rasterio.open(image) as one, rasterio.open(second) as two:
        assert np.array_equal(pixels, np.stack([two.read(1), one.read(1)]))
    with pytest.raises(InputError, match="band 6 was asked for, but with --bands-from there are 5"):
        open_view(image, ViewOptions(bands_from=(second, height), bands=(6,)))


def test_what_lies_elsewhere_is_no_band(
    rasters: tuple[str, str, str], tmp_path: Path, geohr: Geohr
) -> None:
    image, second, _ = rasters
    away = write_scene(tmp_path / "away.tif", noise(*SIZE), transform=Affine(1, 0, 9, 0, -1, 9))
    placeless = write_scene(tmp_path / "placeless.tif", noise(50, 50), crs=None)
    for bad, told in ((away, "lies outside of"), (placeless, "has no CRS")):
        ended = geohr(
            "segment", image, "--bands-from", f"{second},{bad}", "--out", tmp_path / "b.gpkg"
        )
        assert ended.code == InputError.exit_code
        assert told in ended.err
