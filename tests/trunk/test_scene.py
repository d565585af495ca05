from __future__ import annotations

import os
import pickle
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.warp
from affine import Affine
from pyproj import Geod
from rasterio.enums import ColorInterp

from geohr.errors import InputError
from geohr.geobox import Window
from geohr.options import SceneOptions
from geohr.scene import Scene, SceneReader, reflect
from geohr.scene.provenance import identify
from geohr.tiling.grid import Grid
from geohr.tiling.rows import RowBuffer
from tests.makers import noise, write_scene


def test_it_describes_the_file(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "scene.tif", noise(40, 30))
    scene = Scene.open(path)
    assert (scene.height, scene.width, scene.bands, scene.dtype) == (40, 30, (1, 2, 3), "uint8")
    assert scene.gsd == pytest.approx(0.5, rel=1e-3)
    assert pickle.loads(pickle.dumps(scene)) == scene


@pytest.mark.parametrize(
    ("crs", "pixel", "middle"),
    [
        ("EPSG:3857", 0.15, (9_520_000.0, 3_200_000.0)),
        ("EPSG:4326", 1e-6, (85.5, 27.6)),
        ("EPSG:2263", 0.5, (1_000_000.0, 200_000.0)),
    ],
)
def test_ground_sampling_distance_is_in_true_metres(
    tmp_path: Path, crs: str, pixel: float, middle: tuple[float, float]
) -> None:
    transform = Affine(pixel, 0, middle[0] - 10 * pixel, 0, -pixel, middle[1] + 10 * pixel)
    path = write_scene(tmp_path / "scene.tif", noise(20, 20), crs=crs, transform=transform)
    found = Scene.open(path).gsd
    corners = np.array([middle, (middle[0] + pixel, middle[1]), (middle[0], middle[1] + pixel)])
    lon, lat = rasterio.warp.transform(crs, "EPSG:4326", corners[:, 0], corners[:, 1])
    geod = Geod(ellps="WGS84")
    across = geod.inv(lon[0], lat[0], lon[1], lat[1])[2]
    down = geod.inv(lon[0], lat[0], lon[2], lat[2])[2]
    assert found == pytest.approx(np.sqrt(across * down), rel=1e-3)


def test_beyond_the_edge_pixels_are_reflected(tmp_path: Path) -> None:
    pixels = noise(20, 30)
    path = write_scene(tmp_path / "scene.tif", pixels)
    tile = Scene.open(path).read(Window(-3, -4, 30, 40))
    expected = np.pad(pixels, ((0, 0), (3, 7), (4, 6)), mode="reflect")
    assert (tile.pixels == expected).all()


@pytest.mark.parametrize("length", [1, 2, 5])
def test_reflection_folds_as_often_as_needed(length: int) -> None:
    expected = np.pad(np.arange(length), (23, 31), mode="reflect")
    assert (reflect(-23, length + 31, length) == expected).all()


@pytest.mark.parametrize("layout", [{}, {"tiled": True, "blockxsize": 64, "blockysize": 64}])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (50, 300), (300, 50), (257, 131)])
def test_windows_in_a_row_equal_windows_one_by_one(
    tmp_path: Path, height: int, width: int, layout: dict[str, object]
) -> None:
    if min(height, width) < 16:
        layout = {}
    path = write_scene(tmp_path / "scene.tif", noise(height, width), nodata=7, **layout)
    grid = Grid(height, width, 64, 24)
    with SceneReader(Scene.open(path)) as reader:
        band = RowBuffer(reader, grid)
        for index in range(grid.shape[0]):
            for tile in band.tiles(index):
                alone = reader.read(tile.window)
                assert (tile.pixels == alone.pixels).all()
                assert (tile.valid == alone.valid).all()


def test_nodata_all_or_any(tmp_path: Path) -> None:
    pixels = noise(4, 4)
    pixels[:, 0, 0] = 255
    pixels[0, 1, 1] = 255
    pixels[1:, 1, 1] = 9
    path = write_scene(tmp_path / "scene.tif", np.where(pixels == 255, 254, pixels))
    path = write_scene(tmp_path / "scene.tif", pixels)
    window = Window(0, 0, 4, 4)
    undeclared = Scene.open(path).read(window)
    assert undeclared.valid.all()
    every = Scene.open(path, SceneOptions(nodata=255)).read(window).valid
    some = Scene.open(path, SceneOptions(nodata=255, nodata_match="any")).read(window).valid
    assert not every[0, 0]
    assert every[1, 1]
    assert not some[1, 1]


def test_alpha_is_a_mask_and_no_band(tmp_path: Path) -> None:
    pixels = noise(8, 8, bands=4)
    pixels[3] = 255
    pixels[3, :4] = 0
    path = tmp_path / "scene.tif"
    write_scene(path, pixels)
    with rasterio.open(path, "r+") as raster:
        raster.colorinterp = (
            ColorInterp.red,
            ColorInterp.green,
            ColorInterp.blue,
            ColorInterp.alpha,
        )
    scene = Scene.open(path)
    assert scene.bands == (1, 2, 3)
    valid = scene.read(Window(0, 0, 8, 8)).valid
    assert not valid[:4].any()
    assert valid[4:].all()


