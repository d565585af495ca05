"""Vector tiles, checked by GDAL's own reader of them, and picture tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geohr.errors import InputError
from geohr.scene import Scene
from geohr.viewer.images import Images, tile_bounds
from geohr.viewer.mvt import EXTENT, LEAST, Features, encode_tile, varint, varints
from geohr.viewer.objects import ObjectTable
from tests.makers import noise, write_scene
from tests.view.makers import houses, write_objects, write_result

HALF = 20_037_508.342789244
"""Half the side of the web Mercator plane in its metres: pi times the earth's major axis."""
BOUNDS = (0.0, 0.0, 4096.0, 4096.0)


def decode(tile: bytes, folder: Path) -> tuple[list[int], np.ndarray, dict[str, np.ndarray]]:
    """Numbers, shapes (y up, in units) and attributes, as GDAL's MVT driver reads them."""
    path = folder / "tile.pbf"
    path.write_bytes(tile)
    frame = pyogrio.read_dataframe(path, layer="objects", CLIP="NO")
    shapes = np.asarray(frame.geometry.array, object)
    return frame["mvt_id"].tolist(), shapes, {name: frame[name].to_numpy() for name in frame}


def features(*shapes: shapely.Geometry, confidence: float = 0.5) -> Features:
    return Features(
        np.array(shapes, object),
        np.arange(1, len(shapes) + 1) * 100_000,
        {
            "confidence": np.full(len(shapes), confidence),
            "class": np.full(len(shapes), "building", object),
        },
    )


def same_place(found: shapely.Geometry, wanted: shapely.Geometry) -> bool:
    return bool(found.symmetric_difference(wanted).area < 4 * wanted.length + 16)


def test_polygons_with_holes_and_several_parts_come_back(tmp_path: Path) -> None:
    hole = shapely.Polygon(
        shapely.box(100, 100, 900, 800).exterior, [shapely.box(300, 300, 500, 600).exterior]
    )
    several = shapely.MultiPolygon(
        [shapely.box(1000, 1000, 1200, 1300), shapely.box(2000, 50, 2400, 450)]
    )
    given_features = features(hole, several, confidence=0.875)
    ids, shapes, values = decode(encode_tile(given_features, BOUNDS, layer="objects"), tmp_path)
    assert ids == [100_000, 200_000]
    assert values["confidence"].tolist() == [0.875, 0.875]
    assert values["class"].tolist() == ["building", "building"]
    for found, wanted in zip(shapes, (hole, several), strict=True):
        assert found.symmetric_difference(wanted).area == 0


@given(
    st.lists(
        st.tuples(
            st.floats(-3000, 7000), st.floats(-3000, 7000), st.floats(20, 3000), st.integers(3, 40)
        ),
        min_size=1, max_size=8,
    )
)  # fmt: skip
def test_any_circle_is_drawn_where_it_is(
    tmp_path_factory: pytest.TempPathFactory, circles: list[tuple[float, float, float, int]]
) -> None:
    shapes = [shapely.Point(x, y).buffer(r, quad_segs=n) for x, y, r, n in circles]
    frame = shapely.box(-100, -100, EXTENT + 100, EXTENT + 100)
    wanted = {
        100_000 * (place + 1): shape.intersection(frame)
        for place, shape in enumerate(shapes)
        if shape.intersection(frame).area > 100
    }
    tile = encode_tile(features(*shapes), BOUNDS, layer="objects")
    if not wanted:
        return
    ids, found, _ = decode(tile, tmp_path_factory.mktemp("tile"))
    drawn = dict(zip(ids, found, strict=True))
    for identity, shape in wanted.items():
        assert same_place(drawn[identity].intersection(frame), shape)


def test_what_is_smaller_than_a_pixel_is_drawn_as_one(tmp_path: Path) -> None:
    tile = encode_tile(features(shapely.box(100, 100, 100.5, 100.5)), BOUNDS, layer="objects")
    _, (shape,), _ = decode(tile, tmp_path)
    assert shape.area == LEAST**2
    assert shape.contains(shapely.Point(100, 100))


