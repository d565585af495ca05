"""Rectangles traced from their rows, slab by slab, and joined give what one tracer gives."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from geohr.geobox import Window
from geohr.options import PolygonOptions
from geohr.polygons import concatenate, frames
from geohr.polygons.fragments import Fragment, FragmentJoiner, RectangleTracer
from geohr.polygons.rectangles import reach
from geohr.polygons.tracer import TraceSettings
from tests.polygons.tracing import METRES, UTM, Bytes, geobox_of, identical, trace

HEIGHT, WIDTH = 300, 60


def scene() -> tuple[Bytes, Bytes]:
    """Classes and probabilities of blobs, and of a long object along column 40."""
    noise = np.random.default_rng(3).normal(size=(HEIGHT, WIDTH))
    smooth = ndimage.gaussian_filter(noise, 3)
    scores = np.clip(smooth / smooth.std() * 50 + 90, 0, 254).astype(np.uint8)
    scores[5:290, 37:44] = 200
    return (scores >= 127).astype(np.uint8), scores[None]


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("instances", [None, 0.6])
def test_rectangles_of_different_widths_are_joined(
    connectivity: int, instances: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wide ones are cut into lower slabs than narrow ones, so that slabs end beside each other."""
    monkeypatch.setattr(frames, "FRAME_PIXELS", 64 * 40)
    assert frames.slab_stop(0, 40) < frames.slab_stop(0, 20) < HEIGHT
    classes, scores = scene()
    options = PolygonOptions(connectivity=connectivity, instances=instances, instance_area=4)
    names = {1: "building"}
    tracing = TraceSettings(geobox_of(classes, METRES, UTM), options=options, class_names=names)
    joiner, done = FragmentJoiner(tracing), []
    for top, bottom in pairwise([0, 170, HEIGHT]):
        fragments = []
        for left, right in pairwise([0, 40, WIDTH]):
            place = Window(top, left, bottom - top, right - left)
            pixels = reach(place, tracing)
            tracer = RectangleTracer(tracing, place, pixels)
            rows, cols = pixels.slices
            for first, stop in pairwise([*range(rows.start, rows.stop, 50), rows.stop]):
                done += tracer.push(classes[first:stop, cols], scores[:, first:stop, cols])
            last, fragment = tracer.finish()
            done += last
            fragments.append(Fragment.from_arrays(fragment.to_arrays()))
        done.append(joiner.add(fragments, stop=bottom))
    assert len(joiner) == 0
    found = concatenate([polygons for polygons, _ in done])
    expected = trace(classes, scores, options=options, transform=METRES, crs=UTM)
    assert len(found) == len(expected) > 10
    order = [np.argsort([each.wkb for each in some.geometry]) for some in (found, expected)]
    assert identical(found.take(order[0]), expected.take(order[1]))
