"""Simplified outlines: neighbours stay neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geohr.options import PolygonOptions
from tests.polygons.tracing import METRES, UTM, Bytes, identical, predictions, rasters, trace

OVERLAP_MAX = 1e-2
"""In noise, with a tolerance of several pixels, a level chord may run along another border; what
comes to touch itself so is left as traced, over a neighbour that was simplified."""
TOLERANCES = st.sampled_from([0.4, 1.0, 3.0])


@given(rasters(largest=20), TOLERANCES, st.integers(2, 7))
def test_simplified_classes_do_not_overlap_and_nothing_is_lost(
    classes: Bytes, tolerance: float, frame: int
) -> None:
    options = PolygonOptions(simplify=tolerance)
    found = trace(classes, options=options, transform=METRES, crs=UTM)
    assert len(found) == len(trace(classes))
    assert shapely.is_valid(found.geometry).all()
    together = shapely.union_all(found.geometry).area
    assert shapely.area(found.geometry).sum() == pytest.approx(together, rel=OVERLAP_MAX)
    cut = trace(classes, options=options, transform=METRES, crs=UTM, frame=frame)
    assert identical(found, cut)


@given(rasters(largest=20), TOLERANCES)
def test_a_full_coverage_keeps_no_gap_inside(classes: Bytes, tolerance: float) -> None:
    full = np.pad(classes % 3 + 1, 4, constant_values=1).astype(np.uint8)
    found = trace(full, options=PolygonOptions(simplify=tolerance), transform=METRES, crs=UTM)
    together = shapely.union_all(found.geometry)
    assert shapely.area(found.geometry).sum() == pytest.approx(together.area, rel=OVERLAP_MAX)
    assert len(shapely.get_parts(together)) == 1
    assert shapely.get_num_interior_rings(together) == 0


@given(predictions(), TOLERANCES)
def test_simplified_contours_are_valid(prediction: tuple[Bytes, Bytes], tolerance: float) -> None:
    options = PolygonOptions(outline="contour", simplify=tolerance)
    found = trace(*prediction, options=options, transform=METRES, crs=UTM)
    assert shapely.is_valid(found.geometry).all()


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
