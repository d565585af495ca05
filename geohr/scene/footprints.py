"""Objects of a vector file, read from north to south in strips that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from pyogrio.raw import write

from geohr.encoding import Bools, Floats, Geometries, Ints
from geohr.scene.features import Box, FeatureRows, open_features

# Objects of a strip, about: enough that reading is not dominated by queries, few enough that two
# dates of a million fit into a quarter of a gigabyte.
STRIP_OBJECTS = 20_000
# Points along each side of a box that is taken into another CRS.
EDGE_POINTS = 21


@dataclass(frozen=True)
class Footprints:
    """Objects in a plane in metres.

    Attributes:
        ids: `(n,)` text: the column `id` or `osm_id` of their file, else the feature's number.
        shapes: `(n,)` valid polygons and multipolygons.
        confidence: `(n,)` in [0, 1]; 1 where the file does not say.
        names: `(n,)` class names; empty where the file does not say.
        repaired: `(n,)` True where the file's polygon was not valid.
    """

    ids: Geometries
    shapes: Geometries
    confidence: Floats
    names: Geometries
    repaired: Bools

    def __len__(self) -> int:
        """The number of objects."""
        return len(self.ids)

    def take(self, index: Any) -> Footprints:
        """Select objects by index or mask."""
        return Footprints(
            self.ids[index],
            self.shapes[index],
            self.confidence[index],
            self.names[index],
            self.repaired[index],
        )

    @classmethod
    def empty(cls) -> Footprints:
        """An empty table."""
        nothing = np.zeros(0, object)
        return cls(nothing, nothing, np.zeros(0), nothing, np.zeros(0, bool))

    @classmethod
    def joined(cls, first: Footprints, second: Footprints) -> Footprints:
        """Concatenate two tables."""
        return cls(
            np.concatenate([first.ids, second.ids]),
            np.concatenate([first.shapes, second.shapes]),
            np.concatenate([first.confidence, second.confidence]),
            np.concatenate([first.names, second.names]),
            np.concatenate([first.repaired, second.repaired]),
        )


class FootprintLayer:
    """A vector file of objects; any format of OGR, or GeoParquet, on disk or remote.

    Args:
        path: The file, or its URL.

    Attributes:
        path: As given.
        crs: The CRS of the file.
        count: The number of features in the file.

    Raises:
        InputError: When the file cannot be read, holds no geometries, or has no CRS.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = open_features(path)
        self.crs = self._file.crs
        self.count = self._file.count

    @cached_property
    def bounds(self) -> Box | None:
        """West, south, east, north in the layer's own CRS; None without objects."""
        bounds = self._file.bounds
        if self.count == 0 or bounds is None or not np.isfinite(bounds).all():
            return None
        west, south, east, north = (float(each) for each in bounds)
        return west, south, east, north

    def bounds_in(self, plane: pyproj.CRS) -> Box | None:
        """The bounds of the layer in another CRS; None without objects."""
        if self.bounds is None:
            return None
        return box_in(self.bounds, self.crs, plane)

    def read(self, box: Box, plane: pyproj.CRS) -> Footprints:
        """The objects whose bounds touch a box (west, south, east, north) of a metric plane.

        Raises:
            InputError: When the file cannot be read.
        """
        return reduce(Footprints.joined, self.pieces(box, plane), Footprints.empty())

    def pieces(self, box: Box, plane: pyproj.CRS) -> Iterator[Footprints]:
        """The same objects as `read`, some at a time, in the order of the file."""
        for found in self._file.read(box_in(box, plane, self.crs)):
            shapes, kept, repaired = self._polygons(found.shapes, plane)
            told = found.confidence[kept]
            confidence = np.where(np.isfinite(told), np.clip(told, 0, 1), 1.0)
            yield Footprints(found.ids[kept], shapes, confidence, found.names[kept], repaired)

    def near(self, box: Box, plane: pyproj.CRS, copy: Path) -> FootprintLayer:
        """A layer of the objects that touch a box, which can be asked for smaller boxes at will.

        That is this layer, where its file has a spatial index and is on disk; else the objects are
        read once, and copied.

        Args:
            box: West, south, east, north in `plane`.
            plane: A metric CRS.
            copy: A .gpkg that is not there, for the copy.

        Raises:
            InputError: When the file cannot be read.
        """
        if self._file.indexed:
            return self
        crs = self.crs.to_wkt()
        for found in (FeatureRows.none(), *self._file.read(box_in(box, plane, self.crs))):
            write(
                copy,
                shapely.to_wkb(found.shapes),
                [found.ids, found.names, found.confidence],
                ["id", "class", "confidence"],
                layer="objects",
                driver="GPKG",
                geometry_type="Unknown",
                crs=crs,
                append=copy.exists(),
            )
        layer = FootprintLayer(str(copy))
        layer.path, layer.crs = self.path, self.crs
        return layer

    def _polygons(self, shapes: Geometries, plane: pyproj.CRS) -> tuple[Geometries, Ints, Bools]:
        """Valid polygons in a plane, which of the shapes they are, and whether repaired."""
        kept = np.flatnonzero(
            np.isin(shapely.get_type_id(shapes), (3, 6)) & ~shapely.is_empty(shapes)
        )
        shapes = shapely.force_2d(shapes[kept])
        bad = ~shapely.is_valid(shapes)
        shapes[bad] = shapely.buffer(shapely.make_valid(shapes[bad]), 0)
        if self.crs != plane:
            to_plane = pyproj.Transformer.from_crs(self.crs, plane, always_xy=True)

            def move(points: Floats) -> Floats:
                return np.column_stack(to_plane.transform(points[:, 0], points[:, 1]))

            shapes = shapely.transform(shapes, move)
        solid = np.flatnonzero(shapely.area(shapes) > 0)
        return shapes[solid], kept[solid], bad[solid]

    def strips(
        self,
        bounds: Box,
        edges: list[float],
        plane: pyproj.CRS,
        area: Any = None,
    ) -> Iterator[Footprints]:
        """The layer's objects from north to south, each in the strip of its northernmost point.

        Args:
            bounds: The ground that is compared; objects that do not touch it are left out.
            edges: Falling y of the strips' borders; the first and last lie beyond all objects.
            plane: A metric CRS.
            area: A geometry of the plane; objects that do not touch it are left out.
        """
        west, south, east, north = bounds
        for top, bottom in pairwise(edges):
            box = (west, max(bottom, south), east, min(top, north))
            if box[1] > box[3]:
                yield Footprints.empty()
                continue
            found = self.read(box, plane)
            place = shapely.bounds(found.shapes)
            # An object that reaches beyond the bounds counts where it enters them.
            highest = np.minimum(place[:, 3], north)
            inside = (place[:, 0] <= east) & (place[:, 2] >= west)
            inside &= (place[:, 1] <= north) & (place[:, 3] >= south)
            mine = inside & (highest < top) & (highest >= bottom)
            if area is not None:
                mine &= shapely.intersects(area, found.shapes)
            yield found.take(mine)


def box_in(box: Box, source: pyproj.CRS, target: pyproj.CRS) -> Box:
    """The bounds in another CRS of a box, west, south, east, north."""
    if source == target:
        return box
    change = pyproj.Transformer.from_crs(source, target, always_xy=True)
    west, south, east, north = change.transform_bounds(*box, densify_pts=EDGE_POINTS)
    return west, south, east, north


def strip_edges(bounds: Box, count: int) -> list[float]:
    """Falling y of the borders between strips of about `STRIP_OBJECTS` objects."""
    _, south, _, north = bounds
    strips = max(1, round(count / STRIP_OBJECTS))
    inner = np.linspace(north, south, strips + 1)[1:-1]
    return [np.inf, *inner.tolist(), -np.inf]
