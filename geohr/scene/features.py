"""Features of a vector file inside a box: any format of OGR, or GeoParquet, on disk or remote.

Of a remote file only the parts that the box needs are asked for: GDAL follows the spatial index of
FlatGeobuf and GeoPackage, and of GeoParquet only row groups are read whose bounds touch the box.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyogrio
import pyogrio.errors
import pyproj
import shapely
from pandas import to_numeric
from pyogrio import raw

from geohr._runtime.redact import redact
from geohr._runtime.stores import gdal_options, open_store
from geohr.encoding import Floats, Geometries, Ints
from geohr.errors import InputError
from geohr.geodesy import parse_crs
from geohr.scene.files import is_remote
from geohr.scene.vectors import PARQUET, first_layer, read_parquet, suffix_of

Box = tuple[float, float, float, float]
# Features that are read at a time.
PIECE = 50_000
# Columns that name a feature, the first that a file has; Overture's and OpenStreetMap's.
ID_COLUMNS = ("id", "osm_id")
COLUMNS = (*ID_COLUMNS, "class", "confidence")
# Formats whose spatial index makes it cheap to ask for one small box after the other.
INDEXED = (".gpkg", ".fgb")
# The CRS of GeoParquet that names none.
DEFAULT_CRS = "OGC:CRS84"


@dataclass(frozen=True)
class FeatureRows:
    """Some features of a file, in its own CRS.

    Attributes:
        ids: `(n,)` text: the column `id` or `osm_id`, else the number of the feature in the file.
        shapes: `(n,)` geometries of any kind; None where there is none.
        names: `(n,)` the column `class`; empty where there is none.
        confidence: `(n,)` the column of that name; nan where there is none.
    """

    ids: Geometries
    shapes: Geometries
    names: Geometries
    confidence: Floats

    @classmethod
    def none(cls) -> FeatureRows:
        """No features."""
        nothing = np.zeros(0, object)
        return cls(nothing, nothing, nothing, np.zeros(0))


class OgrFile:
    """A vector file of any format that OGR reads.

    Args:
        path: The file, or its URL.

    Attributes:
        crs: Its CRS.
        bounds: West, south, east, north; numbers that are not finite without features.
        count: The number of features.
        indexed: Whether small boxes are cheap to ask for.

    Raises:
        InputError: When it cannot be read, holds no geometries, or has no CRS.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        if is_remote(path):
            pyogrio.set_gdal_config_options(gdal_options(os.environ))
        try:
            self._layer = first_layer(path)
            info = pyogrio.read_info(
                path, layer=self._layer, force_feature_count=True, force_total_bounds=True
            )
        except pyogrio.errors.DataSourceError as error:
            raise self._unreadable(error) from error
        if info["crs"] is None:
            raise without_crs(path)
        self.crs = parse_crs(info["crs"])
        self.count = int(info["features"])
        self.bounds: Box | None = None if info["total_bounds"] is None else info["total_bounds"]
        self.indexed = suffix_of(path) in INDEXED and not is_remote(path)
        self._columns = [name for name in COLUMNS if name in set(info["fields"])]

    def read(self, box: Box) -> Iterator[FeatureRows]:
        """The features whose bounds touch a box, in the order of the file's numbers.

        Raises:
            InputError: When the file cannot be read.
        """
        start, found = 0, PIECE
        while found == PIECE:
            try:
                about, numbers, wkb, values = raw.read(
                    self.path,
                    layer=self._layer,
                    columns=self._columns,
                    bbox=box,
                    return_fids=True,
                    skip_features=start,
                    max_features=PIECE,
                )
            except pyogrio.errors.DataSourceError as error:
                raise self._unreadable(error) from error
            found = len(numbers)
            start += found
            # The order of a file's index is not the same in every version of GDAL.
            order = np.argsort(numbers, kind="stable")
            columns = dict(zip(about["fields"].tolist(), values, strict=True))
            yield features_of(
                numbers[order],
                np.asarray(shapely.from_wkb(wkb[order]), object),
                {name: value[order] for name, value in columns.items()},
            )

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(f"{redact(self.path)}: not vectors that can be read ({error})")


