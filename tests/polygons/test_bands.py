"""Bands of a scene traced apart give what one tracer gives, bit for bit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geohr.options import PolygonOptions
from geohr.polygons import Polygons, concatenate, frames, strips, tracer, watershed
from geohr.polygons.strips import StripJoiner, StripPolygons, draw_edge, trace_strip
from geohr.polygons.tracer import TraceSettings
from tests.polygons.tracing import METRES, UTM, Bytes, geobox_of, identical, predictions, trace

SQUARE, MARGIN = 4, 2
"""Of the squares in which touching objects are parted here."""


@st.composite
def options(draw: st.DrawFn) -> PolygonOptions:
    """Anything that changes outlines."""
    return PolygonOptions(
        outline=draw(st.sampled_from(["pixel", "contour"])),
        connectivity=draw(st.sampled_from([4, 8])),
        simplify=draw(st.sampled_from([0, 0, 1, 2.5])),
        min_area=draw(st.sampled_from([None, 3])),
        regularize=draw(st.booleans()),
        instances=draw(st.sampled_from([None, 0.6])),
        instance_area=1,
    )


def trace_apart(
    classes: Bytes, probabilities: Bytes, asked: PolygonOptions, edges: list[int], frame: int
) -> Polygons:
    """Polygons of bands between the given rows; each goes through arrays, as through a file."""
    names = {1: "building", 2: "water"}
    how = TraceSettings(geobox_of(classes, METRES, UTM), options=asked, class_names=names)
    joined = StripJoiner(how)
    done: list[Polygons] = []
    above = None
    for start, stop in pairwise(edges):
        first, end = how.reach(start, stop)
        cuts = [first, *range(first + 3, end, 3), end]
        chunks = [(classes[one:two], probabilities[:, one:two]) for one, two in pairwise(cuts)]
        traced = trace_strip(chunks, start, stop, how)
        arrays = traced.to_arrays()
        assert all(np.asarray(each).dtype != object for each in arrays.values())
        # Buildings across every other edge are left to the joiner.
        drawn = None
        if above is not None and asked.regularize and len(done) % 2:
            drawn = draw_edge(above, traced.fragment, how)
        done.append(joined.add(StripPolygons.from_arrays(arrays), drawn))
        above = traced.fragment
    return concatenate(done)


@given(
    scene=predictions(),
    asked=options(),
    cuts=st.sets(st.integers(1, 23), max_size=6),
    frame=st.integers(1, 9),
)
@settings(deadline=None)
def test_bands_traced_apart_give_the_same_polygons(
    scene: tuple[Bytes, Bytes], asked: PolygonOptions, cuts: set[int], frame: int
) -> None:
    classes, probabilities = scene
    if asked.instances is not None:
        cuts = {cut * SQUARE for cut in cuts}
    edges = [0, *sorted(cut for cut in cuts if cut < len(classes)), len(classes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "FRAME_ROWS", (frame, frame))
        for module in (watershed, tracer, strips):
            for name, value in (("SQUARE", SQUARE), ("MARGIN", MARGIN)):
                patch.setattr(module, name, value, raising=False)
        expected = trace(
            classes, probabilities, options=asked, frame=frame, transform=METRES, crs=UTM
        )
        found = trace_apart(classes, probabilities, asked, edges, frame)
    assert len(found) == len(expected)
    assert identical(found, expected)


def test_an_outline_through_many_bands_is_one_object() -> None:
    """A comb whose teeth join in the last row, with holes that open and close between bands."""
    classes = np.zeros((40, 41), np.uint8)
    classes[:, ::2] = 1
    classes[39] = 1
    classes[10:20, 5:30] = 1
    classes[13:17, 8:12] = 0
    probabilities = np.where(classes, 200, 50).astype(np.uint8)[None]
    expected = trace(classes, probabilities, transform=METRES, crs=UTM)
    assert len(expected) == 1
    found = trace_apart(classes, probabilities, PolygonOptions(), [*range(41)], 64)
    assert identical(found, expected)
