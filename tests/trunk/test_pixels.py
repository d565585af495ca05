from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from geohr.errors import InputError
from geohr.options import SceneOptions
from geohr.scene import Scene
from geohr.tiling.normalize import Normalizer, check_range
from tests.makers import noise, one_class_card, write_scene

CARD = one_class_card()


def normalised(
    pixels: NDArray[np.generic], valid: NDArray[np.bool_], scale: tuple[float, float] | None = None
) -> NDArray[np.float32]:
    out = np.full(pixels.shape, np.nan, np.float32)
    Normalizer.of(CARD, scale).apply(pixels, valid, out)
    return out


def test_values_become_the_cards() -> None:
    pixels, valid = noise(6, 5), np.ones((6, 5), bool)
    valid[2, 3] = False
    expected = (pixels / 255 - np.reshape(CARD.mean, (3, 1, 1))) / np.reshape(CARD.std, (3, 1, 1))
    found = normalised(pixels, valid)
    np.testing.assert_allclose(found[:, valid], expected[:, valid], atol=1e-5)


def test_invalid_pixels_show_a_reflection() -> None:
    pixels, valid = noise(6, 10), np.ones((6, 10), bool)
    whole = normalised(pixels, valid)
    valid[:, :4] = False
    np.testing.assert_array_equal(normalised(pixels, valid)[:, :, :4], whole[:, :, 8:4:-1])
    valid[:, 6:] = False
    # Two columns are left: behind the nearest there is no other to reflect.
    expected = whole[:, :, [4, 4, 4, 5, 4, 5, 4, 5, 5, 5]]
    np.testing.assert_array_equal(normalised(pixels, valid), expected)
    assert not normalised(pixels, np.zeros((6, 10), bool)).any()


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_invalid_pixels_take_values_of_valid_ones(valid: NDArray[np.bool_]) -> None:
    pixels = np.arange(valid.size, dtype=np.uint8).reshape(1, *valid.shape).repeat(3, axis=0)
    found = normalised(pixels, valid)
    if valid.any():
        assert np.isin(found[0], found[0][valid]).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, np.float64])
def test_a_scale_maps_and_clips(dtype: type[np.generic]) -> None:
    pixels = np.array([0, 100, 600, 1100, 2000]).astype(dtype).reshape(1, 1, 5).repeat(3, axis=0)
    found = normalised(pixels, np.ones((1, 5), bool), (100, 1100))
    same = normalised(
        np.array([0, 0, 127.5, 255, 255], np.float32).reshape(1, 1, 5).repeat(3, axis=0),
        np.ones((1, 5), bool),
    )
    np.testing.assert_allclose(found, same, atol=1e-5)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (noise(50, 50).astype(np.uint16) * 10, "uint16 values from 10 to 2550.*--scale MIN,MAX"),
        (noise(50, 50).astype(np.float32) / 255, "float32 values .* to 1, .*--scale MIN,MAX"),
        (-noise(50, 50).astype(np.int16), "int16 values from -255 to -1.*--scale MIN,MAX"),
    ],
)
def test_values_out_of_the_cards_range_are_refused(
    tmp_path: Path, pixels: NDArray[np.generic], message: str
) -> None:
    scene = Scene.open(write_scene(tmp_path / "scene.tif", pixels))
    with pytest.raises(InputError, match=message):
        check_range(scene, Normalizer.of(CARD, None))
    check_range(scene, Normalizer.of(CARD, (0.0, 3000.0)))


def test_sixteen_bits_within_the_range_are_taken(tmp_path: Path) -> None:
    scene = Scene.open(write_scene(tmp_path / "scene.tif", noise(50, 50).astype(np.uint16)))
    check_range(scene, Normalizer.of(CARD, None))


def test_nodata_does_not_count_for_the_range(tmp_path: Path) -> None:
    pixels = noise(50, 50).astype(np.int16)
    pixels[:, :10] = -9999
    path = write_scene(tmp_path / "scene.tif", pixels)
    check_range(Scene.open(path, SceneOptions(nodata=-9999)), Normalizer.of(CARD, None))


def test_a_mask_in_an_image_s_place_is_told_of(tmp_path: Path) -> None:
    """Zeros and ones are inside every card's range, and nothing would be found in them."""
    dark = Scene.open(write_scene(tmp_path / "mask.tif", noise(90, 90) % 2))
    with pytest.warns(UserWarning, match="holds no value but 0 and 1"):
        check_range(dark, Normalizer.of(CARD, None))
    check_range(dark, Normalizer.of(CARD, (0.0, 1.0)))
    check_range(
        Scene.open(write_scene(tmp_path / "a.tif", noise(90, 90))), Normalizer.of(CARD, None)
    )