class ParquetFile:
    """A GeoParquet file; attributes and errors are those of `OgrFile`."""

    indexed = False

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            from pyarrow import ArrowException, parquet
        except ImportError as error:
            raise InputError(
                f"{path}: GeoParquet needs pyarrow; pip install 'geohr[parquet]'"
            ) from error
        self._failures = (ArrowException, OSError, ValueError, KeyError)
        try:
            self._file = parquet.ParquetFile(RemoteFile(path) if is_remote(path) else path)
            described = json.loads((self._file.metadata.metadata or {})[b"geo"])
            self._geometry = described["primary_column"]
            self._about = described["columns"][self._geometry]
            self._groups = self._bounds_of_groups()
        except self._failures as error:
            raise InputError(
                f"{redact(path)}: not GeoParquet that can be read ({error})"
            ) from error
        crs = self._about.get("crs", DEFAULT_CRS)
        if crs is None:
            raise without_crs(path)
        self.crs = pyproj.CRS.from_json_dict(crs) if isinstance(crs, dict) else parse_crs(crs)
        self.count = int(self._file.metadata.num_rows)
        names = set(self._file.schema_arrow.names)
        self._columns = [name for name in COLUMNS if name in names]

    @property
    def bounds(self) -> Box | None:
        """West, south, east, north; as told by the file, else by its geometries."""
        if self.count == 0:
            return None
        if told := self._about.get("bbox"):
            half = len(told) // 2
            return (*map(float, told[:2]), *map(float, told[half : half + 2]))  # type: ignore[return-value]
        if self._groups is not None:
            west, south = self._groups[:, :2].min(axis=0)
            east, north = self._groups[:, 2:].max(axis=0)
            return float(west), float(south), float(east), float(north)
        everywhere = (-np.inf, -np.inf, np.inf, np.inf)
        boxes = np.array([shapely.total_bounds(each.shapes) for each in self.read(everywhere)])
        west, south = np.nanmin(boxes[:, :2], axis=0)
        east, north = np.nanmax(boxes[:, 2:], axis=0)
        return float(west), float(south), float(east), float(north)

    def read(self, box: Box) -> Iterator[FeatureRows]:
        """The features whose bounds touch a box, in the order of the file.

        Raises:
            InputError: When the file cannot be read.
        """
        if self._about["encoding"] != "WKB":  # the other encodings are rare, and read whole
            table = read_parquet(self.path)
            yield from self._inside(np.asarray(table.geometry, object), table, 0, box)
            return
        start = 0
        for group in range(self._file.num_row_groups):
            rows = self._file.metadata.row_group(group).num_rows
            if self._groups is None or overlaps(self._groups[group], box):
                yield from self._read_group(group, start, box)
            start += rows

    def _read_group(self, group: int, start: int, box: Box) -> Iterator[FeatureRows]:
        columns = [self._geometry, *self._columns]
        try:
            for batch in self._file.iter_batches(PIECE, row_groups=[group], columns=columns):
                table = batch.to_pandas()
                shapes = np.asarray(shapely.from_wkb(table[self._geometry].to_numpy()), object)
                yield from self._inside(shapes, table, start, box)
                start += len(table)
        except self._failures as error:
            raise InputError(f"{redact(self.path)}: cannot be read ({error})") from error

    def _inside(
        self, shapes: Geometries, table: Any, start: int, box: Box
    ) -> Iterator[FeatureRows]:
        """Those of some rows that touch a box."""
        inside = touching(shapes, box)
        columns = {name: table[name].to_numpy()[inside] for name in self._columns}
        yield features_of(np.flatnonzero(inside) + start, shapes[inside], columns)

    def _bounds_of_groups(self) -> Any:
        """`(group, 4)` bounds by the statistics of the covering column; None without it."""
        metadata = self._file.metadata
        covering = self._about.get("covering", {}).get("bbox")
        if covering is None and "bbox" in self._file.schema_arrow.names:
            covering = {side: ["bbox", side] for side in ("xmin", "ymin", "xmax", "ymax")}
        if covering is None or metadata.num_row_groups == 0:
            return None
        first = metadata.row_group(0)
        place = {first.column(index).path_in_schema: index for index in range(first.num_columns)}
        made = np.full((metadata.num_row_groups, 4), np.nan)
        for number, side in enumerate(("xmin", "ymin", "xmax", "ymax")):
            column = place.get(".".join(covering[side]))
            for group in range(metadata.num_row_groups if column is not None else 0):
                told = metadata.row_group(group).column(column).statistics
                if told is not None and told.has_min_max:
                    made[group, number] = told.min if number < 2 else told.max
        return made if np.isfinite(made).all() else None


