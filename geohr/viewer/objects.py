"""Objects of a GeoPackage for a page: a list of all, tiles of some, the attributes of one."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyogrio
import pyproj
import shapely
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError
from pyogrio.raw import read
from pyproj.enums import TransformDirection

from geohr.errors import InputError, UsageError
from geohr.geobox import Bounds
from geohr.geodesy import parse_crs
from geohr.scene.vectors import first_layer
from geohr.viewer.database import quote, reader
from geohr.viewer.mvt import BUFFER, EXTENT, Features, encode_tile

# Name of the layer in the tiles.
LAYER = "objects"
# The layer that a comparison of two dates writes, and its column that says what happened.
CHANGES = "changes"
CHANGE = "change"
# The column that a person's decisions are kept in.
REVIEW = "review"
DECISIONS = ("accepted", "rejected")
# Decimals of a confidence on the page.
DIGITS = 3
# Decimals of a longitude on the page: a centimetre.
DEGREES_DIGITS = 7
# The largest number that SQLite gives a row.
NUMBER_MAX = 2**63 - 1


@dataclass(frozen=True)
class ObjectTable:
    """The layer of objects in a GeoPackage.

    Attributes:
        path: The file.
        layer: The layer's name.
        crs: The CRS of the layer, as text.
        identity: Name of the column that numbers its rows.
    """

    path: Path
    layer: str
    crs: str
    identity: str

    @classmethod
    def open(cls, path: Path, *, layer: str | None = None, prefer: str = CHANGES) -> ObjectTable:
        """Describe a layer of a GeoPackage.

        Args:
            path: The file.
            layer: By default `prefer`, where the file has it, else the first with geometries.
            prefer: A layer's name.

        Raises:
            UsageError: For another format.
            InputError: When it is missing, no GeoPackage, or has no CRS.
        """
        if path.suffix.lower() != ".gpkg":
            raise UsageError(
                f"{path}: a page shows a GeoPackage (.gpkg), in which work can be kept; "
                "convert with ogr2ogr, or segment with --out FILE.gpkg"
            )
        if not path.exists():
            raise InputError(f"{path}: no such file; check the path")
        try:
            layer = layer or first_layer(path, prefer=prefer)
            about = pyogrio.read_info(path, layer=layer)
        except (DataSourceError, DataLayerError) as error:
            raise InputError(f"{path}: not a GeoPackage that can be read ({error})") from error
        if about["crs"] is None:
            raise InputError(f"{path}: its objects have no CRS, so they cannot be placed on a map")
        return cls(path, layer, str(about["crs"]), str(about["fid_column"]))

    @cached_property
    def to_web(self) -> pyproj.Transformer:
        """The transformation from the layer's CRS to web Mercator."""
        return pyproj.Transformer.from_crs(parse_crs(self.crs), "EPSG:3857", always_xy=True)

    def index(self) -> dict[str, list[Any]]:
        """The number, confidence, review and place of every object, for the page.

        Returns:
            By name a list, all equally long: `id`, `confidence`, `review`, and the box `west`,
            `south`, `east`, `north` in degrees; None for what an object does not have.

        Raises:
            InputError: When the file cannot be read.
        """
        ids, _, values = self._read(("confidence", REVIEW), None, geometry=False)
        # A box for each object, in the order of their numbers.
        boxes = pyogrio.read_bounds(self.path, layer=self.layer)[1]
        to_degrees = pyproj.Transformer.from_crs(parse_crs(self.crs), "OGC:CRS84", always_xy=True)
        west, south, east, north = degrees(to_degrees, boxes.T)
        unknown = np.full(len(ids), np.nan)
        reviews = values.get(REVIEW, unknown).tolist()
        return {
            "id": ids.tolist(),
            "confidence": plain(numbers(values.get("confidence", unknown)).round(DIGITS)),
            "review": [each if each in DECISIONS else None for each in reviews],
            "west": plain(west),
            "south": plain(south),
            "east": plain(east),
            "north": plain(north),
        }

    def tile(self, bounds: Bounds) -> bytes:
        """The objects of a tile (left, bottom, right, top in web Mercator) as a vector tile.

        Raises:
            InputError: When the file cannot be read.
        """
        left, bottom, right, top = bounds
        margin = (right - left) * BUFFER / EXTENT
        wide = (left - margin, bottom - margin, right + margin, top + margin)
        box = self.to_web.transform_bounds(*wide, direction=TransformDirection.INVERSE)
        if not np.isfinite(box).all():
            return b""
        ids, shapes, values = self._read(("confidence", self.kind), box)
        if len(ids) == 0:
            return b""
        known = {}
        if "confidence" in values:
            confidence = numbers(values["confidence"]).round(DIGITS)
            known["confidence"] = np.where(np.isfinite(confidence), confidence, 0.0)
        if self.kind in values:
            known["class"] = np.array([str(each or "") for each in values[self.kind]], object)
        return encode_tile(Features(self._on_web(shapes), ids, known), bounds, layer=LAYER)

    def attributes(self, identity: int) -> dict[str, Any]:
        """The columns of one object.

        Raises:
            InputError: When there is no such object.
        """
        with closing(reader(self.path)) as file:
            names = ", ".join(quote(name) for name in (self.identity, *self.columns()))
            found = file.execute(
                f"SELECT {names} FROM {quote(self.layer)} WHERE {quote(self.identity)} = ?",
                (identity,),
            ).fetchone()
        if found is None:
            raise InputError(f"no object {identity}")
        # JSON has no number for what is infinite, and no bytes.
        return {
            name: value if isinstance(value, int | str) or is_finite(value) else str(value)
            for name, value in dict(found).items()
        }

    def columns(self) -> tuple[str, ...]:
        """The names of its attributes, as they are now: a review may add one."""
        return tuple(str(name) for name in pyogrio.read_info(self.path, layer=self.layer)["fields"])

    @property
    def kind(self) -> str:
        """The column that colours tell apart: the class of objects, or how they changed."""
        return CHANGE if self.layer == CHANGES else "class"

    def classes(self) -> dict[str, int]:
        """How many objects there are of each class, or kind of change, by its name.

        Raises:
            InputError: When the file cannot be read.
        """
        if self.kind not in self.columns():
            return {}
        name = quote(self.kind)
        with closing(reader(self.path)) as file:
            found = file.execute(
                f"SELECT {name}, count(*) FROM {quote(self.layer)} GROUP BY 1 ORDER BY 1"
            ).fetchall()
        return {str(each): count for each, count in found if each}

    def shapes(self, ids: list[int]) -> tuple[npt.NDArray[np.object_], list[str]]:
        """The shapes, in the layer's CRS, and class names of some objects.

        Raises:
            InputError: When the file cannot be read, or lacks one of them.
        """
        wanted = [name for name in ("class",) if name in self.columns()]
        try:
            _, _, shapes, columns = read(self.path, layer=self.layer, columns=wanted, fids=ids)
        except (DataSourceError, FeatureError) as error:
            raise InputError(f"{self.path}: cannot be read ({error})") from error
        names = [str(each or "") for each in columns[0]] if columns else [""] * len(ids)
        return np.asarray(shapely.from_wkb(shapes), object), names

    def geojson(self) -> dict[str, Any]:
        """All objects as GeoJSON in longitude and latitude, with all attributes.

        Raises:
            InputError: When the file cannot be read.
        """
        ids, shapes, values = self._read(self.columns(), None)
        to_degrees = pyproj.Transformer.from_crs(parse_crs(self.crs), "OGC:CRS84", always_xy=True)
        moved = shapely.transform(
            shapes,
            lambda points: np.column_stack(to_degrees.transform(*points.T)).round(DEGREES_DIGITS),
        )
        columns = {
            name: plain(column.astype(float).round(DIGITS) if column.dtype.kind == "f" else column)
            for name, column in values.items()
        }
        return {
            "type": "FeatureCollection",
            "features": [
                {
                    "type": "Feature",
                    "id": int(identity),
                    "properties": {name: column[row] for name, column in columns.items()},
                    "geometry": shape.__geo_interface__,
                }
                for row, (identity, shape) in enumerate(zip(ids, moved, strict=True))
            ],
        }

    def _read(
        self, names: tuple[str, ...], box: Bounds | None, *, geometry: bool = True
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.object_], dict[str, npt.NDArray[Any]]]:
        """Numbers, shapes and columns of the objects whose boxes touch `box`, or of all.

        Raises:
            InputError: When the file cannot be read.
        """
        wanted = [name for name in names if name in self.columns()]
        try:
            about, ids, shapes, columns = read(
                self.path, layer=self.layer, columns=wanted, bbox=box, return_fids=True,
                read_geometry=geometry,
            )  # fmt: skip
        except DataSourceError as error:
            raise InputError(f"{self.path}: cannot be read ({error})") from error
        values = dict(zip(about["fields"].tolist(), columns, strict=True))
        return np.asarray(ids, np.int64), np.asarray(shapely.from_wkb(shapes), object), values

    def _on_web(self, shapes: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
        """The shapes in web Mercator."""
        if parse_crs(self.crs).to_epsg() == 3857:
            return shapes
        return np.asarray(
            shapely.transform(
                shapes, lambda points: np.column_stack(self.to_web.transform(*points.T))
            ),
            object,
        )


def degrees(
    to_degrees: pyproj.Transformer, boxes: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """West, south, east and north `(4, n)` of boxes `(n, 4)`; NaN for those of empty shapes."""
    lon, lat = to_degrees.transform(boxes[:, [0, 0, 2, 2]].ravel(), boxes[:, [1, 3, 1, 3]].ravel())
    corners = np.stack([lon, lat]).reshape(2, -1, 4).round(DEGREES_DIGITS)
    return np.concatenate([corners.min(axis=2), corners.max(axis=2)])


def numbers(column: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """A column as numbers; NaN for what is none, such as text."""
    return np.asarray(pd.to_numeric(pd.Series(column), errors="coerce"), np.float64)


def plain(column: npt.NDArray[Any]) -> list[Any]:
    """A column as JSON knows it: None for NaN and for what is infinite."""
    if column.dtype.kind == "f":
        return [value if is_finite(value) else None for value in column.tolist()]
    return [
        value if isinstance(value, str | int | bool) or is_finite(value) else str(value)
        for value in column.tolist()
    ]


def is_finite(value: object) -> bool:
    """Whether a value is nothing, or a number that JSON can write."""
    return value is None or (isinstance(value, float) and math.isfinite(value))
