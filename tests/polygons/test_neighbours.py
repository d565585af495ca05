"""Buildings that stand close together: one direction, common walls, whatever rows come."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import affinity

from geohr.encoding import Geometries
from geohr.errors import InputError
from geohr.options import PolygonOptions
from geohr.polygons import neighbours
from geohr.polygons.align import aligned
from geohr.polygons.neighbours import REACH, SHARED_AREA, draw_together
from geohr.polygons.regularize import directions
from geohr.polygons.settle import OverlapResolver
from tests.polygons.test_regularize import rough
from tests.polygons.tracing import METRES, UTM, Bytes, predictions, trace

TOLERANCE, TOUCH = 0.5, 0.2


def together(traced: Geometries) -> Geometries:
    """Drawn at a scale of half a metre; up to 20 cm apart they touch."""
    one, other = shapely.STRtree(traced).query(
        traced, predicate="dwithin", distance=REACH * TOLERANCE
    )
    near = np.stack([one, other])[:, one < other]
    count = len(traced)
    return draw_together(
        traced,
        np.full(count, TOLERANCE),
        np.full(count, TOUCH),
        near=near,
        group=np.zeros(count, np.int64),
    )


def row_of_houses(seed: int, gap: float) -> tuple[Geometries, float]:
    """Houses side by side, some deeper than others, with traced outlines; and their direction."""
    generator = np.random.default_rng(seed)
    widths, depths = generator.uniform(6, 12, 5), generator.choice([9.0, 9.0, 12.0], 5)
    starts = np.concatenate([[0], np.cumsum(widths + gap)])
    turned = float(generator.uniform(-40, 40))
    houses = [
        rough(affinity.rotate(shapely.box(x, 0, x + w, d), turned, origin=(0, 0)), seed + i, 0.05)
        for i, (x, w, d) in enumerate(zip(starts, widths, depths, strict=False))
    ]
    # Traced outlines do not overlap.
    for i in range(1, len(houses)):
        houses[i] = max(shapely.get_parts(houses[i] - houses[i - 1]), key=shapely.area)
    return np.array(houses, object), turned


def angles(polygon: shapely.Polygon) -> np.ndarray:
    """Directions of its sides in degrees, right angles taken as one."""
    along = np.diff(shapely.get_coordinates(polygon), axis=0)
    along = along[np.hypot(*along.T) > 1]
    return np.asarray(np.degrees(np.arctan2(along[:, 1], along[:, 0])) % 90)


def apart(one: np.ndarray, other: float) -> float:
    """The greatest difference of directions."""
    return float(np.abs((one - other + 45) % 90 - 45).max())


def unshared(polygons: Geometries, within: float) -> int:
    """Corners that lie on a neighbour's wall, where that has none."""
    count = 0
    for index, polygon in enumerate(polygons):
        corners = shapely.points(shapely.get_coordinates(polygon))
        for other in np.delete(polygons, index):
            on = corners[shapely.distance(corners, other.boundary) < within]
            theirs = shapely.multipoints(shapely.get_coordinates(other))
            count += int((shapely.distance(on, theirs) > 10 * within).sum())
    return count


@given(seed=st.integers(0, 2**20), gap=st.sampled_from([0.0, 0.1]))
@settings(max_examples=20, deadline=None)
def test_row_houses_share_walls_and_a_direction(seed: int, gap: float) -> None:
    houses, turned = row_of_houses(seed, gap)
    drawn = together(houses)
    assert shapely.is_valid(drawn).all()
    everything = shapely.union_all(drawn)
    assert shapely.area(drawn).sum() == pytest.approx(everything.area, abs=1e-6)
    assert unshared(drawn, 1e-6) == 0
    common = shapely.intersection(shapely.boundary(drawn[1:]), shapely.boundary(drawn[:-1]))
    assert (shapely.length(common) > 7).all(), "party walls are nine metres long"
    assert everything.geom_type == "Polygon"
    assert len(everything.interiors) == 0, "a gap is left"
    assert max(apart(angles(each), turned) for each in drawn) < 3
    change = shapely.area(drawn) / shapely.area(houses) - 1
    assert np.abs(change).max() < SHARED_AREA


def test_near_houses_stand_parallel_and_far_ones_as_they_are() -> None:
    street = [
        rough(affinity.rotate(shapely.box(12 * i, 0, 12 * i + 11, 8), turn), i, 0.03)
        for i, turn in enumerate([0.0, 0.8, -0.8])
    ]
    far = rough(affinity.rotate(shapely.box(60, 0, 71, 8), 0.8), 5, 0.03)
    drawn = together(np.array([*street, far], object))
    first = angles(drawn[0])[0]
    assert max(apart(angles(each), first) for each in drawn[:3]) < 1e-6
    assert apart(angles(drawn[3]), first) > 1e-3


