"""Drawn buildings that stand close together: none over another, whatever rows come."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geohr.options import PolygonOptions
from geohr.polygons.neighbours import OverlapResolver
from tests.polygons.tracing import METRES, UTM, Bytes, identical, predictions, trace


def overlap(polygons: np.ndarray) -> float:
    """Square metres that several polygons cover."""
    return float(shapely.area(polygons).sum() - shapely.union_all(polygons).area)


@given(predictions(), st.sampled_from([4, 8]), st.sampled_from([0.5, 1.0]), st.integers(1, 9))
def test_drawings_do_not_overlap_however_rows_come(
    prediction: tuple[Bytes, Bytes], connectivity: int, pixel: float, frame: int
) -> None:
    transform = METRES.__class__(pixel, 0, 500_000, 0, -pixel, 40_000)
    options = PolygonOptions(
        outline="contour", regularize=True, connectivity=4 if connectivity == 4 else 8
    )
    found, again = (
        trace(*prediction, options=options, transform=transform, crs=UTM, frame=rows)
        for rows in (64, frame)
    )
    assert identical(found, again)
    assert shapely.is_valid(found.geometry).all()
    assert overlap(found.geometry) == pytest.approx(0, abs=1e-6)
    rings = shapely.get_exterior_ring(shapely.get_parts(found.geometry))
    assert shapely.is_ccw(rings).all()


def test_a_building_is_drawn_as_if_it_stood_alone() -> None:
    """So that it has right angles, which a wall shared with a neighbour askew would take."""
    rows = np.zeros((60, 90), np.uint8)
    rows[10:40, 10:40], rows[12:44, 42:70] = 1, 1
    both = trace(rows, options=PolygonOptions(regularize=True), transform=METRES, crs=UTM)
    rows[:, 41:] = 0
    (alone,) = trace(
        rows, options=PolygonOptions(regularize=True), transform=METRES, crs=UTM
    ).geometry
    assert alone.equals(both.geometry[0])
    assert both.columns["vertices"].tolist() == [4, 4]


def test_adjoining_classes_do_not_overlap() -> None:
    rows = np.zeros((60, 90), np.uint8)
    rows[10:40, 10:40], rows[10:44, 40:70] = 1, 2
    found = trace(rows, options=PolygonOptions(regularize=True), transform=METRES, crs=UTM)
    assert found.columns["class_id"].tolist() == [1, 2]
    assert overlap(found.geometry) == pytest.approx(0, abs=1e-6)


def test_small_houses_along_a_long_one_do_not_overlap_it() -> None:
    """Twelve houses, one pixel apart, along one that ends a hundred rows further down."""
    rows = np.zeros((104, 60), np.uint8)
    for top in range(2, 98, 8):
        rows[top : top + 7, 2:12] = 1
    rows[2:98, 13:24] = 1
    found = [
        trace(
            rows,
            options=PolygonOptions(regularize=True),
            bands=bands,
            frame=8,
            transform=METRES,
            crs=UTM,
        )
        for bands in ((), (7, 30, 1))
    ]
    assert identical(*found)
    assert len(found[0]) == 13
    assert overlap(found[0].geometry) == pytest.approx(0, abs=1e-6)


def test_the_later_building_yields_also_in_another_frame() -> None:
    resolver = OverlapResolver()
    first = np.array([shapely.box(0, 0, 10, 10)], object)
    later = np.array([shapely.box(9, 0, 20, 10)], object)
    resolver.resolve(first, first, np.array([10]), needed_from=5)
    (rest,) = resolver.resolve(later, later, np.array([10]), needed_from=20)
    assert rest.equals(shapely.box(10, 0, 20, 10))
    (alone,) = resolver.resolve(later, later, np.array([10]), needed_from=30)
    assert alone.equals(later[0])


@pytest.mark.parametrize("stretch", [1.0, 0.5])
def test_what_a_neighbour_askew_takes_leaves_right_angles(stretch: float) -> None:
    """In a CRS of degrees, too, whose units are of two lengths on the ground."""
    tilt = np.radians(20)
    turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    later = shapely.transform(shapely.box(9, 1, 20, 10), lambda at: at @ turn * [1, stretch])
    earlier = shapely.transform(shapely.box(0, -3, 11.3, 8), lambda at: at * [1, stretch])
    resolver = OverlapResolver()
    pair = np.array([earlier, later], object)
    first, rest = resolver.resolve(pair, pair, np.array([8, 10]), needed_from=0)
    assert first.equals(earlier)
    assert shapely.relate_pattern(first, rest, "F********")
    assert rest.area > 0.9 * later.difference(earlier).area
    ground = shapely.get_coordinates(rest) / [1, stretch]
    walls = np.diff(ground, axis=0)
    walls /= np.hypot(*walls.T)[:, None]
    assert np.abs((walls * np.roll(walls, 1, axis=0)).sum(axis=1)).max() < 1e-6
