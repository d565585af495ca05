"""Polygons that a person draws on the page, each edit one transaction in a GeoPackage."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyogrio
import pyproj
import shapely
import shapely.ops
from pyproj.enums import TransformDirection

from geohr._runtime.files import written_whole
from geohr.errors import InputError, UsageError
from geohr.geobox import Bounds
from geohr.geodesy import local_scale, parse_crs
from geohr.outputs.layers import append_layer
from geohr.scene.vectors import LABELLED, LABELS
from geohr.viewer.database import (
    add_text_column,
    columns_of,
    from_blob,
    quote,
    reader,
    to_blob,
    touch,
    transaction,
    widen,
)
from geohr.viewer.objects import ObjectTable

# The layer of outlines of objects that a map misses, in a sample that is checked.
TRACED = "traced"
# The column of what is outlined.
CLASS = "class"
# Layers without it.
UNCLASSED = (LABELLED, TRACED)
# Metres between outlines up to which merging closes the gap: a pixel or two of a fine scene.
GAP_M = 1.0
# An object whose share of this lies under labels is there already, and is not copied.
COVERED = 0.5
EMPTY = np.zeros(0, object)


@dataclass(frozen=True)
class DrawnPolygon:
    """A polygon in degrees, and its columns.

    Attributes:
        identity: The number of the row; None for a new one.
        shape: A polygon or multipolygon, x in degrees east, y in degrees north.
        values: By column, what is written; other columns stay as they are.
    """

    identity: int | None
    shape: shapely.Geometry
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Edit:
    """A change of a layer.

    Attributes:
        put: Rows to write, new or in place of those of the same number.
        drop: Numbers of rows to remove.
    """

    put: list[DrawnPolygon] = field(default_factory=list)
    drop: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class DrawnLayer:
    """A layer of polygons that are drawn; file and layer are made at the first edit.

    Attributes:
        path: The GeoPackage.
        layer: The layer's name.
        crs: The CRS of the layer where it is not there yet.
    """

    path: Path
    layer: str
    crs: str

    def table(self) -> ObjectTable | None:
        """The layer to read; None while it is not there.

        Raises:
            InputError: When the file cannot be read.
        """
        if not self.path.exists() or self.layer not in pyogrio.list_layers(self.path)[:, 0]:
            return None
        return ObjectTable.open(self.path, layer=self.layer)

    def tile(self, bounds: Bounds) -> bytes:
        """Its polygons of one tile; see `ObjectTable.tile`."""
        table = self.table()
        return b"" if table is None else table.tile(bounds)

    def classes(self) -> dict[str, int]:
        """The number of polygons by class."""
        table = self.table()
        return {} if table is None else table.classes()

    def count(self) -> int:
        """The number of polygons."""
        table = self.table()
        if table is None:
            return 0
        return int(pyogrio.read_info(self.path, layer=self.layer)["features"])

    def outline(self, identity: int) -> DrawnPolygon:
        """One polygon.

        Raises:
            InputError: When there is none.
        """
        if self.table() is None:
            raise InputError(f"{self.path}: has no {self.layer} {identity}")
        with closing(reader(self.path)) as file:
            found: DrawnPolygon = self._find(file, self._about(file), identity)
        return found

    def apply(self, edit: Edit) -> tuple[Edit, list[int]]:
        """Write an edit, or nothing of it.

        A new row that is there already, the same in shape and columns, is not put again: a page
        whose server ended before it could answer sends its edit once more.

        Returns:
            The edit that takes it back, and the numbers of the rows that were put.

        Raises:
            InputError: When a row that is replaced or removed is not there.
            UsageError: When a polygon crosses itself.
            OutputError: When the file cannot be written.
        """
        shapes = [self._from_degrees(checked(each.shape)) for each in edit.put]
        if self.table() is None:
            self._make()
        undo, ids = Edit(), []
        with transaction(self.path) as file:
            about = self._about(file)
            if self.layer not in UNCLASSED:
                add_text_column(file, self.layer, CLASS)
            for identity in edit.drop:
                undo.put.append(self._find(file, about, identity))
                file.execute(
                    f"DELETE FROM {quote(self.layer)} WHERE {quote(about.key)} = ?", (identity,)
                )
            for drawing, shape in zip(edit.put, shapes, strict=True):
                before = self._find(file, about, drawing.identity, strict=False)
                ids.append(self._put(file, about, drawing, shape, before))
                if before is None:
                    undo.drop.append(ids[-1])
                else:
                    undo.put.append(before)
            touch(file, self.layer)
        return undo, ids

    def split(self, identity: int, line: shapely.LineString) -> tuple[Edit, list[int]]:
        """Cut a polygon along a line in degrees; see `apply` for the rest.

        Raises:
            UsageError: When the line does not cross it from side to side.
        """
        whole = self.outline(identity)
        parts = [
            part
            for polygon in shapely.get_parts(whole.shape)
            for part in shapely.ops.split(polygon, line).geoms
        ]
        if len(parts) == len(shapely.get_parts(whole.shape)):
            raise UsageError(
                "the line does not cross the outline from side to side; draw it longer"
            )
        parts.sort(key=lambda part: -float(part.area))
        values = whole.values
        rest = [DrawnPolygon(None, part, values) for part in parts[1:]]
        return self.apply(Edit([DrawnPolygon(identity, parts[0], values), *rest]))

    def merge(self, ids: list[int]) -> tuple[Edit, list[int]]:
        """Join polygons to one, which keeps the columns of the first; see `apply` for the rest.

        Gaps of up to `GAP_M` are closed.

        Raises:
            UsageError: When they are fewer than two, or lie farther apart.
        """
        if len(set(ids)) < 2:
            raise UsageError("merging takes at least two outlines; choose more with Shift")
        drawings = [self.outline(each) for each in dict.fromkeys(ids)]
        shapes = [self._from_degrees(each.shape) for each in drawings]
        joined = shapely.union_all(shapes)
        if joined.geom_type != "Polygon":
            scale = local_scale(self.plane.source_crs, *np.array(joined.centroid.coords).T)[0]
            reach = GAP_M / 2 / float(np.sqrt(abs(np.linalg.det(scale))))
            closed = joined.buffer(reach, join_style="mitre").buffer(-reach, join_style="mitre")
            joined = shapely.union_all([*shapes, closed])
        if joined.geom_type != "Polygon":
            raise UsageError(f"the outlines lie more than {GAP_M:g} m apart; merge what touches")
        first, *others = drawings
        kept = DrawnPolygon(first.identity, self._to_degrees(joined), first.values)
        dropped = [each.identity for each in others if each.identity is not None]
        return self.apply(Edit([kept], dropped))

    def copy(self, objects: ObjectTable, ids: list[int]) -> tuple[Edit, list[int]]:
        """Take over objects of a map, except where there is a label; see `apply` for the rest."""
        shapes, names = objects.shapes(ids)
        to_degrees = pyproj.Transformer.from_crs(
            parse_crs(objects.crs), "OGC:CRS84", always_xy=True
        )
        placed = moved(shapes, to_degrees)
        there = self._near(placed)
        new = [
            DrawnPolygon(None, shape, {CLASS: name or None})
            for shape, name in zip(placed, names, strict=True)
            if shape.intersection(there).area < COVERED * shape.area
        ]
        return self.apply(Edit(new))

    def _near(self, placed: npt.NDArray[np.object_]) -> shapely.Geometry:
        """The union of the polygons near shapes in degrees, in degrees."""
        table = self.table()
        if table is None or len(placed) == 0:
            return shapely.Polygon()
        west, south, east, north = shapely.total_bounds(placed)
        box = self.plane.transform_bounds(
            west, south, east, north, direction=TransformDirection.INVERSE
        )
        found = pyogrio.read_dataframe(self.path, layer=self.layer, columns=[], bbox=box)
        valid = shapely.make_valid(moved(found.geometry.to_numpy(), self.plane))
        return shapely.union_all(valid)

    @cached_property
    def plane(self) -> pyproj.Transformer:
        """The transformation from the layer's CRS to degrees."""
        table = self.table()
        crs = self.crs if table is None else table.crs
        return pyproj.Transformer.from_crs(parse_crs(crs), "OGC:CRS84", always_xy=True)

    def _to_degrees(self, shape: shapely.Geometry) -> Any:
        return moved(shape, self.plane)

    def _from_degrees(self, shape: shapely.Geometry) -> Any:
        return moved(shape, self.plane, TransformDirection.INVERSE)

    def _make(self) -> None:
        """Make the layer, and the file with all layers of labels where it is not there."""
        crs = parse_crs(self.crs)
        if self.path.exists():
            append_layer(self.path, self.layer, crs, EMPTY, empty_columns(self.layer))
            return
        with written_whole(self.path) as part:
            for layer in (LABELS, LABELLED) if self.layer != TRACED else (TRACED,):
                append_layer(part, layer, crs, EMPTY, empty_columns(layer))

    def _about(self, file: sqlite3.Connection) -> Table:
        """How the layer is stored."""
        found = file.execute(
            "SELECT column_name, srs_id, geometry_type_name FROM gpkg_geometry_columns "
            "WHERE table_name = ?",
            (self.layer,),
        ).fetchone()
        key = next(
            row["name"] for row in file.execute(f"PRAGMA table_info({quote(self.layer)})")
            if row["pk"]
        )  # fmt: skip
        return Table(key, found[0], found[1], found[2].upper() == "MULTIPOLYGON")

    def _find(
        self, file: sqlite3.Connection, about: Table, identity: int | None, *, strict: bool = True
    ) -> Any:
        """A row as an outline; None where it may be missing and is.

        Raises:
            InputError: When it is missing.
        """
        row = file.execute(
            f"SELECT * FROM {quote(self.layer)} WHERE {quote(about.key)} = ?", (identity,)
        ).fetchone()
        if row is None:
            if strict:
                raise InputError(f"{self.path}: has no {self.layer} {identity}; load the page anew")
            return None
        values = {
            name: value
            for name, value in dict(row).items()
            if name not in (about.key, about.geometry) and not isinstance(value, bytes)
        }
        blob = row[about.geometry]
        shape = shapely.Polygon() if blob is None else self._to_degrees(from_blob(blob))
        return DrawnPolygon(identity, shape, values)

    def _put(
        self,
        file: sqlite3.Connection,
        about: Table,
        drawing: DrawnPolygon,
        shape: Any,
        before: DrawnPolygon | None,
    ) -> int:
        """Write one row, and give its number."""
        if unknown := set(drawing.values) - columns_of(file, self.layer):
            raise UsageError(f"{self.layer} has no column {min(unknown)}")
        if about.multi and shape.geom_type == "Polygon":
            shape = shapely.MultiPolygon([shape])
        row = {**drawing.values, about.geometry: to_blob(shape, about.srs_id)}
        if drawing.identity is not None:
            row[about.key] = drawing.identity
        elif (there := self._same(file, about, row)) is not None:
            return there
        names = ", ".join(quote(name) for name in row)
        marks = ", ".join("?" for _ in row)
        if before is None:
            done = file.execute(
                f"INSERT INTO {quote(self.layer)} ({names}) VALUES ({marks})", list(row.values())
            )
        else:
            changes = ", ".join(f"{quote(name)} = ?" for name in row)
            done = file.execute(
                f"UPDATE {quote(self.layer)} SET {changes} WHERE {quote(about.key)} = ?",
                [*row.values(), drawing.identity],
            )
        widen(file, self.layer, shape)
        return drawing.identity or int(done.lastrowid or 0)

    def _same(self, file: sqlite3.Connection, about: Table, row: dict[str, Any]) -> int | None:
        """The number of a row that holds these values already."""
        test = " AND ".join(f"{quote(name)} IS ?" for name in row)
        found = file.execute(
            f"SELECT {quote(about.key)} FROM {quote(self.layer)} WHERE {test}", list(row.values())
        ).fetchone()
        return None if found is None else int(found[0])


