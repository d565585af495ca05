"""Scenes read on another grid: the same bytes however they are read, at the right place."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.warp
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from geohr.encoding import NODATA
from geohr.geobox import GeoBox, Window, apply_affine
from geohr.options import ViewOptions
from geohr.outputs.cog import RasterWriter, probability_writer
from geohr.outputs.reprojected import ReprojectedWriter
from geohr.scene import Scene, SceneReader, Tile
from geohr.scene.prepare import open_view
from geohr.scene.warped import WarpedSource
from geohr.tiling.grid import Grid
from geohr.tiling.rows import RowBuffer
from tests.makers import noise, write_scene

VIEWS = ("0.8", "0.3", "auto")
"""Coarser and finer in the scene's own CRS, and from degrees to metres."""


@lru_cache
def scene_of(view: str) -> Scene:
    """A scene of noise with a hole, on another grid."""
    pixels = noise(700, 900, seed=3)
    pixels[:, 200:260, 300:420] = 0
    degrees = Affine(4.5e-6, 0, 32.6, 0, -4.5e-6, 48.2)
    place: dict[str, Any] = {}
    if view == "auto":
        place = {"crs": "EPSG:4326", "transform": degrees}
    path = Path(mkdtemp()) / "scene.tif"
    write_scene(path, pixels, nodata=0, tiled=True, blockxsize=128, blockysize=128, **place)
    return open_view(path, ViewOptions(gsd=view))


@lru_cache
def whole_of(view: str) -> Tile:
    """All of it, read at once."""
    scene = scene_of(view)
    return scene.read(Window(0, 0, scene.height, scene.width))


@given(
    view=st.sampled_from(VIEWS),
    row=st.integers(0, 1100),
    col=st.integers(0, 1400),
    height=st.integers(1, 600),
    width=st.integers(1, 600),
)
def test_a_window_is_the_same_bytes_as_in_the_whole(
    view: str, row: int, col: int, height: int, width: int
) -> None:
    scene, whole = scene_of(view), whole_of(view)
    window = Window(row % scene.height, col % scene.width, height, width)
    window = window.clip(scene.height, scene.width)
    part = scene.read(window)
    rows, cols = slice(window.row, window.row_stop), slice(window.col, window.col_stop)
    assert (part.pixels == whole.pixels[:, rows, cols]).all()
    assert (part.valid == whole.valid[rows, cols]).all()


@pytest.mark.parametrize("view", VIEWS)
def test_windows_in_rows_and_crops_are_the_same_bytes(view: str) -> None:
    scene, whole = scene_of(view), whole_of(view)
    part = Window(101, 57, scene.height - 140, scene.width - 90)
    crop = scene.crop(part)
    grid = Grid(crop.height, crop.width, 200, 50, margin=0)
    with SceneReader(crop) as reader:
        band = RowBuffer(reader, grid)
        for index in range(grid.shape[0]):
            for tile in band.tiles(index):
                top, left = tile.window.row + part.row, tile.window.col + part.col
                side = tile.window.height
                there = whole.pixels[:, top : top + side, left : left + side]
                assert (tile.pixels == there).all()


def test_pixels_lie_where_they_lie_on_the_ground(tmp_path: Path) -> None:
    """Pixels that tell their own place, linearly, tell it on any grid."""
    step = 3e-6
    place = Affine(step, 0, 14.2, 0, -step, 50.1)
    rows, cols = np.mgrid[0:600, 0:800].astype(np.float32)
    path = write_scene(
        tmp_path / "scene.tif", np.stack([rows, cols]), crs="EPSG:4326", transform=place
    )
    scene = open_view(path, ViewOptions(gsd="auto"))
    assert scene.crs == "EPSG:32633"
    tile = scene.read(Window(0, 0, scene.height, scene.width))
    row, col = np.nonzero(tile.valid)
    x, y = scene.geobox.to_world(col + 0.5, row + 0.5)
    lon, lat = rasterio.warp.transform(scene.crs, "EPSG:4326", x, y)
    expected_col, expected_row = apply_affine(~place, np.array(lon), np.array(lat))
    inside = (np.abs(expected_row - 300) < 290) & (np.abs(expected_col - 400) < 390)
    assert inside.sum() > 0.8 * 600 * 800 * 0.6
    found_row, found_col = tile.pixels[:, row, col]
    assert np.abs(found_row + 0.5 - expected_row)[inside].max() < 0.01
    assert np.abs(found_col + 0.5 - expected_col)[inside].max() < 0.01


