"""Vector files: which they are, their first layer with geometries, and GeoParquet read whole."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pyogrio
import pyogrio.errors

from geohr.errors import InputError
from geohr.scene.provenance import file_version

if TYPE_CHECKING:
    import geopandas

PARQUET = ".parquet"
# Layers of a file that `geohr view` labels: outlines, and areas in which nothing lacks one.
LABELS = "labels"
LABELLED = "labelled"
# Files with these endings are vectors.
VECTOR_SUFFIXES = (".gpkg", ".geojson", ".json", ".fgb", ".shp", ".zip", PARQUET)
# Files with these are rasters. OGR is asked whether it can read those with others.
RASTER_SUFFIXES = (".tif", ".tiff", ".vrt", ".png", ".jp2", ".img")


def suffix_of(path: str) -> str:
    """The suffix of a file in lower case; that of a URL without its query."""
    return Path(path.partition("?")[0] if "://" in path else path).suffix.lower()


def is_vector(path: str) -> bool:
    """Whether a file holds vectors, of any format that OGR reads, rather than a raster."""
    suffix = suffix_of(path)
    if suffix in (*VECTOR_SUFFIXES, *RASTER_SUFFIXES):
        return suffix in VECTOR_SUFFIXES
    return _holds_geometries(path, file_version(path))


@lru_cache(maxsize=4096)
def _holds_geometries(path: str, version: object) -> bool:
    """Whether OGR finds geometries; it is asked once for each version of a file."""
    del version
    try:
        return any(kind is not None for _, kind in pyogrio.list_layers(path))
    except pyogrio.errors.DataSourceError:
        return False


def first_layer(path: str | Path, *, prefer: str | None = None) -> str:
    """The first layer with geometries: a GPKG may hold others, such as its styles.

    Args:
        path: The file.
        prefer: The layer to take instead, where the file has one of this name.

    Raises:
        InputError: When there is none.
        pyogrio.errors.DataSourceError: When the file cannot be read.
    """
    names = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if not names:
        raise InputError(f"{path}: holds no layer with geometries")
    return prefer if prefer in names else names[0]


def check_layer(path: str, crs: object, fields: Sequence[str], wanted: Sequence[str]) -> None:
    """Refuse vectors that cannot be placed, or lack an attribute.

    Raises:
        InputError: Naming what is missing.
    """
    if crs is None:
        raise InputError(f"{path}: has no CRS; assign one first")
    if missing := [name for name in wanted if name not in fields]:
        raise InputError(
            f"{path}: has no attribute {missing[0]!r}; its attributes are "
            f"{', '.join(fields) or 'none'}"
        )


def read_parquet(path: str) -> geopandas.GeoDataFrame:
    """A GeoParquet file, whole; OGR, where it reads the others by window, often lacks it.

    Windows of one file are read from one table; a file that is written anew is read anew.

    Raises:
        InputError: When it is none, or pyarrow is not installed.
    """
    return _read_parquet(path, file_version(path))


@lru_cache(maxsize=8)
def _read_parquet(path: str, version: object) -> geopandas.GeoDataFrame:
    """One version of a GeoParquet file."""
    del version
    import geopandas

    try:
        return geopandas.read_parquet(path)
    except ImportError as error:
        raise InputError(
            f"{path}: GeoParquet needs pyarrow; pip install 'geohr[parquet]'"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not vectors that can be read ({error})") from error
