"""Simplified outlines: neighbours stay neighbours."""

from __future__ import annotations

from typing import Literal

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geohr.options import PolygonOptions
from geohr.polygons import Polygons
from tests.polygons.tracing import METRES, UTM, Bytes, identical, predictions, rasters, trace

TOLERANCES = st.sampled_from([0.4, 1.0, 3.0, 8.0])


def no_overlap(found: Polygons) -> bool:
    """Whether the parts' areas add up to that of their union."""
    together = shapely.union_all(found.geometry).area
    return bool(abs(shapely.area(found.geometry).sum() - together) < 1e-6)


@given(rasters(largest=20), TOLERANCES, st.integers(2, 7), st.sampled_from([4, 8]))
def test_simplified_classes_do_not_overlap_and_nothing_is_lost(
    classes: Bytes, tolerance: float, frame: int, connectivity: Literal[4, 8]
) -> None:
    options = PolygonOptions(simplify=tolerance, connectivity=connectivity)
    found = trace(classes, options=options, transform=METRES, crs=UTM)
    assert len(found) == len(trace(classes, options=PolygonOptions(connectivity=connectivity)))
    assert shapely.is_valid(found.geometry).all()
    assert no_overlap(found)
    cut = trace(classes, options=options, transform=METRES, crs=UTM, frame=frame)
    assert identical(found, cut)


@given(predictions(), TOLERANCES, st.integers(2, 7))
def test_simplified_contours_do_not_overlap_and_nothing_is_lost(
    prediction: tuple[Bytes, Bytes], tolerance: float, frame: int
) -> None:
    options = PolygonOptions(outline="contour", simplify=tolerance)
    found = trace(*prediction, options=options, transform=METRES, crs=UTM)
    assert len(found) == len(trace(*prediction, options=PolygonOptions(outline="contour")))
    assert shapely.is_valid(found.geometry).all()
    assert no_overlap(found)
    cut = trace(*prediction, options=options, transform=METRES, crs=UTM, frame=frame)
    assert identical(found, cut)


@given(predictions(), TOLERANCES, st.sampled_from(["pixel", "contour"]))
def test_a_full_coverage_stays_one(
    prediction: tuple[Bytes, Bytes], tolerance: float, outline: Literal["pixel", "contour"]
) -> None:
    classes, rows = prediction
    full = np.where(classes == 255, 0, classes) + 1
    full = np.pad(full, 4, constant_values=1).astype(np.uint8)
    scores = np.concatenate([np.full((1, *classes.shape), 127, np.uint8), rows])
    scores = np.pad(scores, ((0, 0), (4, 4), (4, 4)), constant_values=127)
    options = PolygonOptions(outline=outline, simplify=tolerance)
    found = trace(full, scores, options=options, transform=METRES, crs=UTM)
    assert shapely.coverage_is_valid(found.geometry)
    assert no_overlap(found)
    together = shapely.union_all(found.geometry)
    assert together.geom_type == "Polygon"
    assert len(together.interiors) == 0


def test_thins_a_coverage_as_far_as_one_that_is_seen_whole() -> None:
    field = np.random.default_rng(5).normal(size=(4, 120, 150))
    for axis in (1, 2, 1, 2):
        field = np.sum([np.roll(field, shift, axis) for shift in range(-4, 5)], axis=0)
    classes = (field.argmax(axis=0) + 1).astype(np.uint8)
    plain = PolygonOptions(outline="contour")
    thinned = PolygonOptions(outline="contour", simplify=1)
    traced = trace(classes, options=plain, transform=METRES, crs=UTM).geometry
    found = trace(classes, options=thinned, transform=METRES, crs=UTM).geometry
    oracle = shapely.coverage_simplify(traced, 1.0)
    vertices = [shapely.get_num_coordinates(each).sum() for each in (traced, found, oracle)]
    moved = [shapely.hausdorff_distance(traced, each) for each in (found, oracle)]
    assert all(shapely.coverage_is_valid(each) for each in (traced, found, oracle))
    assert vertices[1] < vertices[0] / 4
    assert vertices[1] < vertices[2]
    assert moved[0].max() <= 1 + 1e-9


def test_stays_within_the_tolerance_in_true_metres_in_every_crs() -> None:
    rows, columns = np.mgrid[:200, :200]
    classes = (np.hypot(rows - 100, columns - 100) < 80).astype(np.uint8)
    transform = METRES.__class__(0.3, 0, 9_500_000, 0, -0.3, 3_200_000)
    traced = trace(classes, transform=transform, crs="EPSG:3857").geometry[0]
    found = trace(classes, options=PolygonOptions(simplify=2), transform=transform, crs="EPSG:3857")
    # At 27.6 degrees north, a unit of EPSG:3857 is 0.887 m.
    off = shapely.hausdorff_distance(traced, found.geometry[0]) * 0.887
    assert 1.0 < off <= 2.01
    assert found.columns["vertices"][0] < 30


def test_straight_pixel_walls_keep_their_corners() -> None:
    classes = np.zeros((30, 40), np.uint8)
    classes[5:25, 5:35] = 1
    found = trace(classes, options=PolygonOptions(simplify=1), transform=METRES, crs=UTM)
    assert found.geometry[0].equals(shapely.box(500_005, 39_975, 500_035, 39_995))
    assert found.columns["vertices"].tolist() == [4]


def test_straight_contours_lose_all_but_their_corners() -> None:
    rows, columns = np.mgrid[:60, :80]
    inside = np.minimum(20 - np.abs(rows - 30), 30 - np.abs(columns - 40))
    scores = np.clip(127 + 20 * inside, 0, 254).astype(np.uint8)
    classes = (scores >= 127).astype(np.uint8)
    options = PolygonOptions(outline="contour", simplify=1)
    found = trace(classes, scores[None], options=options, transform=METRES, crs=UTM)
    assert found.columns["vertices"].tolist() == [4]
