"""Outlines between pixel centres."""

from __future__ import annotations

import contourpy
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geohr.options import PolygonOptions
from tests.polygons.tracing import Bytes, identical, predictions, trace

CONTOUR = PolygonOptions(outline="contour")


@given(predictions(), st.integers(1, 6))
def test_valid_and_the_same_however_rows_are_cut(
    prediction: tuple[Bytes, Bytes], frame: int
) -> None:
    classes, scores = prediction
    found = trace(classes, scores, options=CONTOUR)
    assert shapely.is_valid(found.geometry).all()
    cut = trace(classes, scores, options=CONTOUR, frame=frame, bands=[1] * (len(classes) - 1))
    assert identical(found, cut)


@given(predictions())
def test_all_classes_together_cover_the_scene_without_gap_or_overlap(
    prediction: tuple[Bytes, Bytes],
) -> None:
    classes, scores = prediction
    background = np.full((1, *classes.shape), 127, np.uint8)
    shifted = np.where(classes == 255, 255, classes + 1).astype(np.uint8)
    found = trace(shifted, np.concatenate([background, scores]), options=CONTOUR)
    with_data = (classes != 255).sum()
    assert shapely.area(found.geometry).sum() == pytest.approx(with_data, abs=1e-9)
    assert shapely.union_all(found.geometry).area == pytest.approx(with_data, abs=1e-6)
    assert shapely.coverage_is_valid(found.geometry)


def test_follows_the_contour_of_a_smooth_field() -> None:
    rows, columns = np.mgrid[:80, :80]
    distance = np.hypot(rows - 40.2, columns - 38.7)
    field = np.clip(127 + 8 * (20 - distance), 0, 254)
    scores = np.rint(field).astype(np.uint8)[None]
    found = trace((scores[0] >= 127).astype(np.uint8), scores, options=CONTOUR)
    lines = contourpy.contour_generator(z=scores[0].astype(float)).lines(127)
    line = np.asarray(lines[0])
    oracle = shapely.Polygon(np.column_stack([line[:, 0] + 0.5, -line[:, 1] - 0.5]))
    (circle,) = found.geometry
    assert shapely.hausdorff_distance(circle, oracle) < 0.05
    assert circle.area == pytest.approx(np.pi * 20**2, rel=0.002)
    (stairs,) = trace((scores[0] >= 127).astype(np.uint8)).geometry
    assert circle.length < 0.9 * stairs.length


def test_a_saddle_goes_by_the_mean_of_its_four_pixels() -> None:
    for diagonal, parts in ((250, 1), (130, 2)):
        scores = np.array([[[diagonal, 100], [100, diagonal]]], np.uint8)
        classes = (scores[0] >= 127).astype(np.uint8)
        assert len(trace(classes, scores, options=CONTOUR)) == parts


def test_reaches_the_edge_of_the_scene_and_of_the_data() -> None:
    classes = np.full((6, 6), 1, np.uint8)
    classes[:, 4:] = 255
    scores = np.where(classes == 255, 255, 200).astype(np.uint8)[None]
    (geometry,) = trace(classes, scores, options=CONTOUR).geometry
    assert geometry.equals(shapely.box(0, -6, 4, 0))


def test_without_probabilities_vertices_lie_midway() -> None:
    classes = np.zeros((3, 3), np.uint8)
    classes[1, 1] = 1
    (geometry,) = trace(classes, options=CONTOUR).geometry
    assert geometry.area == pytest.approx(0.5)
