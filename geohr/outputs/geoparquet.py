"""GeoParquet 1.1, a row group for each batch, with a column of bounding boxes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from geohr._runtime.files import written_whole
from geohr.errors import UsageError
from geohr.geodesy import parse_crs
from geohr.outputs.layers import FormatWriter, LayerInfo
from geohr.polygons.table import Polygons

BOX = ("xmin", "ymin", "xmax", "ymax")


@contextmanager
def parquet_writer(path: Path, info: LayerInfo) -> Iterator[FormatWriter]:
    """Write to a temporary file that is renamed at the end of the block.

    Raises:
        UsageError: When pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UsageError(
            f"{path}: GeoParquet needs pyarrow; pip install 'geohr[parquet]'"
        ) from error
    with written_whole(path) as part:
        columns = _table(Polygons.none(), info)
        with parquet.ParquetWriter(
            part, columns.schema.with_metadata(info.provenance), compression="zstd"
        ) as file:
            batches = _Batches(file, info)
            yield batches
            file.add_key_value_metadata({"geo": json.dumps(batches.description())})


class _Batches:
    """Appends row groups and remembers what the file's description must say."""

    def __init__(self, file: Any, info: LayerInfo) -> None:
        self._file = file
        self._info = info
        self._bounds: list[float] | None = None

    def write(self, polygons: Polygons) -> None:
        if len(polygons) == 0:
            return
        self._file.write_table(_table(polygons, self._info), row_group_size=len(polygons))
        west, south, east, north = shapely.total_bounds(polygons.geometry)
        if self._bounds is not None:
            west, south = min(west, self._bounds[0]), min(south, self._bounds[1])
            east, north = max(east, self._bounds[2]), max(north, self._bounds[3])
        self._bounds = [float(side) for side in (west, south, east, north)]

    def description(self) -> dict[str, Any]:
        """The metadata under the key `geo` (GeoParquet 1.1.0)."""
        crs = None if self._info.crs is None else parse_crs(self._info.crs).to_json_dict()
        column: dict[str, Any] = {
            "encoding": "WKB",
            "geometry_types": [self._info.geometry_type],
            "orientation": "counterclockwise",
            "crs": crs,
            "covering": {"bbox": {side: ["bbox", side] for side in BOX}},
        }
        if self._bounds is not None:
            column["bbox"] = self._bounds
        return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


def _table(polygons: Polygons, info: LayerInfo) -> Any:
    """An Arrow table: the columns, the geometry as WKB, its bounding box."""
    import pyarrow as pa

    columns = {
        name: pa.array(
            values, type=pa.string() if values.dtype == object else None, from_pandas=True
        )
        for name, values in info.columns(polygons).items()
    }
    geometry = info.shaped(polygons.geometry)
    columns["geometry"] = pa.array(list(shapely.to_wkb(geometry)), type=pa.binary())
    bounds = shapely.bounds(geometry).reshape(-1, 4).astype(np.float64)
    columns["bbox"] = pa.StructArray.from_arrays(
        [pa.array(bounds[:, side]) for side in range(4)], names=list(BOX)
    )
    return pa.table(columns)
