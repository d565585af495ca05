"""The result: geometries beside the columns that describe them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import shapely

from geohr.encoding import Geometries, Ints
from geohr.polygons.antimeridian import transform_polygons

if TYPE_CHECKING:
    import geopandas


# Square centimetres in a square metre.
CM2 = 1e4
# The columns, in order, and their types; `class` holds str.
DTYPES: dict[str, str] = {
    "class": "object",
    "class_id": "int32",
    "confidence": "float32",
    "area_m2": "float64",
    "perimeter_m": "float64",
    "orientation": "float32",
    "vertices": "int32",
    "touches_edge": "bool",
}


@dataclass(frozen=True)
class Polygons:
    """The polygons of objects and their attributes, one row per object.

    Columns: class, class_id, confidence (mean over the object's pixels of its class's probability,
    0 to 1; NaN where no probabilities were given), area_m2 and perimeter_m (true ground metres; NaN
    without a CRS), orientation (direction of the longest walls, degrees clockwise from north with
    right angles taken as one, [0, 90); NaN without a CRS), vertices (corners of all rings),
    touches_edge (whether the object goes on beyond the scene's edge or into a place without data).
    """

    geometry: Geometries
    """`(n,)` shapely Polygon or MultiPolygon, exteriors counterclockwise."""
    columns: dict[str, npt.NDArray[Any]]
    """`(n,)` each, named and typed as in `DTYPES`."""

    @classmethod
    def none(cls) -> Polygons:
        """An empty table with all columns."""
        return cls(
            np.zeros(0, object), {name: np.zeros(0, dtype) for name, dtype in DTYPES.items()}
        )

    def __len__(self) -> int:
        """The number of objects."""
        return len(self.geometry)

    def take(self, rows: npt.NDArray[np.int64]) -> Polygons:
        """The given rows, in the given order."""
        return Polygons(
            self.geometry[rows], {name: values[rows] for name, values in self.columns.items()}
        )

    def to_geodataframe(self, crs: Any = None) -> geopandas.GeoDataFrame:
        """Convert to a GeoDataFrame in the given CRS."""
        # It loads pandas, which takes longer than a small scene does.
        import geopandas

        return geopandas.GeoDataFrame(dict(self.columns), geometry=self.geometry, crs=crs)


@dataclass
class Totals:
    """The number of objects and their area, by class.

    Attributes:
        objects: By class.
        areas: Square centimetres by class: whole numbers, whose sum is the same in any order.
        measured: Whether areas are known; not without a CRS.
    """

    objects: Counter[str] = field(default_factory=Counter)
    areas: Counter[str] = field(default_factory=Counter)
    measured: bool = True

    def add(self, polygons: Polygons) -> None:
        """Count polygons too."""
        names, which = np.unique(polygons.columns["class"].astype(str), return_inverse=True)
        areas = np.rint(polygons.columns["area_m2"] * CM2)
        self.measured = self.measured and not np.isnan(areas).any()
        sums = np.bincount(which, np.nan_to_num(areas), len(names))
        for name, count, area in zip(names, np.bincount(which), sums, strict=True):
            self.objects[str(name)] += int(count)
            self.areas[str(name)] += int(area)

    @property
    def area_m2(self) -> float | None:
        """The area in all, to a tenth of a square metre; None without a CRS."""
        return self._tenths(self.areas.total())

    def by_class(self) -> dict[str, dict[str, float | None]]:
        """`objects` and `area_m2` of each class that was found."""
        return {
            name: {"objects": count, "area_m2": self._tenths(self.areas[name])}
            for name, count in sorted(self.objects.items())
        }

    def _tenths(self, area: int) -> float | None:
        """An area in square metres, rounded to a tenth; None where it is not known."""
        return round(area / CM2, 1) if self.measured else None


def concatenate(parts: list[Polygons]) -> Polygons:
    """Concatenate tables in order."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Polygons.none()
    return Polygons(
        np.concatenate([part.geometry for part in parts]),
        {name: np.concatenate([part.columns[name] for part in parts]) for name in DTYPES},
    )


def by_owner(polygons: Geometries, owner: Ints) -> Geometries:
    """One geometry per owner: a multipolygon if it has several polygons, None if it has none."""
    there = ~shapely.is_missing(polygons)
    geometry = np.full(owner[-1] + 1, None, object)
    polygons, owner = polygons[there], owner[there]
    geometry[owner] = polygons
    several = np.flatnonzero(np.bincount(owner) > 1)
    if len(several) == 0:
        return geometry
    inside = np.isin(owner, several)
    geometry[several] = shapely.multipolygons(
        polygons[inside], indices=np.searchsorted(several, owner[inside])
    )
    return geometry


def reprojected(polygons: Polygons, crs: Any, target: Any) -> Polygons:
    """Reproject polygons; their areas and lengths on the ground stay as they are.

    In longitude and latitude they are cut at the antimeridian; without a CRS or a target they stay.
    """
    if crs is None or target is None or crs == target or len(polygons) == 0:
        return polygons
    return Polygons(transform_polygons(polygons.geometry, crs, target), polygons.columns)


def to_arrays(polygons: Polygons) -> dict[str, npt.NDArray[Any]]:
    """Polygons as named arrays of numbers and text."""
    columns = dict(polygons.columns)
    columns["class"] = columns["class"].astype(np.str_)
    return {**wkb_arrays(polygons.geometry, "wkb"), **columns}


def from_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> Polygons:
    """The polygons that `to_arrays` was given."""
    geometry = from_wkb_arrays(arrays, "wkb")
    return Polygons(geometry, {name: arrays[name].astype(kind) for name, kind in DTYPES.items()})


def wkb_arrays(geometry: Geometries, name: str) -> dict[str, npt.NDArray[Any]]:
    """Geometries, none of them missing, as two arrays of this name and of one with `_sizes`."""
    written = [bytes(each) for each in shapely.to_wkb(geometry)]
    return {
        name: np.frombuffer(b"".join(written), np.uint8),
        f"{name}_sizes": np.array([len(each) for each in written], np.int64),
    }


def from_wkb_arrays(arrays: Mapping[str, npt.NDArray[Any]], name: str) -> Geometries:
    """The geometries that `wkb_arrays` was given."""
    written = arrays[name].tobytes()
    stops = np.cumsum(arrays[f"{name}_sizes"]).tolist()
    pieces = [written[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]
    return np.asarray(shapely.from_wkb(np.array(pieces, object)), object)