@dataclass(frozen=True)
class Table:
    """How a layer is stored.

    Attributes:
        key: The column of the rows' numbers.
        geometry: The column of the geometries.
        srs_id: The number of its CRS in the file.
        multi: Whether all geometries are multipolygons.
    """

    key: str
    geometry: str
    srs_id: int
    multi: bool


def checked(shape: Any) -> Any:
    """A polygon as it can be kept; holes that leave its outline are cut off.

    Raises:
        UsageError: When it crosses itself, or is no polygon.
    """
    if shape.geom_type not in ("Polygon", "MultiPolygon") or shape.is_empty:
        raise UsageError(f"a {shape.geom_type} is no outline; draw at least three corners")
    if shape.is_valid:
        return shape
    outer = [shapely.Polygon(part.exterior) for part in shapely.get_parts(shape)]
    if not all(each.is_valid for each in outer):
        raise UsageError("the outline crosses itself; draw it again")
    holes = [shapely.Polygon(ring) for part in shapely.get_parts(shape) for ring in part.interiors]
    whole = shapely.union_all(outer)
    rest = whole.difference(shapely.union_all(shapely.make_valid(holes)))
    return checked(rest) if rest.is_valid else whole


def moved(
    shapes: Any,
    change: pyproj.Transformer,
    direction: TransformDirection = TransformDirection.FORWARD,
) -> Any:
    """A geometry or an array of them in another CRS."""
    return shapely.transform(
        shapes,
        lambda points: np.column_stack(
            change.transform(points[:, 0], points[:, 1], direction=direction)
        ),
    )


def empty_columns(layer: str) -> dict[str, Any]:
    """The columns of text of a new layer."""
    return {} if layer in UNCLASSED else {CLASS: EMPTY}
