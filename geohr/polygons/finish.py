"""Whole outlines turned into geometries on the ground, drawn as asked, and measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from affine import Affine

from geohr import ground
from geohr.errors import InputError
from geohr.mosaic import PROBABILITY_MAX
from geohr.options import PolygonOptions
from geohr.polygons.polygons import DTYPES, Geometries, Polygons
from geohr.polygons.runs import Ints
from geohr.polygons.statistics import Statistics
from geohr.polygons.vertices import RING_START, SUBPIXEL, Ragged, unpack


@dataclass(frozen=True)
class Finish:
    """What happens once to each whole object. Fields are those of `Tracer`.

    Raises:
        InputError: When metres are asked for and there is no CRS.
    """

    transform: Affine
    crs: Any
    options: PolygonOptions
    class_names: Mapping[int, str]

    def __post_init__(self) -> None:
        """Refuse metres where nothing says how long one is."""
        asked = [
            name for name in ("simplify", "min_area", "regularize") if getattr(self.options, name)
        ]
        if asked and self.crs is None:
            raise InputError(
                f"{asked[0]} is in metres, and the raster has no CRS; give it one "
                "(gdal_edit -a_srs) or leave the option out"
            )

    def polygons(
        self,
        shapes: Ragged,
        owner: Ints,
        statistics: Statistics,
        *,
        has_scores: bool,
    ) -> Polygons:
        """Geometries and columns.

        Args:
            shapes: Items of rings, the exterior first; ring starts are marked.
            owner: `(item,)` the object of each, ascending.
            statistics: Of the objects.
            has_scores: Whether probabilities were counted.
        """
        if len(statistics) == 0:
            return Polygons.none()
        geometry = self._geometry(shapes, owner)
        keep = np.arange(len(geometry))
        if self.options.min_area:
            keep = np.flatnonzero(ground.areas(geometry, self.crs) >= self.options.min_area)
            geometry = geometry[keep]
        if self.options.simplify:
            geometry = simplify(geometry, self.options.simplify, self.crs)
        return Polygons(
            geometry, self._columns(geometry, statistics.take(keep), has_scores)
        )

    def _geometry(self, shapes: Ragged, owner: Ints) -> Geometries:
        """Shapely polygons in the CRS; multipolygons for objects of several items."""
        begins = np.flatnonzero(shapes.flat & RING_START)
        y, x = unpack(shapes.flat)
        column, row = x / SUBPIXEL, y / SUBPIXEL
        a, b, c, d, e, f = self.transform[:6]
        points = np.column_stack([a * column + b * row + c, d * column + e * row + f])
        ends = np.append(begins[1:], len(points))
        # Rings are stored open; shapely wants the first point again at the end.
        sizes = ends - begins + 1
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        source = np.arange(offsets[-1]) - np.repeat(np.arange(len(sizes)), sizes)
        source[offsets[1:] - 1] = begins
        closed = points[source]
        if a * e - b * d > 0:  # rows run north, so that the outlines turn the other way
            mirror = np.repeat(offsets[:-1] + offsets[1:] - 1, sizes) - np.arange(offsets[-1])
            closed = closed[mirror]
        rings_before = np.searchsorted(begins, shapes.offsets)
        polygons = shapely.from_ragged_array(
            shapely.GeometryType.POLYGON, closed, (offsets, rings_before)
        )
        several = np.flatnonzero(np.bincount(owner) > 1)
        if len(several) == 0:
            return np.asarray(polygons, object)
        geometry = np.empty(owner[-1] + 1, object)
        geometry[owner] = polygons
        inside = np.isin(owner, several)
        geometry[several] = shapely.multipolygons(
            np.asarray(polygons, object)[inside], indices=np.searchsorted(several, owner[inside])
        )
        return geometry

    def _columns(
        self, geometry: Geometries, statistics: Statistics, has_scores: bool
    ) -> dict[str, Any]:
        unknown = np.full(len(geometry), np.nan)
        labels = np.unique(statistics.label)
        names = np.empty(256, object)
        names[labels] = [self.class_names.get(int(label), f"class {label}") for label in labels]
        rings = shapely.get_num_interior_rings(shapely.get_parts(geometry)) + 1
        counts = shapely.get_num_geometries(geometry)
        ring_count = np.add.reduceat(rings, np.cumsum(counts) - counts) if len(counts) else counts
        values = {
            "class": names[statistics.label],
            "class_id": statistics.label,
            "confidence": unknown,
            "confidence_min": unknown,
            "area_m2": unknown,
            "perimeter_m": unknown,
            "orientation": unknown,
            "vertices": shapely.get_num_coordinates(geometry) - ring_count,
            "touches_edge": statistics.at_nodata,
        }
        if has_scores:
            mean = statistics.score_sum / statistics.pixels
            values["confidence"] = mean / PROBABILITY_MAX
            values["confidence_min"] = statistics.score_min / PROBABILITY_MAX
        if self.crs is not None:
            measures = ground.measure(geometry, self.crs)
            values["area_m2"] = measures.area
            values["perimeter_m"] = measures.perimeter
            values["orientation"] = measures.orientation
        return {name: np.asarray(values[name], dtype) for name, dtype in DTYPES.items()}


def simplify(geometry: Geometries, tolerance: float, crs: Any) -> Geometries:
    """Fewer vertices, none of the outline further off than the tolerance (Douglas and Peucker).

    Each object is drawn in metres round its own middle, so that a metre is one in every CRS.

    Args:
        geometry: Polygons.
        tolerance: In metres.
        crs: Of the polygons.
    """
    frames = ground.local_frames(geometry, crs)
    local = shapely.simplify(frames.to_metres(geometry), tolerance, preserve_topology=True)
    return frames.from_metres(local)
