"""Buildings drawn with straight walls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely import affinity

from geohr.encoding import Geometries
from geohr.inference.executor import LocalExecutor
from geohr.inference.prepare import prepare
from geohr.models.model import Model
from geohr.options import SegmentOptions
from geohr.polygons.regularize import AREA_TOLERANCE, directions, regularize
from geohr.polygons.walls import main_direction
from geohr.scene import Scene
from tests.makers import noise, one_class_card, random_model, write_scene


def rough(shape: shapely.Polygon, seed: int = 0, noise: float = 0.12) -> shapely.Polygon:
    """The outline with a vertex every 20 cm, each moved a little."""
    ring = shapely.segmentize(shape, 0.2).exterior.coords[:-1]
    moved = np.array(ring) + np.random.default_rng(seed).normal(0, noise, (len(ring), 2))
    whole = shapely.make_valid(shapely.Polygon(moved).buffer(0.05), method="structure")
    return max(shapely.get_parts(whole), key=shapely.area)


def drawn_alone(shapes: Geometries) -> Geometries:
    """Each drawn for itself, half a metre being the scale."""
    tolerance = np.full(len(shapes), 0.5)
    return regularize(shapes, tolerance, directions(shapes, tolerance))


L_SHAPE = shapely.Polygon([(0, 0), (14, 0), (14, 5), (6, 5), (6, 12), (0, 12)])


@pytest.mark.parametrize("angle", [0, 17, 44, 80])
@pytest.mark.parametrize(("shape", "corners"), [(shapely.box(0, 0, 12, 7), 4), (L_SHAPE, 6)])
def test_finds_the_walls_of_a_rough_outline(
    shape: shapely.Polygon, corners: int, angle: float
) -> None:
    truth = affinity.rotate(shape, angle)
    (drawn,) = drawn_alone(np.array([rough(truth)], object))
    assert shapely.get_num_coordinates(drawn) - 1 == corners
    assert drawn.intersection(truth).area / drawn.union(truth).area > 0.95
    turns = np.degrees(main_direction(np.array([drawn], object)))[0]
    assert abs((turns - angle + 45) % 90 - 45) < 1.5


def test_a_bevelled_corner_and_a_tank_are_drawn_as_such() -> None:
    bevelled = shapely.Polygon([(0, 0), (20, 0), (20, 8), (14, 14), (0, 14)])
    tank = shapely.Point(50, 0).buffer(8)
    drawn = drawn_alone(np.array([rough(bevelled, noise=0.06), rough(tank, noise=0.06)], object))
    assert shapely.get_num_coordinates(drawn[0]) - 1 == 5
    assert drawn[0].intersection(bevelled).area / drawn[0].union(bevelled).area > 0.96
    assert drawn[1].intersection(tank).area / drawn[1].union(tank).area > 0.95
    assert shapely.get_num_coordinates(drawn[1]) - 1 == 16


def test_keeps_courtyards() -> None:
    block = shapely.box(0, 0, 30, 30).difference(shapely.box(10, 10, 20, 20))
    (drawn,) = drawn_alone(np.array([block], object))
    assert drawn.equals_exact(shapely.normalize(block), 1e-6) or drawn.equals(block)


@given(st.integers(0, 2**32))
def test_areas_stay_within_the_tolerance(seed: int) -> None:
    generator = np.random.default_rng(seed)
    width, height = generator.uniform(4, 25, 2)
    outline = rough(affinity.rotate(shapely.box(0, 0, width, height), 30), seed)
    (drawn,) = drawn_alone(np.array([outline], object))
    assert drawn.area == pytest.approx(outline.area, rel=AREA_TOLERANCE)


def test_a_ring_of_many_houses_is_followed_closely() -> None:
    houses = [shapely.box(12 * i, 0, 12 * i + 11.6, 8 + 1.5 * (i % 3)) for i in range(12)]
    row = shapely.union_all([rough(house, seed) for seed, house in enumerate(houses)])
    lane = shapely.union_all([row, shapely.box(0, 2, 143, 4)])
    (drawn,) = drawn_alone(np.array([lane], object))
    assert drawn.is_valid
    assert drawn.symmetric_difference(lane).area / lane.area < 0.03


def test_the_card_says_how_far_walls_may_leave_the_outline(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", noise(64, 64))
    plain = write_scene(tmp_path / "plain.tif", noise(64, 64), crs=None)
    card = one_class_card()
    wide, narrow = (
        Model.load(random_model(tmp_path / f"{walls}.safetensors", card=replace(card, walls=walls)))
        for walls in (50.0, 0.001)
    )
    asked = SegmentOptions(regularize=True, gsd="native")
    pixel = Scene.open(scene).gsd
    assert pixel is not None
    assert prepare(scene, wide, asked, LocalExecutor()).options.simplify == 50
    assert prepare(scene, narrow, asked, LocalExecutor()).options.simplify == 2 * pixel
    assert (
        prepare(scene, wide, replace(asked, simplify=0.2), LocalExecutor()).options.simplify == 0.2
    )
    exact = prepare(scene, wide, replace(asked, simplify=0.0), LocalExecutor())
    assert exact.options.simplify == 0
    assert prepare(scene, wide, SegmentOptions(gsd="native"), LocalExecutor()).options.simplify == 0
    assert prepare(plain, wide, asked, LocalExecutor()).options.simplify == 0
    with pytest.raises(ValueError, match="walls must be above 0 metres; got 0"):
        one_class_card(walls=0.0)