@given(st.lists(st.integers(0, 2**35 - 1), min_size=1))
def test_varints_in_bulk_are_varints_one_by_one(numbers: list[int]) -> None:
    stream, lengths = varints(np.array(numbers, np.int64))
    assert stream == b"".join(map(varint, numbers))
    assert lengths.tolist() == [len(varint(number)) for number in numbers]


def test_varint_is_the_example_of_the_protocol() -> None:
    assert varint(150) == b"\x96\x01"


@given(st.integers(0, 24), st.data())
def test_tiles_cover_the_plane(zoom: int, data: st.DataObject) -> None:
    col, row = (data.draw(st.integers(0, 2**zoom - 1)) for _ in range(2))
    left, bottom, right, top = tile_bounds(zoom, col, row)
    assert right - left == pytest.approx(top - bottom)
    assert round((left + HALF) / (right - left)) == col
    assert round((HALF - top) / (right - left)) == row


@pytest.mark.parametrize("place", [(0, 0, 1), (2, 4, 0), (25, 0, 0), (3, -1, 0)])
def test_places_off_the_plane_are_refused(place: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="no tile"):
        tile_bounds(*place)


@pytest.mark.parametrize("gsd", [0.05, 0.5, 10.0])
def test_the_finest_tiles_are_as_fine_as_the_scene_or_just_finer(
    tmp_path: Path, gsd: float
) -> None:
    transform = rasterio.transform.from_origin(0, 0, gsd, gsd)
    images = Images.of(
        Scene.open(
            write_scene(tmp_path / "s.tif", noise(90, 90), crs="EPSG:3857", transform=transform)
        )
    )
    step = 2 * HALF / 2**images.zoom / 512
    assert step <= gsd * (1 + 1e-6) < 2 * step


def around(objects: ObjectTable, zoom: int) -> tuple[int, int, int]:
    """Zoom, column and row of the tile at the first house."""
    index = objects.index()
    x, y = objects.to_web.transform(450_006, 39_994)
    side = 2 * HALF / 2**zoom
    assert index["id"]
    return zoom, int((x + HALF) / side), int((HALF - y) / side)


@pytest.mark.parametrize("crs", ["EPSG:32636", "EPSG:4326", "EPSG:3857"])
def test_a_layer_in_any_crs_gives_the_same_tile(tmp_path: Path, crs: str) -> None:
    polygons = houses(25)
    there = ObjectTable.open(write_objects(tmp_path / "a.gpkg", polygons))
    objects = ObjectTable.open(write_objects(tmp_path / "b.gpkg", polygons, crs=crs))
    tile = around(there, 18)
    ids, shapes, _ = decode(there.tile(tile_bounds(*tile)), tmp_path)
    other_ids, other_shapes, _ = decode(objects.tile(tile_bounds(*tile)), tmp_path)
    assert sorted(ids) == sorted(other_ids)
    assert len(ids) > 10
    order, other_order = np.argsort(ids), np.argsort(other_ids)
    for one, other in zip(shapes[order], other_shapes[other_order], strict=True):
        assert one.hausdorff_distance(other) <= 2


def test_tiles_of_a_scene_are_transparent_beyond_it(tmp_path: Path) -> None:
    scene, path = write_result(tmp_path)
    images = Images.of(Scene.open(scene))
    objects = ObjectTable.open(path)
    (tmp_path / "in.png").write_bytes(images.tile(*around(objects, images.zoom)))
    (tmp_path / "out.png").write_bytes(images.tile(images.zoom, 0, 0))
    with pytest.warns(UserWarning, match="no geotransform"):
        inside = read_png(tmp_path / "in.png")
    with pytest.warns(UserWarning, match="no geotransform"):
        beyond = read_png(tmp_path / "out.png")
    assert inside.shape == (4, 512, 512)
    assert inside[3].max() == 255
    assert beyond.shape == (4, 1, 1)
    assert beyond.max() == 0


def read_png(path: Path) -> np.ndarray:
    with rasterio.open(path) as raster:
        return np.asarray(raster.read())
