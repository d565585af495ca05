"""Whole outlines turned into geometries on the ground, drawn as asked, and measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from geohr import geodesy
from geohr.encoding import PROBABILITY_MAX, Floats, Geometries, Ints
from geohr.errors import InputError
from geohr.geobox import GeoBox
from geohr.options import PolygonOptions
from geohr.polygons.objects import ClosedObjects, Statistics
from geohr.polygons.regularize import Regularizer
from geohr.polygons.rings import RING_START, SUBPIXEL, RaggedArray, unpack
from geohr.polygons.simplify import thin, without_hints
from geohr.polygons.table import DTYPES, Polygons, by_owner

# The side, in pixels, of the squares in which one scale in metres is used.
SCALE_BLOCK = 1024


@dataclass(frozen=True)
class AttributeBuilder:
    """Draws closed objects and measures their attributes; the fields are those of `TraceSettings`.

    Raises:
        InputError: When metres are asked for and there is no CRS.
    """

    geobox: GeoBox
    options: PolygonOptions
    regularizer: Regularizer
    class_names: Mapping[int, str]

    def __post_init__(self) -> None:
        """Refuse metres where nothing says how long one is."""
        asked = [
            name for name in ("simplify", "min_area", "regularize") if getattr(self.options, name)
        ]
        if asked and self.geobox.crs is None:
            raise InputError(
                f"{asked[0]} is in metres, and the raster has no CRS; give it one "
                "(gdal_edit -a_srs) or leave the option out"
            )

    def polygons(
        self,
        whole: ClosedObjects,
        *,
        has_scores: bool,
        open_from: int,
    ) -> tuple[Polygons, Statistics]:
        """Geometries and columns, and the statistics of those objects that are left.

        Args:
            whole: The objects.
            has_scores: Whether probabilities were counted.
            open_from: The first row of what is still to come.
        """
        whole = self.large(whole)
        if len(whole) == 0:
            return Polygons.none(), whole.statistics
        if self.options.regularize:
            geometry = self.regularizer.draw(
                self.outlines(whole), whole.statistics.bottom, open_from=open_from
            )
        else:
            geometry = self.outlines(whole)
        return self.measured(geometry, whole.statistics, has_scores)

    def large(self, whole: ClosedObjects) -> ClosedObjects:
        """The objects that are large enough to be kept."""
        if not (self.options.min_area and len(whole)):
            return whole
        geometry = self._geometry(without_hints(whole.shapes), whole.owner)
        area = geodesy.areas(geometry, self.geobox.crs)
        return whole.select(area >= self.options.min_area)

    def outlines(self, whole: ClosedObjects) -> Geometries:
        """Objects as traced, simplified where that is asked for without walls."""
        shapes, owner = whole.shapes, whole.owner
        if self.options.tolerance and not self.options.regularize:
            shapes = thin(shapes, owner, tolerance=self.options.tolerance, scale=self._scale)
        return self._geometry(shapes, owner)

    def measured(
        self, geometry: Geometries, statistics: Statistics, has_scores: bool
    ) -> tuple[Polygons, Statistics]:
        """Geometries with their columns; without those of which nothing is left."""
        left = ~shapely.is_missing(geometry)
        geometry, statistics = counterclockwise(geometry[left]), statistics.take(left)
        if len(statistics) == 0:
            return Polygons.none(), statistics
        drawn = Polygons(geometry, self._columns(geometry, statistics, has_scores))
        if self.options.min_area and (self.options.tolerance or self.options.regularize):
            # Drawing an outline anew takes a little of the area that is read in the end.
            kept = np.flatnonzero(drawn.columns["area_m2"] >= self.options.min_area)
            return drawn.take(kept), statistics.take(kept)
        return drawn, statistics

    def _scale(self, row: Ints, column: Ints) -> Floats:
        """`(n, 2, 2)` metres a pixel, the same within a block of the raster."""
        blocks, of_vertex = np.unique(
            np.stack([row // SCALE_BLOCK, column // SCALE_BLOCK]), axis=1, return_inverse=True
        )
        row, column = (blocks + 0.5) * SCALE_BLOCK
        scale = geodesy.local_scale(self.geobox.crs, *self.geobox.to_world(column, row))
        a, b, _, d, e, _ = self.geobox.transform[:6]
        return np.asarray(scale @ np.array([[a, b], [d, e]]), np.float64)[of_vertex.reshape(-1)]

    def _geometry(self, shapes: RaggedArray, owner: Ints) -> Geometries:
        """Shapely polygons in the CRS; multipolygons for objects of several items."""
        begins = np.flatnonzero(shapes.flat & RING_START)
        y, x = unpack(shapes.flat)
        points = np.column_stack(self.geobox.to_world(x / SUBPIXEL, y / SUBPIXEL))
        ends = np.append(begins[1:], len(points))
        # Rings are stored open; shapely wants the first point again at the end.
        sizes = ends - begins + 1
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        source = np.arange(offsets[-1]) - np.repeat(np.arange(len(sizes)), sizes)
        source[offsets[1:] - 1] = begins
        closed = points[source]
        if (
            self.geobox.transform.determinant > 0
        ):  # rows run north, so that the outlines turn the other way
            mirror = np.repeat(offsets[:-1] + offsets[1:] - 1, sizes) - np.arange(offsets[-1])
            closed = closed[mirror]
        rings_before = np.searchsorted(begins, shapes.offsets)
        polygons = shapely.from_ragged_array(
            shapely.GeometryType.POLYGON, closed, (offsets, rings_before)
        )
        return by_owner(np.asarray(polygons, object), owner)

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
            "area_m2": unknown,
            "perimeter_m": unknown,
            "orientation": unknown,
            "vertices": shapely.get_num_coordinates(geometry) - ring_count,
            "touches_edge": statistics.at_nodata,
        }
        if has_scores:
            values["confidence"] = statistics.score_sum / statistics.pixels / PROBABILITY_MAX
        if self.geobox.crs is not None:
            measures = geodesy.measure(geometry, self.geobox.crs)
            values["area_m2"] = measures.area
            values["perimeter_m"] = measures.perimeter
            values["orientation"] = measures.orientation
        return {name: np.asarray(values[name], dtype) for name, dtype in DTYPES.items()}


def counterclockwise(geometry: Geometries) -> Geometries:
    """Polygons and multipolygons whose exteriors turn counterclockwise.

    What is traced turns so; GEOS gives the faces of drawn walls the other way round.
    """
    parts, owner = shapely.get_parts(geometry, return_index=True)
    wrong = ~shapely.is_ccw(shapely.get_exterior_ring(parts))
    if not wrong.any():
        return geometry
    parts[wrong] = shapely.reverse(parts[wrong])
    return by_owner(parts, owner)
