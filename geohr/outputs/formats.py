"""One writer for each vector format; each appends batches to a file that is not yet there."""

from __future__ import annotations

import errno
import json
import sqlite3
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np
import shapely

from geohr._runtime.files import as_output_error, publish, written_whole
from geohr.encoding import Geometries
from geohr.geodesy import parse_crs
from geohr.outputs.geoparquet import parquet_writer
from geohr.outputs.layers import GPKG_OPTIONS, FormatWriter, LayerInfo
from geohr.outputs.qgis_style import EPOCH, write_style_files
from geohr.polygons.antimeridian import transform_polygons
from geohr.polygons.table import Polygons

# Column names for Shapefiles, which allow ten characters.
SHAPEFILE_NAMES = {
    "perimeter_m": "perim_m",
    "orientation": "orient",
    "touches_edge": "at_edge",
}
# Decimals of a GeoJSON coordinate: a tenth of a millimetre.
DEGREES_DIGITS = 9


class _Appender:
    """Appends batches to a layer through GDAL."""

    def __init__(self, path: Path, driver: str, info: LayerInfo, names: dict[str, str]) -> None:
        self._path = path
        self._driver = driver
        self._info = info
        self._names = names
        self._begun = False

    def write(self, polygons: Polygons) -> None:
        if self._begun and len(polygons) == 0:
            return
        # It loads geopandas where that is installed, which takes longer than a small scene does.
        from pyogrio.raw import write

        columns = self._info.columns(polygons)
        with warnings.catch_warnings():
            # A raster without a CRS gives a layer without one; that has been said by then.
            warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)
            write(
                self._path,
                shapely.to_wkb(self._info.shaped(polygons.geometry)),
                list(columns.values()),
                np.array([self._names.get(name, name) for name in columns], object),
                layer=self._info.name,
                driver=self._driver,
                geometry_type=self._info.geometry_type,
                crs=None if self._info.crs is None else parse_crs(self._info.crs).to_wkt(),
                encoding="UTF-8",
                append=self._begun,
                dataset_options=GPKG_OPTIONS
                if self._driver == "GPKG" and not self._begun
                else None,
                layer_metadata=None if self._begun else self._provenance(),
            )
        self._begun = True

    def _provenance(self) -> dict[str, str] | None:
        return self._info.provenance or None if self._driver == "GPKG" else None


@contextmanager
def gpkg_writer(path: Path, info: LayerInfo) -> Iterator[FormatWriter]:
    """A GeoPackage with a spatial index, the provenance as metadata, and its style beside it."""
    with written_whole(path) as part:
        yield _Appender(part, "GPKG", info, {})
        try:
            with closing(sqlite3.connect(part)) as database, database:
                database.execute("UPDATE gpkg_contents SET last_change = ?", (EPOCH,))
                if info.provenance:
                    database.execute("UPDATE gpkg_metadata_reference SET timestamp = ?", (EPOCH,))
        except sqlite3.Error as error:
            full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
            cause = OSError(errno.ENOSPC if full else errno.EIO, str(error))
            raise as_output_error(cause, path) from error
    write_style_files(path, info)


@contextmanager
def flatgeobuf_writer(path: Path, info: LayerInfo) -> Iterator[FormatWriter]:
    """FlatGeobuf with its spatial index.

    The format cannot be appended to, so that rows are gathered in a temporary GeoPackage and
    streamed over at the end.
    """
    with (
        written_whole(path) as part,
        tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.") as folder,
    ):
        gathered = Path(folder) / "gathered.gpkg"
        yield _Appender(gathered, "GPKG", info, {})
        from pyogrio.raw import open_arrow, write_arrow

        with open_arrow(gathered) as (meta, stream):
            write_arrow(
                stream,
                part,
                layer=info.name,
                driver="FlatGeobuf",
                geometry_name=meta["geometry_name"] or "geom",
                geometry_type=info.geometry_type,
                crs=meta["crs"],
                dataset_metadata=info.provenance or None,
            )


@contextmanager
def shapefile_writer(path: Path, info: LayerInfo) -> Iterator[FormatWriter]:
    """A Shapefile and the files that go with it; field names are cut to ten letters."""
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.") as folder:
            yield _Appender(Path(folder) / path.name, "ESRI Shapefile", info, SHAPEFILE_NAMES)
            publish(sorted(Path(folder).iterdir()), path.parent)
    except OSError as error:
        raise as_output_error(error, path) from error


@contextmanager
def geojson_writer(path: Path, info: LayerInfo) -> Iterator[FormatWriter]:
    """GeoJSON as RFC 7946 has it: longitude and latitude on WGS 84, exteriors counterclockwise."""
    with written_whole(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        head = {"type": "FeatureCollection", "name": info.name, **info.provenance}
        file.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "features": [')
        yield _GeoJson(file, info)
        file.write("\n]}\n")


class _GeoJson:
    """Writes features, one a line."""

    def __init__(self, file: TextIO, info: LayerInfo) -> None:
        self._file = file
        self._info = info
        self._begun = False

    def write(self, polygons: Polygons) -> None:
        columns = self._info.columns(polygons)
        rows = zip(*(values.tolist() for values in columns.values()), strict=True)
        geometries = shapely.to_geojson(self._degrees(self._info.shaped(polygons.geometry)))
        for geometry, row in zip(geometries, rows, strict=True):
            properties = {
                name: None if value != value else value
                for name, value in zip(columns, row, strict=True)
            }
            self._file.write(",\n" if self._begun else "\n")
            self._file.write(
                '{"type": "Feature", "properties": '
                f"{json.dumps(properties, ensure_ascii=False)}, "
                f'"geometry": {geometry}}}'
            )
            self._begun = True

    def _degrees(self, geometry: Geometries) -> Geometries:
        """The geometries in longitude and latitude, rounded."""
        if self._info.crs is None or len(geometry) == 0:
            return geometry
        degrees = transform_polygons(geometry, self._info.crs, "OGC:CRS84")
        return np.asarray(shapely.transform(degrees, lambda points: points.round(DEGREES_DIGITS)))


# The writer of each extension.
WRITERS: dict[str, Callable[[Path, LayerInfo], AbstractContextManager[FormatWriter]]] = {
    ".gpkg": gpkg_writer,
    ".geojson": geojson_writer,
    ".fgb": flatgeobuf_writer,
    ".parquet": parquet_writer,
    ".shp": shapefile_writer,
}
