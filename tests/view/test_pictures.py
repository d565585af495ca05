"""Pictures of scenes, and plots with outlines and a scale bar."""

from __future__ import annotations

from pathlib import Path

import geopandas
import matplotlib as mpl
import numpy as np
import pytest
import rasterio
from matplotlib.patches import Rectangle
from rio_tiler.reader import part

import geohr
from geohr.errors import InputError, UsageError
from geohr.scene import Scene
from geohr.viewer.images import Images, to_png
from geohr.viewer.pictures import Stretch, overview, to_webp
from geohr.viewer.plot import round_length
from tests.makers import ORIGIN, UTM, noise, write_scene
from tests.view.makers import houses

mpl.use("agg")


def test_png_and_webp_are_read_by_gdal(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (37, 61, 4), dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(to_png(pixels))
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        raster = rasterio.open(tmp_path / "a.png")
    with raster:
        assert (raster.read().transpose(1, 2, 0) == pixels).all()
    (tmp_path / "a.webp").write_bytes(to_webp(pixels, quality=90))
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        raster = rasterio.open(tmp_path / "a.webp")
    with raster:
        assert (raster.count, raster.shape) == (4, (37, 61))


def test_uint8_is_shown_as_it_is_and_nodata_is_transparent(tmp_path: Path) -> None:
    pixels = noise(50, 60)
    pixels[:, 10:20, 10:20] = 0
    scene = Scene.open(write_scene(tmp_path / "s.tif", pixels, nodata=0))
    picture = overview(scene, 100)
    valid = (pixels != 0).any(axis=0)
    assert (picture.pixels[..., 3] == np.where(valid, 255, 0)).all()
    assert (picture.pixels[..., :3][valid] == pixels.transpose(1, 2, 0)[valid]).all()
    assert picture.bounds == (ORIGIN[0], ORIGIN[1] - 25, ORIGIN[0] + 30, ORIGIN[1])


def test_other_types_are_stretched_between_percentiles(tmp_path: Path) -> None:
    pixels = np.linspace(1000, 5000, 10_000).reshape(1, 100, 100).astype(np.uint16)
    scene = Scene.open(write_scene(tmp_path / "s.tif", pixels))
    stretch = Stretch.of(scene)
    assert stretch.low[0] == pytest.approx(1080, abs=2)
    assert stretch.high[0] == pytest.approx(4920, abs=2)
    shown = overview(scene, 100).pixels
    assert (shown[..., 0] == shown[..., 2]).all()
    assert (shown.min(), shown[..., 0].max(), shown[0, 0, 0]) == (0, 255, 0)


def test_web_pictures_take_the_place_that_pyproj_says(tmp_path: Path) -> None:
    pixels = np.full((3, 200, 200), 50, np.uint8)
    pixels[:, 100:, 100:] = 200
    scene = Scene.open(write_scene(tmp_path / "s.tif", pixels))
    picture = Images.of(scene).overview(400)
    left, bottom, right, top = picture.bounds
    corner = geopandas.GeoSeries.from_xy([ORIGIN[0] + 50], [ORIGIN[1] - 50], crs=UTM).to_crs(3857)
    height, width = picture.pixels.shape[:2]
    col = (corner.x[0] - left) / (right - left) * width
    row = (top - corner.y[0]) / (top - bottom) * height
    around = picture.pixels[
        round(row) - 4 : round(row) + 5 : 8, round(col) - 4 : round(col) + 5 : 8
    ]
    assert around[..., 0].tolist() == [[50, 50], [50, 200]]


def test_a_scene_without_crs_has_no_place_on_a_map(tmp_path: Path) -> None:
    scene = Scene.open(write_scene(tmp_path / "s.tif", noise(9, 9), crs=None))
    with pytest.raises(InputError, match="placed on a map"):
        Images.of(scene)


def test_every_tile_comes_through_the_guarded_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = write_scene(tmp_path / "s.tif", noise(1200, 1200), driver="COG")
    images = Images.of(Scene.open(scene))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("opened without the list of drivers")

    asked: list[str | None] = []
    monkeypatch.setattr("rasterio.open", refuse)
    monkeypatch.setattr(
        "geohr.viewer.images.part",
        lambda *options, **named: (
            asked.append(rasterio.env.getenv().get("GDAL_VRT_ENABLE_PYTHON")),
            part(*options, **named),
        )[1],
    )
    # Both tiles of the full size, and such as overviews are taken for.
    for zoom in (images.zoom, images.zoom - 3):
        x, y = images.web_bounds[0] + 1, images.web_bounds[3] - 1
        side = 2 * 20_037_508.342789244 / 2**zoom
        images.tile(
            zoom, int((x + 20_037_508.342789244) / side), int((20_037_508.342789244 - y) / side)
        )
    assert asked == ["NO", "NO"]


def test_plot_draws_image_outlines_and_a_true_scale_bar(tmp_path: Path) -> None:
    # In web Mercator at this latitude (60 degrees) a metre on the map is half a metre on earth.
    scene = write_scene(
        tmp_path / "s.tif", noise(200, 400), crs="EPSG:3857",
        transform=rasterio.transform.from_origin(0, 8_399_737.9, 1, 1),
    )  # fmt: skip
    found = houses(9).to_geodataframe(UTM)
    axes = geohr.plot(scene, found, truth=found)
    (image,) = axes.get_images()
    assert list(image.get_extent()) == [0, 400, 8_399_737.9 - 200, 8_399_737.9]
    assert len(axes.collections) == 2
    bar = next(each for each in axes.patches if isinstance(each, Rectangle))
    (label,) = [each.get_text() for each in axes.texts]
    assert label == "50 m"
    assert bar.get_width() * 400 * 0.5 == pytest.approx(50, rel=0.01)
    assert axes.get_xlim() == (0, 400)


def test_plot_refuses_polygons_without_a_place(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s.tif", noise(20, 20))
    with pytest.raises(UsageError, match="the polygons have no CRS"):
        geohr.plot(scene, houses(4).to_geodataframe(None))


def test_plot_takes_polygons_without_confidence_and_none_at_all(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "s.tif", noise(20, 20))
    frame = houses(4).to_geodataframe(UTM)
    assert len(geohr.plot(scene, frame[["geometry"]]).collections) == 1
    assert len(geohr.plot(scene, frame[:0]).collections) == 0
    mpl.pyplot.close("all")


@pytest.mark.parametrize(
    ("most", "length"), [(1, 1), (1.9, 1), (2, 2), (4.99, 2), (73, 50), (0.3, 0.2)]
)
def test_scale_bars_have_round_lengths(most: float, length: float) -> None:
    assert round_length(most) == pytest.approx(length)
