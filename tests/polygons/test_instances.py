"""Touching objects parted by their probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geohr.errors import InputError, UsageError
from geohr.inference.executor import LocalExecutor
from geohr.inference.prepare import prepare
from geohr.models.model import Model
from geohr.options import PolygonOptions, SegmentOptions
from geohr.polygons import watershed
from tests.makers import noise, one_class_card, random_model, write_scene
from tests.polygons.tracing import METRES, UTM, Bytes, identical, predictions, trace

PARTED = PolygonOptions(instances=0.8, instance_area=9)


def houses(*valleys: int) -> tuple[Bytes, Bytes]:
    """A row of houses of 20 by 16 m; between two, the probability in 1/254 that is given."""
    scores = np.zeros((1, 40, 24 + 20 * (len(valleys) + 1)), np.uint8)
    scores[0, 12:28, 12:-12] = 240
    for number, valley in enumerate(valleys, start=1):
        scores[0, 12:28, 12 + 20 * number - 1 : 12 + 20 * number + 1] = valley
    return (scores[0] >= 127).astype(np.uint8), scores


def test_objects_come_apart_where_the_probability_falls_between_them() -> None:
    classes, scores = houses(150, 235, 130)
    whole = trace(classes, scores, transform=METRES, crs=UTM)
    found = trace(classes, scores, options=PARTED, transform=METRES, crs=UTM)
    assert len(whole) == 1
    assert sorted(found.columns["area_m2"].round(-1)) == pytest.approx([300, 300, 620], abs=20)
    assert shapely.area(found.geometry).sum() > 0.97 * shapely.area(whole.geometry).sum()
    assert shapely.is_valid(found.geometry).all()


def test_nothing_is_parted_by_its_shape_or_for_a_small_spot() -> None:
    classes, scores = houses()
    scores[0, 12:28, 31:33] = 0
    scores[0, 20, 31:33] = 240
    classes = (scores[0] >= 127).astype(np.uint8)
    assert len(trace(classes, scores, options=PARTED, transform=METRES, crs=UTM)) == 1
    classes, scores = houses(150)
    large = PolygonOptions(instances=0.8, instance_area=10_000)
    assert len(trace(classes, scores, options=large, transform=METRES, crs=UTM)) == 1


@pytest.mark.parametrize("level", [None, 1.0])
def test_off_unless_asked_for(level: float | None) -> None:
    classes, scores = houses(150)
    options = PolygonOptions(instances=level)
    found = trace(classes, scores, options=options, transform=METRES, crs=UTM)
    assert identical(found, trace(classes, scores, transform=METRES, crs=UTM))


@given(predictions(), st.lists(st.integers(1, 9), max_size=4), st.integers(1, 6))
def test_the_same_however_rows_come(
    prediction: tuple[Bytes, Bytes], bands: list[int], frame: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watershed, "SQUARE", 7)
        patch.setattr(watershed, "MARGIN", 4)
        options = PolygonOptions(instances=0.55, instance_area=2)
        found = trace(*prediction, options=options, transform=METRES, crs=UTM)
        cut = trace(
            *prediction, options=options, transform=METRES, crs=UTM, bands=bands, frame=frame
        )
    assert identical(found, cut)
    assert shapely.is_valid(found.geometry).all()


def test_squares_show_no_seam() -> None:
    classes, scores = houses(*[150] * 40)
    expected = trace(classes, scores, options=PARTED, transform=METRES, crs=UTM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watershed, "SQUARE", 16)
        patch.setattr(watershed, "MARGIN", 40)
        found = trace(classes, scores, options=PARTED, transform=METRES, crs=UTM)
    assert len(expected) == 41
    assert identical(found, expected)


def test_classes_are_parted_each_by_its_own_probability() -> None:
    classes, scores = houses(150)
    both = np.concatenate([scores, np.roll(scores, 3, axis=1)])
    classes = np.where(np.roll(classes, 3, axis=0) > classes, 2, classes).astype(np.uint8)
    found = trace(classes, both, options=PARTED, transform=METRES, crs=UTM)
    assert (found.columns["class_id"] == 1).sum() == 2
    assert (found.columns["class_id"] == 2).sum() == 2


def test_what_it_cannot_do_is_said() -> None:
    classes, scores = houses(150)
    with pytest.raises(InputError, match="the raster has no CRS"):
        trace(classes, scores, options=PARTED)
    with pytest.raises(UsageError, match="give them with --probs"):
        trace(classes, options=PARTED, transform=METRES, crs=UTM)
    with pytest.raises(UsageError, match="instances must be"):
        PolygonOptions(instances=1.5)


def test_the_card_says_whether_objects_are_parted(tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "scene.tif", noise(64, 64))
    card = one_class_card(instances=0.8, instance_area=6.0)
    telling = Model.load(random_model(tmp_path / "telling.safetensors", card=card))
    silent = Model.load(random_model(tmp_path / "silent.safetensors"))
    asked = prepare(scene, telling, SegmentOptions(), LocalExecutor()).options
    assert (asked.instances, asked.instance_area) == (0.8, 6.0)
    assert (
        prepare(scene, telling, SegmentOptions(instances=1.0), LocalExecutor()).options.instances
        == 1
    )
    assert prepare(scene, silent, SegmentOptions(), LocalExecutor()).options.instances is None
    plain = write_scene(tmp_path / "plain.tif", noise(64, 64), crs=None)
    assert prepare(plain, telling, SegmentOptions(), LocalExecutor()).options.instances is None
    with pytest.raises(ValueError, match=r"instances must be in \(0, 1\]; got 2"):
        one_class_card(instances=2.0)
