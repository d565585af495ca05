"""What every vector writer is told, and the table it is to write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import shapely

from geohr.encoding import Geometries
from geohr.polygons.table import Polygons

# Lower bound of each confidence class and its colour, all readable on white and on imagery.
CONFIDENCE_COLOURS = (
    (0.5, "#d7191c"),
    (0.6, "#f07b23"),
    (0.7, "#e3b505"),
    (0.8, "#7cb342"),
    (0.9, "#1a7f37"),
)
# The colour of a class that has none.
FALLBACK_COLOUR = "#e66101"
# The colour of an object without confidence.
UNKNOWN_COLOUR = "#969696"
# GDAL before 3.7, as in Debian 12, warns of GeoPackages of version 1.4.
GPKG_OPTIONS = {"VERSION": "1.3"}


@dataclass(frozen=True)
class LayerInfo:
    """A layer, whatever the format."""

    name: str
    crs: Any
    multi: bool
    """Whether all geometries are written as multipolygons."""
    constants: dict[str, str | None]
    """Text columns with one value for all rows, None where it is not known."""
    colours: dict[str, str]
    """The colour of each class name, as "#rrggbb"."""
    provenance: dict[str, str]

    @property
    def geometry_type(self) -> str:
        """The layer's one geometry type."""
        return "MultiPolygon" if self.multi else "Polygon"

    def shaped(self, geometry: Geometries) -> Geometries:
        """The geometries, all of the layer's type."""
        if not self.multi:
            return geometry
        single = shapely.get_type_id(geometry) == shapely.GeometryType.POLYGON
        several = geometry.copy()
        places = np.flatnonzero(single)
        several[places] = shapely.multipolygons(geometry[places], indices=np.arange(len(places)))
        return several

    def columns(self, polygons: Polygons) -> dict[str, npt.NDArray[Any]]:
        """The polygons' columns, then the constants."""
        filled = {
            name: np.full(len(polygons), value, object) for name, value in self.constants.items()
        }
        return {**polygons.columns, **filled}


class FormatWriter(Protocol):
    """Appends batches to a file; the context that made it finishes the file."""

    def write(self, polygons: Polygons) -> None:
        """Append; with no rows, at least the empty layer must be there afterwards."""


def append_layer(
    path: Path, layer: str, crs: Any, shapes: Geometries, columns: dict[str, npt.NDArray[Any]]
) -> None:
    """Append rows to a layer of a GeoPackage; file and layer are made where they are missing.

    Shapes `(n,)` are points, or polygons and multipolygons, all of which become multipolygons;
    columns hold `(n,)` values by name.
    """
    from pyogrio.raw import write

    kinds = shapely.get_type_id(shapes)
    points = len(shapes) > 0 and kinds[0] == shapely.GeometryType.POINT
    if not points:
        single = np.flatnonzero(kinds == shapely.GeometryType.POLYGON)
        shapes = shapes.copy()
        shapes[single] = shapely.multipolygons(shapes[single], indices=np.arange(len(single)))
    write(
        path,
        shapely.to_wkb(shapes),
        list(columns.values()),
        np.array(list(columns), object),
        layer=layer,
        driver="GPKG",
        geometry_type="Point" if points else "MultiPolygon",
        crs=crs.to_wkt(),
        encoding="UTF-8",
        append=path.exists(),
        dataset_options=None if path.exists() else GPKG_OPTIONS,
    )
