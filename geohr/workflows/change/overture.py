"""New buildings as GeoParquet with the columns of Overture's buildings.

The columns and their types are those of the files of Overture's theme `buildings`, type `building`
(https://docs.overturemaps.org/guides/buildings), so that both can be read as one table. What a
model does not tell is null.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from geohr._runtime.files import written_whole
from geohr.encoding import Floats, Geometries
from geohr.errors import UsageError
from geohr.workflows.change.output import new_objects

DATASET = "geohr"
SIDES = ("xmin", "ymin", "xmax", "ymax")


def write_overture(changes: Path, out: Path) -> int:
    """Write the new buildings of a GeoPackage of changes, and give their number.

    Ids follow from the outlines: the same building gets the same id each time. They are no GERS
    ids, which Overture gives itself.

    Args:
        changes: A file that `geohr.workflows.change.compare.compare` wrote.
        out: The .parquet to write; it appears when it is whole.

    Raises:
        UsageError: When pyarrow is not installed.
        OutputError: When it cannot be written.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(
            f"{out}: GeoParquet needs pyarrow; pip install 'geohr[parquet]'"
        ) from error
    written = 0
    bounds = np.full((0, 4), np.nan)
    with written_whole(out) as part, parquet.ParquetWriter(part, schema()) as file:
        for shapes, confidence in new_objects(changes):
            if len(shapes):
                table = overture_table(shapes, confidence)
                file.write_table(table, row_group_size=len(shapes))
                bounds = np.vstack([bounds, shapely.total_bounds(shapes)])
                written += len(shapes)
        file.add_key_value_metadata({"geo": json.dumps(description(bounds))})
    return written


def schema() -> Any:
    """The Arrow schema of Overture's buildings."""
    import pyarrow as pa

    text, real, whole, flag = pa.string(), pa.float64(), pa.int32(), pa.bool_()
    source = {
        "property": text, "dataset": text, "license": text, "record_id": text,
        "update_time": text, "confidence": real, "between": pa.list_(real),
    }  # fmt: skip
    rule = {
        "variant": text, "language": text, "perspectives": pa.struct(
            {"mode": text, "countries": pa.list_(text)}
        ),
        "value": text, "between": pa.list_(real), "side": text,
    }  # fmt: skip
    names = {"primary": text, "common": pa.map_(text, text), "rules": pa.list_(pa.struct(rule))}
    return pa.schema(
        {
            "id": text, "geometry": pa.binary(), "bbox": pa.struct(dict.fromkeys(SIDES, real)),
            "version": whole, "sources": pa.list_(pa.struct(source)), "level": whole,
            "subtype": text, "class": text, "height": real, "names": pa.struct(names),
            "has_parts": flag, "is_underground": flag, "num_floors": whole,
            "num_floors_underground": whole, "min_height": real, "min_floor": whole,
            "facade_color": text, "facade_material": text, "roof_material": text,
            "roof_shape": text, "roof_direction": real, "roof_orientation": text,
            "roof_color": text, "roof_height": real,
        }
    )  # fmt: skip


def overture_table(shapes: Geometries, confidence: Floats) -> Any:
    """Buildings `(n,)` in degrees as an Arrow table."""
    import pyarrow as pa

    wkb = [bytes(each) for each in shapely.to_wkb(shapes)]
    boxes = shapely.bounds(shapes).reshape(-1, 4).tolist()
    columns: dict[str, list[Any]] = {
        "id": [str(uuid.uuid5(uuid.NAMESPACE_URL, f"geohr:{each.hex()}")) for each in wkb],
        "geometry": wkb,
        "bbox": [dict(zip(SIDES, box, strict=True)) for box in boxes],
        "version": [1] * len(wkb),
        # The empty JSON pointer is the whole building.
        "sources": [
            [{"property": "", "dataset": DATASET, "confidence": round(float(sure), 4)}]
            for sure in confidence
        ],
        "has_parts": [False] * len(wkb),
        "is_underground": [False] * len(wkb),
    }
    kinds = schema()
    return pa.table(
        [pa.array(columns.get(each.name, [None] * len(wkb)), each.type) for each in kinds],
        schema=kinds,
    )


def description(bounds: Floats) -> dict[str, Any]:
    """The metadata under the key `geo` (GeoParquet 1.1.0); without a CRS it is OGC:CRS84."""
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["Polygon", "MultiPolygon"],
        "covering": {"bbox": {side: ["bbox", side] for side in SIDES}},
    }
    if len(bounds):
        column["bbox"] = [*bounds[:, :2].min(axis=0), *bounds[:, 2:].max(axis=0)]
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