def test_a_mask_band_counts(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "scene.tif", noise(8, 8))
    mask = np.zeros((8, 8), np.uint8)
    mask[2:] = 255
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as raster:
        raster.write_mask(mask)
    valid = Scene.open(path).read(Window(0, 0, 8, 8)).valid
    assert (valid == (mask > 0)).all()


def test_nan_and_infinity_are_no_data(tmp_path: Path) -> None:
    pixels = noise(4, 4).astype(np.float32)
    pixels[0, 0, 0], pixels[1, 1, 1] = np.nan, np.inf
    path = write_scene(tmp_path / "scene.tif", pixels)
    valid = Scene.open(path).read(Window(0, 0, 4, 4)).valid
    assert valid.sum() == 14


def test_bands_are_chosen_in_order(tmp_path: Path) -> None:
    pixels = noise(4, 4, bands=5)
    path = write_scene(tmp_path / "scene.tif", pixels)
    tile = Scene.open(path, SceneOptions(bands=(4, 2, 1))).read(Window(0, 0, 4, 4))
    assert (tile.pixels == pixels[[3, 1, 0]]).all()


def test_bands_are_chosen_by_name_where_the_file_names_them(tmp_path: Path) -> None:
    pixels = noise(4, 4, bands=4)
    path = write_scene(tmp_path / "scene.tif", pixels, photometric="minisblack")
    wanted = ("red", "green", "blue")
    assert Scene.open(path).select(wanted).bands == (1, 2, 3)
    with rasterio.open(path, "r+") as raster:
        raster.descriptions = ("Blue", "Green", "Red", "NIR")
    assert Scene.open(path).select(wanted).bands == (3, 2, 1)
    assert Scene.open(path, SceneOptions(bands=(4, 3, 2))).select(wanted).bands == (4, 3, 2)
    with pytest.raises(InputError, match=r"needs 3 bands \(red, green, blue\) and the scene has 2"):
        Scene.open(path, SceneOptions(bands=(4, 3))).select(wanted)


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "scene.tif", noise(4, 4).astype(np.complex64))
    with pytest.raises(InputError, match="complex numbers"):
        Scene.open(path)


def test_a_truncated_file_is_refused_where_it_ends(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "scene.tif", noise(400, 400))
    path.write_bytes(path.read_bytes()[:200_000])
    with pytest.raises(InputError, match=r"(not a raster|cannot be read at rows)"):
        Scene.open(path).read(Window(380, 0, 20, 400))


def test_files_inside_of_nested_vrts_are_part_of_what_identifies_a_scene(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif", noise(8, 8))
    for name, part in (("inner.vrt", "scene.tif"), ("outer.vrt", "inner.vrt")):
        (tmp_path / name).write_text(
            '<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1">'
            f'<SimpleSource><SourceFilename relativeToVRT="1">{part}</SourceFilename>'
            "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
        )
    before = identify(Scene.open(tmp_path / "outer.vrt").files)
    assert {Path(str(each[0])).name for each in before} == {"outer.vrt", "inner.vrt", "scene.tif"}
    write_scene(tmp_path / "scene.tif", noise(8, 8, seed=1))
    assert identify(Scene.open(tmp_path / "outer.vrt").files) != before


def test_a_file_of_the_same_size_and_time_is_another_file(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "scene.tif", noise(8, 8))
    before, changed = identify([str(path)]), path.stat().st_mtime_ns
    path.unlink()
    write_scene(path, noise(8, 8, seed=1))
    os.utime(path, ns=(changed, changed))
    assert identify([str(path)]) != before


def test_each_band_has_its_own_nodata_value(tmp_path: Path) -> None:
    """A pixel is empty where every band holds its own value, not the first band's."""
    pixels = np.array([[[1, 1, 5]], [[2, 1, 2]]], np.uint8)
    write_scene(tmp_path / "scene.tif", pixels)
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><NoDataValue>{band}</NoDataValue>'
        f'<SimpleSource><SourceFilename relativeToVRT="1">scene.tif</SourceFilename>'
        f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band in (1, 2)
    )
    path = tmp_path / "scene.vrt"
    path.write_text(f'<VRTDataset rasterXSize="3" rasterYSize="1">{bands}</VRTDataset>')
    for match, valid in (("all", [False, True, True]), ("any", [False, False, False])):
        scene = Scene.open(path, SceneOptions(nodata_match=match))
        assert scene.nodata is None
        assert scene.read(scene.geobox.extent).valid.tolist() == [valid]
    assert Scene.open(path, SceneOptions(bands=(2,))).nodata == 2


def test_a_file_that_claims_65_535_bands_is_described_in_seconds(tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"
    count = 65_535
    profile = {"driver": "GTiff", "dtype": "uint8", "count": count, "height": 1, "width": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        rasterio.open(path, "w", sparse_ok=True, interleave="pixel", **profile).close()
    start = time.monotonic()
    assert len(Scene.open(path).bands) == count
    assert time.monotonic() - start < 30  # minutes where each band asks about all others
