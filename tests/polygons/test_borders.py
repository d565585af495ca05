"""Walls of buildings that stand close, drawn in rectangles and joined, are those of one tracer."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from geohr.geobox import Window
from geohr.options import PolygonOptions
from geohr.polygons import Polygons, concatenate
from geohr.polygons.borders import FixedParts, WallDrawings, WallJoiner, settle
from geohr.polygons.patches import PatchJoiner
from geohr.polygons.tracer import TraceSettings
from tests.polygons.test_patches import patch_of
from tests.polygons.tracing import METRES, UTM, Bytes, geobox_of, identical, trace

SIDE = 160


def town(seed: int) -> tuple[Bytes, Bytes]:
    """Classes and probabilities of houses that all but touch."""
    generator = np.random.default_rng(seed)
    inside = np.zeros((SIDE, SIDE), np.float32)
    for row in range(2, SIDE - 8, 9):
        for col in range(2, SIDE - 8, 9):
            height, width = generator.integers(5, 9, 2)
            top, left = row + generator.integers(0, 2), col + generator.integers(0, 2)
            inside[top : top + height, left : left + width] = generator.random() < 0.9
    rough = ndimage.gaussian_filter(generator.normal(size=(SIDE, SIDE)), 1) * 0.5
    scores = np.clip(254 * (ndimage.gaussian_filter(inside, 0.6) + rough * 0.4), 0, 254)
    classes = (scores >= 127).astype(np.uint8)
    return classes, scores.astype(np.uint8)[None]


def in_cells(
    classes: Bytes, scores: Bytes, tracing: TraceSettings, edges: list[int]
) -> tuple[Polygons, int]:
    """The polygons of rectangles between edges down and across; how many were settled in one."""
    joiner, walls = PatchJoiner(eight=False), WallJoiner(tracing.attributes())
    done, settled = [], 0
    for top, bottom in pairwise(edges):
        patches, held = [], []
        for left, right in pairwise(edges):
            place = Window(top, left, bottom - top, right - left)
            inner = PatchJoiner(eight=False)
            closed = inner.add([patch_of(classes, scores, place, tracing)])
            patches.append(inner.rest())
            held.append(settle(closed, patches[-1].boxes(SIDE), place, tracing.attributes()))
        settled += sum(len(each.polygons) for each in held)
        waiting = WallDrawings.together(
            [WallDrawings.from_arrays(each.waiting.to_arrays()) for each in held]
        )
        whole = joiner.add(patches)
        fixed = FixedParts.concatenated(
            [FixedParts.from_arrays(each.fixed.to_arrays()) for each in held]
        )
        open_from = min(joiner.first // SIDE, bottom)
        done += [each.polygons for each in held]
        done.append(walls.draw(whole, waiting, fixed, open_from=open_from)[0])
    return concatenate(done), settled


@pytest.mark.parametrize(("seed", "bands"), [(0, 160), (1, 7), (2, 31)])
def test_walls_drawn_in_rectangles_are_those_of_one_tracer(seed: int, bands: int) -> None:
    classes, scores = town(seed)
    options = PolygonOptions(outline="contour", regularize=True, simplify=0.2, min_area=4)
    names = {1: "building", 2: "water"}
    tracing = TraceSettings(geobox_of(classes, METRES, UTM), options=options, class_names=names)
    rows = [bands] * (SIDE // bands)
    expected = trace(classes, scores, options=options, bands=rows, transform=METRES, crs=UTM)
    found, settled = in_cells(classes, scores, tracing, [0, 57, 101, SIDE])
    assert len(found) == len(expected) > 100
    assert len(expected) // 5 < settled < len(expected)
    order = [np.argsort([each.wkb for each in some.geometry]) for some in (found, expected)]
    assert identical(found.take(order[0]), expected.take(order[1]))
