"""Objects of a vector file, read from north to south in strips that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyogrio.errors
import pyproj
import shapely

from geohr.encoding import Floats, Geometries, Ints
from geohr.errors import InputError
from geohr.geodesy import parse_crs
from geohr.scene.vectors import first_layer, read_parquet

# Objects of a strip, about: enough that reading is not dominated by queries, few enough that two
# dates of a million fit into a quarter of a gigabyte.
STRIP_OBJECTS = 20_000
PARQUET = ".parquet"
# Points along each side of a box that is taken into another CRS.
EDGE_POINTS = 21


@dataclass(frozen=True)
class Footprints:
    """Objects in a plane in metres.

    Attributes:
        ids: `(n,)` feature ids in their file.
        shapes: `(n,)` valid polygons and multipolygons.
        confidence: `(n,)` in [0, 1]; 1 where the file does not say.
        names: `(n,)` class names; empty where the file does not say.
    """

    ids: Ints
    shapes: Geometries
    confidence: Floats
    names: Geometries

    def __len__(self) -> int:
        """The number of objects."""
        return len(self.ids)

    def take(self, index: Any) -> Footprints:
        """Select objects by index or mask."""
        return Footprints(
            self.ids[index], self.shapes[index], self.confidence[index], self.names[index]
        )

    @classmethod
    def empty(cls) -> Footprints:
        """An empty table."""
        nothing = np.zeros(0, object)
        return cls(np.zeros(0, np.int64), nothing, np.zeros(0), nothing)

    @classmethod
    def joined(cls, first: Footprints, second: Footprints) -> Footprints:
        """Concatenate two tables."""
        return cls(
            np.concatenate([first.ids, second.ids]),
            np.concatenate([first.shapes, second.shapes]),
            np.concatenate([first.confidence, second.confidence]),
            np.concatenate([first.names, second.names]),
        )


class FootprintLayer:
    """A vector file of objects; any format of OGR, or GeoParquet, on disk or remote.

    Args:
        path: The file, or its URL.

    Attributes:
        repaired: The number of invalid polygons that were repaired so far.

    Raises:
        InputError: When the file cannot be read, holds no polygons, or has no CRS.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.repaired = 0
        if Path(path).suffix.lower() == PARQUET:
            self._table: Any = read_parquet(path).reset_index(drop=True)
            crs, bounds = self._table.crs, self._table.total_bounds
            self.count = len(self._table)
        else:
            self._table = None
            try:
                self._layer = first_layer(path)
                info = pyogrio.read_info(
                    path, layer=self._layer, force_feature_count=True, force_total_bounds=True
                )
            except pyogrio.errors.DataSourceError as error:
                raise InputError(f"{path}: not vectors that can be read ({error})") from error
            crs, bounds, self.count = info["crs"], info["total_bounds"], info["features"]
            self._fields = set(info["fields"])
        if crs is None:
            raise InputError(f"{path}: has no CRS, so its place is unknown; assign one first")
        self.crs = parse_crs(crs if isinstance(crs, str) else crs.to_wkt())
        self._bounds = bounds

    @cached_property
    def bounds(self) -> tuple[float, float, float, float] | None:
        """West, south, east, north in the layer's own CRS; None without objects."""
        if self.count == 0 or self._bounds is None or not np.isfinite(self._bounds).all():
            return None
        west, south, east, north = (float(each) for each in self._bounds)
        return west, south, east, north

    def bounds_in(self, plane: pyproj.CRS) -> tuple[float, float, float, float] | None:
        """The bounds of the layer in another CRS; None without objects."""
        if self.bounds is None:
            return None
        return box_in(self.bounds, self.crs, plane)

    def read(self, box: tuple[float, float, float, float], plane: pyproj.CRS) -> Footprints:
        """The objects whose bounds touch a box of a plane.

        Args:
            box: West, south, east, north in `plane`.
            plane: A metric CRS.

        Raises:
            InputError: When the file cannot be read.
        """
        reach = box_in(box, plane, self.crs)
        if self._table is not None:
            rows = np.sort(self._table.sindex.query(shapely.box(*reach)))
            found = self._table.iloc[rows]
            ids = rows.astype(np.int64)
        else:
            wanted = [name for name in ("confidence", "class") if name in self._fields]
            try:
                found = pyogrio.read_dataframe(
                    self.path, layer=self._layer, columns=wanted, bbox=reach, fid_as_index=True
                )
            except pyogrio.errors.DataSourceError as error:
                raise InputError(f"{self.path}: cannot be read ({error})") from error
            ids = found.index.to_numpy(np.int64)
        shapes = np.asarray(found.geometry.to_numpy(), object)
        confidence = np.ones(len(found))
        if "confidence" in found.columns:
            numbers = np.asarray(found["confidence"].to_numpy(), np.float64)
            confidence = np.where(np.isfinite(numbers), np.clip(numbers, 0, 1), 1.0)
        names = np.full(len(found), "", object)
        if "class" in found.columns:
            names = found["class"].fillna("").astype(str).to_numpy(object)
        shapes, kept = self._polygons(shapes, plane)
        return Footprints(ids[kept], shapes, confidence[kept], names[kept])

    def _polygons(self, shapes: Geometries, plane: pyproj.CRS) -> tuple[Geometries, Ints]:
        """Valid polygons in a plane, and which of the shapes they are."""
        kept = np.flatnonzero(
            np.isin(shapely.get_type_id(shapes), (3, 6)) & ~shapely.is_empty(shapes)
        )
        shapes = shapely.force_2d(shapes[kept])
        bad = np.flatnonzero(~shapely.is_valid(shapes))
        if len(bad):
            self.repaired += len(bad)
            shapes[bad] = shapely.buffer(shapely.make_valid(shapes[bad]), 0)
        if self.crs != plane:
            to_plane = pyproj.Transformer.from_crs(self.crs, plane, always_xy=True)

            def move(points: Floats) -> Floats:
                return np.column_stack(to_plane.transform(points[:, 0], points[:, 1]))

            shapes = shapely.transform(shapes, move)
        solid = np.flatnonzero(shapely.area(shapes) > 0)
        return shapes[solid], kept[solid]

    def strips(
        self,
        bounds: tuple[float, float, float, float],
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
            # The order of the file's index is not the same in every version of GDAL.
            order = np.flatnonzero(mine)
            yield found.take(order[np.argsort(found.ids[order], kind="stable")])


def box_in(
    box: tuple[float, float, float, float], source: pyproj.CRS, target: pyproj.CRS
) -> tuple[float, float, float, float]:
    """The bounds in another CRS of a box, west, south, east, north."""
    if source == target:
        return box
    change = pyproj.Transformer.from_crs(source, target, always_xy=True)
    west, south, east, north = change.transform_bounds(*box, densify_pts=EDGE_POINTS)
    return west, south, east, north


def strip_edges(bounds: tuple[float, float, float, float], count: int) -> list[float]:
    """Falling y of the borders between strips of about `STRIP_OBJECTS` objects."""
    _, south, _, north = bounds
    strips = max(1, round(count / STRIP_OBJECTS))
    inner = np.linspace(north, south, strips + 1)[1:-1]
    return [np.inf, *inner.tolist(), -np.inf]