class RemoteFile(io.RawIOBase):
    """A file at a URL, of which only what is asked for is read.

    Args:
        address: http(s), or the URL of an object in a store.

    Raises:
        UsageError: When obstore is not installed.
        OSError: When the server does not have it, or does not answer.
    """

    def __init__(self, address: str) -> None:
        super().__init__()
        self._store, self._key = open_store(address)
        try:
            self._size = int(self._store.head(self._key)["size"])
        except Exception as error:  # the library raises its own kinds, all of which mean the same
            raise OSError(" ".join(str(error).partition("Debug source")[0].split())) from error
        self._place = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The place from which is read next."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = origin + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, and give the number of bytes that were there."""
        length = min(len(buffer), self._size - self._place)
        if length <= 0:
            return 0
        try:
            found = self._store.get_range(self._key, start=self._place, length=length)
        except Exception as error:
            raise OSError(" ".join(str(error).partition("Debug source")[0].split())) from error
        buffer[:length] = bytes(found)
        self._place += length
        return length


def open_features(path: str) -> OgrFile | ParquetFile:
    """A vector file, open; see `OgrFile`."""
    return ParquetFile(path) if suffix_of(path) == PARQUET else OgrFile(path)


def features_of(numbers: Ints, shapes: Geometries, columns: dict[str, Any]) -> FeatureRows:
    """Features with their columns, which are filled where they are missing.

    Args:
        numbers: `(n,)` numbers in the file.
        shapes: `(n,)` geometries.
        columns: `(n,)` values by name, as far as the file has them.
    """
    ids = numbers.astype(str).astype(object)
    # The last one named is the first choice.
    for name in reversed(ID_COLUMNS):
        if name in columns:
            told = texts(columns[name])
            ids = np.where(told != "", told, ids)
    names, confidence = np.full(len(ids), "", object), np.full(len(ids), np.nan)
    if "class" in columns:
        names = texts(columns["class"])
    if "confidence" in columns:
        confidence = np.asarray(to_numeric(columns["confidence"], errors="coerce"), np.float64)
    return FeatureRows(ids, shapes, names, confidence)


def texts(values: Any) -> Geometries:
    """`(n,)` values as text; empty where there is none. Whole numbers with gaps come as floats."""

    def text(value: Any) -> str:
        if value is None or value != value:
            return ""
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

    made = np.empty(len(values), object)
    made[:] = [text(each) for each in values.tolist()]
    return made


def touching(shapes: Geometries, box: Box) -> Any:
    """`(n,)` True where the bounds of a shape touch a box; False for none and empty ones."""
    west, south, east, north = shapely.bounds(shapes).reshape(-1, 4).T
    return (west <= box[2]) & (east >= box[0]) & (south <= box[3]) & (north >= box[1])


def overlaps(one: Any, other: Box) -> bool:
    """Whether two boxes share a point."""
    west, south, east, north = one
    return bool(west <= other[2] and east >= other[0] and south <= other[3] and north >= other[1])


def without_crs(path: str) -> InputError:
    """The error for a file without a CRS."""
    return InputError(f"{redact(path)}: has no CRS, so its place is unknown; assign one first")
