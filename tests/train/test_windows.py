"""Windows drawn for training: the same by index, labels on their pixels, scales as asked."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
import torch
from hypothesis import given
from hypothesis import strategies as st

from geohr.encoding import IGNORE
from geohr.errors import InputError, UsageError
from geohr.geobox import Window
from geohr.scene import Scene
from geohr.scene.labels import Legend, aoi_window, read_classes
from geohr.tiling.normalize import Normalizer
from geohr.training.augment import AUGMENTATIONS, augment, check_augmentations
from geohr.training.options import WindowOptions
from geohr.training.places import group_by_place
from geohr.training.samples import Sample, pair, read_labels
from geohr.training.store import Store
from geohr.training.windows import Windows, pick_gsd, rescale, turn
from tests.makers import ORIGIN, UTM, noise, one_class_card, write_scene
from tests.train.towns import Town, make_town

PLAIN = WindowOptions(tile=64, gsd_range=(0.5, 0.5), augment=("none",))
NORMALIZER = Normalizer.of(one_class_card(), None)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    return make_town(tmp_path_factory.mktemp("town"), "town")


@pytest.fixture(scope="module")
def sample(town: Town) -> Sample:
    return pair([town.image], [town.raster], split="train")[0]


def red(pixels: torch.Tensor) -> torch.Tensor:
    """The first band in scene values."""
    return (pixels[0] * NORMALIZER.std[0] + NORMALIZER.mean[0]) * 255


def test_a_window_depends_on_seed_and_index_alone(sample: Sample) -> None:
    options = WindowOptions(tile=64)
    windows = Windows([sample], NORMALIZER, options, stop=8)
    later = Windows([sample], NORMALIZER, options, start=5, stop=8)
    other = Windows([sample], NORMALIZER, dataclasses.replace(options, seed=1), stop=8)
    for index in range(3):
        for first, second in zip(windows[5 + index], later[index], strict=True):
            assert torch.equal(first, second)
    assert not torch.equal(windows[0][0], other[0][0])
    assert len(later) == 3


def test_labels_lie_on_their_pixels_in_every_pose(sample: Sample) -> None:
    windows = Windows([sample], NORMALIZER, PLAIN, stop=32)
    wrong = [
        ((red(pixels) > 130) != (classes == 1)).float().mean()
        for pixels, classes in (windows[index] for index in range(32))
    ]
    # Half the windows are turned by any angle, where outlines blur by a pixel.
    assert max(wrong) < 0.05
    assert min(wrong) == 0


def test_objects_laid_on_bring_their_pixels(sample: Sample) -> None:
    asked = dataclasses.replace(PLAIN, augment=("paste",))
    pasted = [Windows([sample], NORMALIZER, asked, stop=32)[index] for index in range(32)]
    for pixels, classes in pasted:
        assert ((red(pixels) > 130) != (classes == 1)).float().mean() < 0.05
    plain = Windows([sample], NORMALIZER, PLAIN, stop=32)
    more = [
        (classes == 1).sum() - (plain[index][1] == 1).sum()
        for index, (_, classes) in enumerate(pasted)
    ]
    assert all(each >= 0 for each in more)
    assert 4 < sum(bool(each) for each in more) < 20


def test_scaled_labels_lie_on_their_pixels(sample: Sample) -> None:
    options = dataclasses.replace(PLAIN, gsd_range=(1.0, 1.0), tile=32)
    windows = Windows([sample], NORMALIZER, options, stop=16)
    for index in range(16):
        pixels, classes = windows[index]
        assert pixels.shape == (3, 32, 32)
        inside = torch.nn.functional.max_pool2d(-(classes == 1).float()[None], 3, 1, 1)[0] == -1
        assert (red(pixels)[inside] > 110).float().mean() > 0.95 if inside.any() else True


def test_windows_hold_objects_as_often_as_asked(tmp_path: Path) -> None:
    town = make_town(tmp_path, "sparse", height=400, width=400, houses=20, seed=3)
    sample = pair([town.image], [town.raster], split="train")[0]
    options = dataclasses.replace(PLAIN, tile=48)
    for share in (0.0, 1.0):
        wanted = dataclasses.replace(options, objects=share)
        windows = Windows([sample], NORMALIZER, wanted, stop=40)
        held = np.mean([bool((windows[index][1] == 1).any()) for index in range(40)])
        assert abs(held - share) < 0.25


def test_small_images_are_laid_side_by_side(tmp_path: Path) -> None:
    towns = [make_town(tmp_path, f"t{seed}", height=40, width=44, seed=seed) for seed in range(3)]
    samples = [
        dataclasses.replace(each, place="town")
        for each in pair([t.image for t in towns], [t.raster for t in towns], split="train")
    ]
    windows = Windows(samples, NORMALIZER, dataclasses.replace(PLAIN, tile=96), stop=8)
    for index in range(8):
        pixels, classes = windows[index]
        assert pixels.shape == (3, 96, 96)
        assert not (classes == IGNORE).any()
        assert (classes == 1).any()


def test_a_scene_smaller_than_the_window_is_reflected(tmp_path: Path) -> None:
    town = make_town(tmp_path, "tiny", height=30, width=40, houses=3)
    sample = pair([town.image], [town.raster], split="train")[0]
    pixels, classes = Windows([sample], NORMALIZER, PLAIN, stop=1)[0]
    assert pixels.shape == (3, 64, 64)
    assert not (classes == IGNORE).any()


def test_what_is_not_annotated_keeps_its_pixels(town: Town) -> None:
    scene = Scene.open(town.image)
    sample = Sample(scene, None, "there", "train", 0.5)
    pixels, classes = Windows([sample], NORMALIZER, PLAIN, stop=1)[0]
    assert (classes == IGNORE).all()
    assert (pixels != 0).float().mean() > 0.99


def test_nodata_is_ignored_and_shows_what_lies_beside_it(tmp_path: Path, town: Town) -> None:
    image = np.full((3, 80, 80), 100, np.uint8)
    image[:, :, 40:] = 0
    holed = write_scene(tmp_path / "holed.tif", image, nodata=0)
    labels = write_scene(tmp_path / "labels.tif", np.zeros((1, 80, 80), np.uint8))
    sample = pair([holed], [labels], split="train")[0]
    options = dataclasses.replace(PLAIN, tile=80)
    pixels, classes = Windows([sample], NORMALIZER, options, stop=1)[0]
    assert 0.3 < (classes == IGNORE).float().mean() < 0.7
    beside = pixels[:, classes != IGNORE]
    torch.testing.assert_close(
        pixels[:, classes == IGNORE].mean(dim=1), beside.mean(dim=1), atol=0.05, rtol=0
    )


@given(
    native=st.floats(0.02, 5),
    low=st.floats(0.02, 5),
    spread=st.floats(1, 20),
    seed=st.integers(0, 99),
)
def test_scales_stay_in_the_range_that_the_image_can_give(
    native: float, low: float, spread: float, seed: int
) -> None:
    span = (low, low * spread)
    gsd = pick_gsd(np.random.default_rng(seed), native, span)
    assert native / 4 * 0.999 <= gsd <= native * 8 * 1.001
    if span[0] >= native / 4 and span[1] <= native * 8:
        assert span[0] * 0.999 <= gsd <= span[1] * 1.001


def test_without_a_range_scales_stay_near_the_image_s_own() -> None:
    scales = [pick_gsd(np.random.default_rng(seed), 1.0, None) for seed in range(99)]
    assert 0.7 <= min(scales) < 0.8
    assert 6 < max(scales) <= 8


def test_a_class_wins_where_it_covers_most() -> None:
    classes = np.zeros((8, 8), np.uint8)
    classes[:, :4] = 2
    classes[:4, 4:] = IGNORE
    bands = np.zeros((1, 8, 8), np.float32)
    _, scaled = rescale(bands, classes, 4)
    assert (scaled == classes[::2, ::2]).all()


def test_turning_keeps_every_class(sample: Sample) -> None:
    bands = np.zeros((1, 64, 64), np.float32)
    classes = np.zeros((64, 64), np.uint8)
    classes[20:40, 20:40] = 3
    bands[0] = classes
    for seed in range(8):
        turned, ids = turn(np.random.default_rng(seed), bands, classes)
        assert set(np.unique(ids)) == {0, 3}
        assert np.abs(turned[0] - ids).mean() < 0.1


def test_the_store_reads_the_same_from_memory_and_forgets_the_oldest(
    town: Town, sample: Sample
) -> None:
    window = Window(-10, 20, 60, 70)
    store = Store(capacity=1)
    first, again = store.read(sample, window), store.read(sample, window)
    assert (first.pixels == again.pixels).all()
    assert (first.classes == again.classes).all()
    direct = sample.scene.read(window)
    assert (direct.pixels == first.pixels).all()
    assert (first.classes[10:] == town.classes[:50, 20:90]).all()


def test_vector_and_raster_labels_are_the_same(town: Town) -> None:
    by_vector = pair([town.image], [town.polygons], split="train")[0]
    for window in (Window(0, 0, 128, 160), Window(17, 33, 40, 50)):
        drawn = read_labels(by_vector, window)
        rows, cols = slice(window.row, window.row_stop), slice(window.col, window.col_stop)
        assert (drawn == town.classes[rows, cols]).mean() > 0.999


@pytest.mark.parametrize("suffix", ["geojson", "shp", "fgb", "kml", "gml", "sqlite", "parquet"])
def test_vectors_of_any_format_are_labels(town: Town, tmp_path: Path, suffix: str) -> None:
    table = geopandas.read_file(town.polygons)
    path = tmp_path / f"labels.{suffix}"
    if suffix == "parquet":
        table.to_parquet(path)
    else:
        # Two drivers write KML.
        pyogrio.write_dataframe(table, path, driver="KML" if suffix == "kml" else None)
    window = Window(17, 33, 40, 50)
    first, again = (
        read_labels(pair([town.image], [label], split="train")[0], window)
        for label in (town.polygons, path)
    )
    assert (first == again).mean() > 0.999
    assert first.any()


def test_a_damaged_parquet_and_a_missing_attribute_are_named(town: Town, tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    path.write_bytes(b"PAR1 no")
    window = Window(0, 0, 10, 10)
    with pytest.raises(InputError, match="not vectors that can be read"):
        read_labels(pair([town.image], [path], split="train")[0], window)
    other = tmp_path / "other.parquet"
    geopandas.read_file(town.polygons).to_parquet(other)
    sample = pair([town.image], [other], split="train")[0]
    with pytest.raises(InputError, match="has no attribute 'kind'"):
        read_labels(dataclasses.replace(sample, legend=Legend("kind")), window)


def write_areas(path: Path, **columns: list[object]) -> Path:
    """Two polygons on the west and the east half of a town, in degrees."""
    left, top = ORIGIN
    halves = [
        shapely.box(left, top - 64, left + 40, top),
        shapely.box(left + 40, top - 64, left + 80, top),
    ]
    table = geopandas.GeoDataFrame(columns, geometry=halves, crs=UTM).to_crs("EPSG:4326")
    pyogrio.write_dataframe(table, path)
    return path


@pytest.mark.parametrize("values", [["water", "ignore"], [2, 255], [2.0, 255.0]])
def test_an_attribute_tells_the_class(town: Town, tmp_path: Path, values: list[object]) -> None:
    labels = write_areas(tmp_path / "kinds.gpkg", kind=values)
    sample = pair([town.image], [labels], split="train")[0]
    legend = Legend("kind", ("building", "water"))
    drawn = read_labels(dataclasses.replace(sample, legend=legend), Window(0, 0, 128, 160))
    assert (drawn[:, :79] == 2).all()
    assert (drawn[:, 81:] == IGNORE).all()


def test_a_value_that_is_no_class_is_refused(town: Town, tmp_path: Path) -> None:
    labels = write_areas(tmp_path / "kinds.gpkg", kind=["water", "swamp"])
    sample = pair([town.image], [labels], split="train")[0]
    window = Window(0, 0, 128, 160)
    with pytest.raises(InputError, match="kind holds 'swamp'; allowed are the class names water"):
        read_labels(dataclasses.replace(sample, legend=Legend("kind", ("water",))), window)
    with pytest.raises(InputError, match="no attribute 'type'; its attributes are kind"):
        read_labels(dataclasses.replace(sample, legend=Legend("type")), window)


def test_windows_stay_in_the_area_of_interest(town: Town, tmp_path: Path) -> None:
    west = shapely.box(ORIGIN[0], ORIGIN[1] - 64, ORIGIN[0] + 40, ORIGIN[1])
    path = tmp_path / "aoi.gpkg"
    geopandas.GeoDataFrame(geometry=[west], crs=UTM).to_file(path)
    sample = dataclasses.replace(pair([town.image], [town.raster], split="train")[0], aoi=str(path))
    labels = read_labels(sample, Window(0, 0, 128, 160))
    assert (labels[:, 80:] == IGNORE).all()
    assert (labels[:, :80] == town.classes[:, :80]).all()
    options = dataclasses.replace(PLAIN, tile=40, objects=0.5)
    windows = Windows([sample], NORMALIZER, options, stop=16)
    # A turned window may see a little of what lies beside it.
    seen = [(windows[index][1] == IGNORE).float().mean() for index in range(16)]
    assert max(seen) < 0.2


def test_an_area_of_interest_elsewhere_is_refused(town: Town, tmp_path: Path) -> None:
    path = tmp_path / "aoi.gpkg"
    far = shapely.box(ORIGIN[0] + 5000, ORIGIN[1], ORIGIN[0] + 5100, ORIGIN[1] + 100)
    geopandas.GeoDataFrame(geometry=[far], crs=UTM).to_file(path)
    sample = pair([town.image], [town.raster], split="train")[0]
    windows = Windows([dataclasses.replace(sample, aoi=str(path))], NORMALIZER, PLAIN, stop=1)
    with pytest.raises(InputError, match="holds no polygon on the scene"):
        windows[0]


def test_places_of_no_weight_are_left_out(sample: Sample) -> None:
    light = dataclasses.replace(sample, place="b", weight=0.0)
    assert [place.weight for place in group_by_place([sample, light])] == [1.0]
    with pytest.raises(InputError, match="no training sample"):
        group_by_place([light])


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_augmentations_keep_shape_and_range(name: str, bands: int) -> None:
    image = np.random.default_rng(0).random((bands, 33, 40), np.float32)
    before = image.copy()
    for seed in range(12):
        changed = augment(np.random.default_rng(seed), image, [name])
        assert changed.shape == image.shape
        assert changed.dtype == np.float32
        assert changed.min() >= 0
        assert changed.max() <= 1
    assert (image == before).all()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_changes_the_image(name: str) -> None:
    image = np.random.default_rng(0).random((3, 32, 32), np.float32)
    changed = [AUGMENTATIONS[name][1](np.random.default_rng(seed), image) for seed in range(4)]
    assert any(np.abs(each - image).max() > 0.005 for each in changed)


def test_an_unknown_augmentation_is_refused() -> None:
    check_augmentations(("none",))
    with pytest.raises(UsageError, match=r"colour, gamma.*got 'fog'"):
        check_augmentations(("fog",))


def test_labels_written_anew_are_read_anew(tmp_path: Path) -> None:
    """In a notebook the process lives on while files change, perhaps within a clock's tick."""
    scene = Scene.open(write_scene(tmp_path / "scene.tif", noise(40, 40)))
    path = tmp_path / "labels.parquet"
    left, top = ORIGIN

    def draw(width: float) -> None:
        box = shapely.box(left, top - 10, left + width, top)
        geopandas.GeoDataFrame(geometry=[box], crs=UTM).to_parquet(path)

    draw(5)
    assert read_classes(str(path), scene, scene.geobox.extent).sum() == 10 * 20
    assert aoi_window(str(path), scene).width == 10
    before = path.stat()
    draw(10)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read_classes(str(path), scene, scene.geobox.extent).sum() == 20 * 20
    assert aoi_window(str(path), scene).width == 20
