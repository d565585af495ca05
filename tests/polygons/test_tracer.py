"""Out-of-core tracing against the whole raster, and what it counts."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from geohr.errors import InputError, UsageError
from geohr.geobox import GeoBox
from geohr.options import PolygonOptions
from geohr.polygons import DTYPES, Tracer, TraceSettings
from tests.polygons.tracing import METRES, PIXELS, UTM, Bytes, identical, rasters, trace, whole


@given(rasters(), st.integers(1, 6), st.lists(st.integers(1, 4), max_size=5))
def test_equals_the_whole_raster_traced_at_once(
    classes: Bytes, frame: int, bands: list[int]
) -> None:
    found = trace(classes, frame=frame, bands=bands)
    expected = sorted(
        (shapely.normalize(geometry).wkb, label) for geometry, label in whole(classes)
    )
    got = zip(shapely.normalize(found.geometry), found.columns["class_id"], strict=True)
    assert sorted((geometry.wkb, int(label)) for geometry, label in got) == expected
    assert shapely.is_valid(found.geometry).all()


@given(rasters(), st.integers(1, 6))
def test_rows_one_by_one_give_the_same_objects_in_the_same_order(
    classes: Bytes, frame: int
) -> None:
    single = trace(classes, frame=frame, bands=[1] * (len(classes) - 1))
    assert identical(single, trace(classes))


@given(rasters(), st.integers(1, 6))
def test_eight_connected_objects_are_valid_and_cover_the_same_pixels(
    classes: Bytes, frame: int
) -> None:
    found = trace(classes, frame=frame, options=PolygonOptions(connectivity=8))
    assert len(found) == len(whole(classes, connectivity=8))
    assert shapely.is_valid(found.geometry).all()
    traced = (classes != 0) & (classes != 255)
    assert shapely.area(found.geometry).sum() == pytest.approx(traced.sum(), abs=1e-9)


@given(rasters(largest=8), st.integers(1, 3))
def test_attributes_equal_a_count_over_the_pixels(classes: Bytes, frame: int) -> None:
    generator = np.random.default_rng(0)
    scores = generator.integers(100, 255, (3, *classes.shape)).astype(np.uint8)
    found = trace(classes, scores, frame=frame)
    rows, columns = np.indices(classes.shape)
    centres = shapely.points(columns.ravel() + 0.5, -rows.ravel() - 0.5)
    beside = np.pad(classes, 1, constant_values=255) == 255
    at_edge = beside[:-2, 1:-1] | beside[2:, 1:-1] | beside[1:-1, :-2] | beside[1:-1, 2:]
    for row, geometry in enumerate(found.geometry):
        inside = shapely.contains(geometry, centres).reshape(classes.shape)
        own = scores[found.columns["class_id"][row] - 1][inside] / 254
        assert found.columns["confidence"][row] == pytest.approx(own.mean(), abs=1e-6)
        assert found.columns["touches_edge"][row] == at_edge[inside].any()
        rings = 1 + len(geometry.interiors)
        assert found.columns["vertices"][row] == shapely.get_num_coordinates(geometry) - rings


@pytest.mark.parametrize("frame", [3, 64])
def test_a_ring_with_holes_as_large_as_the_scene(frame: int) -> None:
    classes = np.ones((101, 87), np.uint8)
    classes[2:-2:4, 2:-2:4] = 0
    classes[5:40, 5:40] = 2
    classes[50, 3:80] = 0
    found = trace(classes, frame=frame)
    expected = {shapely.normalize(geometry).wkb for geometry, _ in whole(classes)}
    assert {shapely.normalize(geometry).wkb for geometry in found.geometry} == expected


def test_a_long_spiral_stays_one_object() -> None:
    classes = np.zeros((61, 61), np.uint8)
    top, left, bottom, right = 0, 0, 60, 60
    while top < bottom:
        classes[top, left : right + 1] = 1
        classes[top : bottom + 1, right] = 1
        classes[bottom, left + 2 : right + 1] = 1
        classes[top + 2 : bottom + 1, left + 2] = 1
        top, left, bottom, right = top + 2, left + 2, bottom - 2, right - 2
    found = trace(classes, frame=4)
    expected = [shapely.normalize(geometry).wkb for geometry, _ in whole(classes)]
    assert sorted(shapely.normalize(g).wkb for g in found.geometry) == sorted(expected)


def test_exteriors_run_counterclockwise_whichever_way_the_rows_run() -> None:
    classes = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)
    for transform in (PIXELS, Affine(1, 0, 0, 0, 1, 0)):
        (geometry,) = trace(classes, transform=transform).geometry
        assert geometry.exterior.is_ccw
        assert not geometry.interiors[0].is_ccw
        assert geometry.area == 8


def test_another_background_and_class_names() -> None:
    classes = np.array([[0, 1, 5]], np.uint8)
    found = trace(classes, background=5)
    assert found.columns["class"].tolist() == ["class 0", "building"]


def test_small_objects_are_left_out_by_their_ground_area() -> None:
    classes = np.zeros((10, 10), np.uint8)
    classes[0:2, 0:2] = 1
    classes[5:8, 5:8] = 1
    found = trace(classes, options=PolygonOptions(min_area=5), transform=METRES, crs=UTM)
    assert found.columns["area_m2"].tolist() == pytest.approx([9], rel=1e-3)


def test_no_object_has_all_columns() -> None:
    found = trace(np.zeros((5, 5), np.uint8))
    assert len(found) == 0
    assert list(found.columns) == list(DTYPES)
    assert len(found.to_geodataframe()) == 0


def test_what_cannot_be_traced_is_refused() -> None:
    three = GeoBox(None, PIXELS, 3, 3)
    with pytest.raises(UsageError, match=r"must be uint8 \(row, 3\), got float64 \(2, 3\)"):
        Tracer(TraceSettings(three)).push(np.zeros((2, 3)))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="1048576 rows and columns at most"):
        TraceSettings(GeoBox(None, PIXELS, 2**20 + 1, 3))
    with pytest.raises(UsageError, match="background must be in"):
        TraceSettings(three, background=256)
    with pytest.raises(InputError, match="simplify is in metres, and the raster has no CRS"):
        Tracer(TraceSettings(three, options=PolygonOptions(simplify=1)))
    made = Tracer(TraceSettings(three))
    made.push(np.zeros((1, 3), np.uint8))
    with pytest.raises(UsageError, match="with all rows or with none"):
        made.push(np.zeros((1, 3), np.uint8), np.zeros((1, 1, 3), np.uint8))
    made.finish()
    with pytest.raises(UsageError, match="finished"):
        made.finish()
