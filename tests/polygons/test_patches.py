"""Rectangles of a scene traced apart, and joined in any order, give what one tracer gives."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geohr.geobox import Window
from geohr.options import PolygonOptions
from geohr.polygons import Polygons
from geohr.polygons.objects import ClosedObjects, together
from geohr.polygons.patches import Patch, PatchJoiner
from geohr.polygons.rectangles import halo, trace_patch
from geohr.polygons.tracer import TraceSettings
from tests.polygons.tracing import METRES, UTM, Bytes, geobox_of, identical, predictions, trace

NAMES = {1: "building", 2: "water"}


@st.composite
def options(draw: st.DrawFn) -> PolygonOptions:
    """Anything that changes outlines."""
    return PolygonOptions(
        outline=draw(st.sampled_from(["pixel", "contour"])),
        connectivity=draw(st.sampled_from([4, 8])),
        simplify=draw(st.sampled_from([0, 0, 1, 2.5])),
        min_area=draw(st.sampled_from([None, 3])),
        regularize=draw(st.booleans()),
    )


def patch_of(classes: Bytes, probabilities: Bytes, place: Window, tracing: TraceSettings) -> Patch:
    """The patch of a rectangle; it goes through arrays, as through a file."""
    beside = halo(tracing)
    around = ((1, 1), (beside, beside))
    padded = np.pad(classes, around, constant_values=255)
    scores = np.pad(probabilities, ((0, 0), *around), constant_values=255)
    rows = slice(place.row, place.row_stop + 2)
    cols = slice(place.col, place.col_stop + 2 * beside)
    arrays = trace_patch(padded[rows, cols], scores[:, rows, cols], place, tracing).to_arrays()
    assert all(np.asarray(each).dtype != object for each in arrays.values())
    return Patch.from_arrays(arrays)


def polygons_of(whole: ClosedObjects, tracing: TraceSettings) -> Polygons:
    polygons, _ = tracing.attributes().polygons(whole, has_scores=True, open_from=0)
    return polygons


@given(
    scene=predictions(),
    asked=options(),
    rows=st.sets(st.integers(1, 23), max_size=4),
    cols=st.sets(st.integers(1, 23), max_size=4),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=25)
def test_rectangles_traced_apart_give_the_same_polygons(
    scene: tuple[Bytes, Bytes], asked: PolygonOptions, rows: set[int], cols: set[int], seed: int
) -> None:
    classes, probabilities = scene
    height, width = classes.shape
    tracing = TraceSettings(geobox_of(classes, METRES, UTM), options=asked, class_names=NAMES)
    down = pairwise([0, *sorted(each for each in rows if each < height), height])
    across = pairwise([0, *sorted(each for each in cols if each < width), width])
    places = [
        Window(top, left, bottom - top, right - left)
        for (top, bottom), (left, right) in product(down, list(across))
    ]
    generator = np.random.default_rng(seed)
    patches = [patch_of(classes, probabilities, each, tracing) for each in places]
    generator.shuffle(patches)
    joiner, closed = PatchJoiner(eight=asked.connectivity == 8), []
    while patches:
        count = int(generator.integers(1, len(patches) + 1))
        closed.append(joiner.add(patches[:count]))
        del patches[:count]
        if generator.random() < 0.5:
            patches.insert(0, joiner.rest())
            assert len(joiner) == 0
            if len(patches) == 1:
                break
    closed.append(joiner.add(patches))
    assert len(joiner) == 0
    found = polygons_of(together(closed), tracing)
    expected = trace(classes, probabilities, options=asked, transform=METRES, crs=UTM)
    assert len(found) == len(expected)
    assert identical(found, expected)


def test_an_object_is_open_until_all_of_it_is_there() -> None:
    """A ring round a hole, in four rectangles of which one is missing."""
    classes = np.ones((8, 8), np.uint8)
    classes[3:5, 3:5] = 0
    probabilities = np.full((1, 8, 8), 200, np.uint8)
    tracing = TraceSettings(geobox_of(classes, METRES, UTM), options=PolygonOptions())
    places = [Window(row, col, 4, 4) for row in (0, 4) for col in (0, 4)]
    patches = [patch_of(classes, probabilities, each, tracing) for each in places]
    joiner = PatchJoiner(eight=False)
    for patch in patches[:3]:
        assert len(joiner.add([patch])) == 0
    assert len(joiner) == 1
    assert joiner.first == 0
    whole = polygons_of(joiner.add(patches[3:]), tracing)
    assert whole.geometry[0].area == pytest.approx(60)
    assert len(joiner) == 0