@pytest.mark.parametrize("gsd", ["1.0", "0.25"])
def test_nodata_stays_where_it_is_and_colours_nothing(tmp_path: Path, gsd: str) -> None:
    pixels = np.full((3, 400, 400), 200, np.uint8)
    pixels[:, 100:200, 100:200] = 7
    path = write_scene(tmp_path / "scene.tif", pixels, nodata=7)
    scene = open_view(path, ViewOptions(gsd=gsd))
    tile = scene.read(Window(0, 0, scene.height, scene.width))
    factor = 0.5 / float(gsd)
    hole = slice(round(100 * factor), round(200 * factor))
    assert not tile.valid[hole, hole].any()
    assert tile.valid.sum() == tile.valid.size - round(100 * factor) ** 2
    assert (tile.pixels[:, tile.valid] == 200).all()


def test_coarser_pixels_are_means_of_all_that_they_cover(tmp_path: Path) -> None:
    path = write_scene(tmp_path / "scene.tif", noise(800, 800))
    scene = open_view(path, ViewOptions(gsd="8"))
    tile = scene.read(Window(0, 0, scene.height, scene.width))
    assert (scene.height, scene.width) == (50, 50)
    # Noise of 256 values has a deviation of 74; 16 x 16 of it at least a tenth of that.
    assert tile.pixels.std() < 10
    assert isinstance(scene.source, WarpedSource)


EDGES: tuple[tuple[str, Affine, str], ...] = (
    ("EPSG:32636", Affine(0.5, 0, 5e5, 0, -0.5, 5.3e6), "1.361"),
    ("EPSG:32636", Affine(0.5, 0, 5e5, 0, -0.5, 5.3e6), "0.273"),
    ("EPSG:4326", Affine(5e-6, 0, 32.6, 0, -5e-6, 48.2), "auto"),
    ("EPSG:4326", Affine(5e-6, 0, 32.6, 0, -5e-6, 82.0), "1.2"),
    ("EPSG:3031", Affine(0.5, 0, 2e6, 0, -0.5, 1e6), "0.8"),
    ("EPSG:4326", Affine(2e-4, 0, 32.6, 0, -2e-4, 90.0), "4"),
)


@pytest.mark.filterwarnings("ignore:.*near to a pole")
@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize(("crs", "place", "gsd"), EDGES)
@pytest.mark.parametrize("size", [(64, 513), (61, 222)])
def test_every_valid_pixel_gets_a_result(
    tmp_path: Path, crs: str, place: Affine, gsd: str, size: tuple[int, int], classes: bool
) -> None:
    """At the edges of the scene and of holes too, on the scene's own grid."""
    pixels = np.full((3, *size), 200, np.uint8)
    pixels[:, 20:33, 40:71] = 0
    pixels[:, ::17, ::23] = 0
    path = write_scene(tmp_path / "scene.tif", pixels, nodata=0, crs=crs, transform=place)
    scene = open_view(path, ViewOptions(gsd=gsd))
    assert scene.warped_from is not None
    valid = scene.read(scene.geobox.extent).valid

    def sink(target: Path, geobox: GeoBox) -> RasterWriter:
        return probability_writer(target, geobox, ["a"], {})

    out = tmp_path / "out.tif"
    with ReprojectedWriter(
        out, made=scene.geobox, own=scene.native, bands=1, sink=sink, classes=classes
    ) as writer:
        writer.write(np.where(valid, 100, NODATA).astype(np.uint8)[None])
    with rasterio.open(out) as raster:
        back = raster.read(1)
    there = pixels[0] > 0
    assert (back[there] == 100).all()
    if place.f < 90:  # near a pole, pixels of a hole share a result with others
        assert (back[10:, 10:][~there[10:, 10:]] == NODATA).any()