def test_no_house_is_turned_farther_than_it_may() -> None:
    turn, strength = np.full(3, np.radians(2.0)), np.array([1.0, 1.0, 50.0])
    direction = np.radians([0.0, 3.0, 6.5])
    chain = np.array([[0, 1], [1, 2]])
    common = aligned(direction, strength, turn, chain)
    assert np.degrees(common) == pytest.approx([1.5, 1.5, 6.5], abs=0.01)
    across = aligned(np.radians([44.0, -44.0]), strength[:2], turn[:2], np.array([[0], [1]]))
    assert np.degrees(across) % 90 == pytest.approx([45, 45])


def test_a_house_between_others_keeps_its_own_direction_when_it_stands_askew() -> None:
    shapes = [shapely.box(0, 0, 10, 8), affinity.rotate(shapely.box(13, 0, 23, 8), 25)]
    houses = np.array([rough(shape, 1, 0.03) for shape in shapes], object)
    own, _ = directions(houses, np.full(2, TOLERANCE))
    assert apart(np.degrees(own[:1]), np.degrees(own[1])) > 20
    assert apart(angles(together(houses)[1]), 25) < 1


@given(predictions(), st.sampled_from([4, 8]), st.sampled_from([0.5, 1.0]))
@settings(deadline=None)
def test_a_corner_on_a_neighbours_wall_is_a_corner_of_both(
    prediction: tuple[Bytes, Bytes], connectivity: int, pixel: float
) -> None:
    transform = METRES.__class__(pixel, 0, 500_000, 0, -pixel, 40_000)
    options = PolygonOptions(
        outline="contour", regularize=True, connectivity=4 if connectivity == 4 else 8
    )
    found = trace(*prediction, options=options, transform=transform, crs=UTM)
    assert shapely.is_valid(found.geometry).all()
    assert unshared(found.geometry, 1e-6) == 0
    rings = shapely.get_exterior_ring(shapely.get_parts(found.geometry))
    assert shapely.is_ccw(rings).all()


def test_adjoining_classes_have_one_border() -> None:
    rows = np.zeros((60, 90), np.uint8)
    rows[10:40, 10:40], rows[10:44, 40:70] = 1, 2
    found = trace(rows, options=PolygonOptions(regularize=True), transform=METRES, crs=UTM)
    first, second = found.geometry
    assert first.boundary.intersection(second.boundary).length == pytest.approx(30, abs=1e-3)
    assert unshared(found.geometry, 1e-6) == 0
    assert sorted(found.columns["vertices"]) == [4, 5]


def long_block(second: int) -> Bytes:
    """Twelve small houses, one pixel apart, along one that is a hundred rows high."""
    rows = np.zeros((104, 60), np.uint8)
    for top in range(2, 98, 8):
        rows[top : top + 7, 2:12] = 1
    rows[2:98, 12 + (second == 1) : 24] = second
    return rows


def test_what_waits_too_long_is_drawn_and_still_does_not_overlap() -> None:
    rows = long_block(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "WAIT", 16)
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
    one, other = (each.geometry for each in found)
    assert [a.wkb for a in one] == [b.wkb for b in other]
    assert len(one) == 13
    assert shapely.area(one).sum() == pytest.approx(shapely.union_all(one).area, abs=1e-6)


def test_a_border_of_classes_that_would_tear_is_refused() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "WAIT", 16)
        with pytest.raises(InputError, match=r"class 1 and 3 adjoin .* use --simplify"):
            trace(
                long_block(3),
                options=PolygonOptions(regularize=True),
                frame=8,
                transform=METRES,
                crs=UTM,
            )


def test_the_later_building_yields_also_in_another_frame() -> None:
    settler = OverlapResolver()
    first = np.array([shapely.box(0, 0, 10, 10)], object)
    later = np.array([shapely.box(9, 0, 20, 10)], object)
    settler.settle(first, first, np.array([10]), needed_from=5)
    (rest,) = settler.settle(later, later, np.array([10]), needed_from=20)
    assert rest.equals(shapely.box(10, 0, 20, 10))
    (alone,) = settler.settle(later, later, np.array([10]), needed_from=30)
    assert alone.equals(later[0])
