"""Rasters traced in bands, with frames of a few rows, and whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import rasterio.features
import shapely
from affine import Affine
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.crs import CRS

from geohr.geobox import GeoBox
from geohr.options import PolygonOptions
from geohr.polygons import Polygons, Tracer, TraceSettings, concatenate, frames

PIXELS = Affine(1, 0, 0, 0, -1, 0)
"""A pixel is a unit; no CRS goes with it."""
METRES = Affine(1, 0, 500_000, 0, -1, 40_000)
"""A pixel is a metre of EPSG:32636, near its central meridian."""
UTM = "EPSG:32636"

Bytes = NDArray[np.uint8]


def geobox_of(classes: Bytes, transform: Affine, crs: str | None) -> GeoBox:
    """The grid of a raster."""
    return GeoBox(None if crs is None else CRS.from_string(crs), transform, *classes.shape)


def trace(
    classes: Bytes,
    probabilities: Bytes | None = None,
    *,
    options: PolygonOptions | None = None,
    bands: Sequence[int] = (),
    frame: int | None = None,
    transform: Affine = PIXELS,
    crs: str | None = None,
    background: int = 0,
) -> Polygons:
    """All polygons of a raster that is pushed in bands of the given heights, then the rest.

    `frame` is how many rows are worked on at a time.
    """
    with pytest.MonkeyPatch.context() as patch:
        if frame is not None:
            patch.setattr(frames, "FRAME_ROWS", (frame, frame))
        made = Tracer(
            TraceSettings(
                geobox_of(classes, transform, crs),
                options=options or PolygonOptions(),
                class_names={1: "building", 2: "water"},
                background=background,
            )
        )
    done, start = [], 0
    for rows in (*bands, len(classes)):
        part = slice(start, start + rows)
        scores = None if probabilities is None else probabilities[:, part]
        done.append(made.push(classes[part], scores))
        start += rows
    return concatenate([*done, made.finish()])


def whole(classes: Bytes, connectivity: int = 4) -> list[tuple[object, int]]:
    """What rasterio traces of the whole raster: normalised geometries and their classes."""
    traced = (classes != 0) & (classes != 255)
    shapes = rasterio.features.shapes(
        classes, mask=traced, connectivity=connectivity, transform=PIXELS
    )
    return [(shapely.geometry.shape(geometry), int(value)) for geometry, value in shapes]


def identical(one: Polygons, other: Polygons) -> bool:
    """Whether two results have the same rows, in the same order, to the bit."""
    same = [a.wkb == b.wkb for a, b in zip(one.geometry, other.geometry, strict=True)]
    for name, values in one.columns.items():
        same += [a == b or a != a for a, b in zip(values, other.columns[name], strict=True)]
    return all(same)


@st.composite
def rasters(draw: st.DrawFn, *, largest: int = 12, classes: int = 4) -> Bytes:
    """Class rows of any size: noise, larger patches, and places without data."""
    height, width = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    raster = generator.integers(0, draw(st.integers(2, classes)), (height, width)).astype(np.uint8)
    if draw(st.booleans()):
        raster = np.kron(raster, np.ones((2, 3), np.uint8))
    if draw(st.booleans()):
        raster[generator.random(raster.shape) < 0.1] = 255
    return raster


@st.composite
def predictions(draw: st.DrawFn) -> tuple[Bytes, Bytes]:
    """Class rows with the probabilities that they come from; smooth or noise."""
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    count = draw(st.integers(1, 3))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    probabilities = generator.integers(0, 255, (count, height, width))
    for _ in range(draw(st.integers(0, 4))):
        padded = np.pad(probabilities, ((0, 0), (1, 1), (1, 1)), mode="edge")
        parts = [padded[:, r : r + height, c : c + width] for r in range(3) for c in range(3)]
        probabilities = np.sum(parts, axis=0) // 9
    rows = probabilities.astype(np.uint8)
    background = np.full((1, height, width), 127, np.uint8)
    classes = np.concatenate([background, rows]).argmax(axis=0).astype(np.uint8)
    if draw(st.booleans()):
        empty = generator.random((height, width)) < 0.1
        classes[empty] = 255
        rows[:, empty] = 255
    return classes, rows
