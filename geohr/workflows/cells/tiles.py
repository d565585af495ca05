"""Vector tiles of a joined map, for maps on the web."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyproj

from geohr._runtime.files import as_output_error, check_writable, written_whole
from geohr._runtime.stores import is_object
from geohr.errors import InputError, UsageError

# Zooms of the tiles: below, buildings are less than a pixel.
ZOOMS = {"MINZOOM": "10", "MAXZOOM": "16"}
# The column that is for readers of GeoParquet alone.
BOX = "bbox"


def write_tiles(dataset: str | Path, out: Path, *, overwrite: bool = False) -> None:
    """Write the objects of a data set as PMTiles, by GDAL's driver.

    Args:
        dataset: The folder of a joined map.
        out: The file, `.pmtiles`.
        overwrite: Replace one that exists.

    Raises:
        UsageError: For another extension, a data set in an object store, or a GDAL without the
            driver.
        InputError: When the data set has no objects, or they have no CRS.
        OutputError: When the file cannot be written.
    """
    import pyarrow as pa
    import pyogrio
    from pyarrow import parquet
    from pyogrio.errors import DataSourceError
    from pyogrio.raw import write_arrow

    check_tiles(dataset, out, overwrite=overwrite)
    files = sorted(Path(dataset).rglob("*.parquet"))
    if not files:
        raise InputError(f"{dataset}: has no objects to make tiles of")
    first = parquet.ParquetFile(files[0])
    schema = first.schema_arrow
    # What is said of the layer is written last, and no part of the schema.
    crs: Any = json.loads(first.metadata.metadata[b"geo"])["columns"]["geometry"]["crs"]
    if crs is None:
        raise InputError(f"{dataset}: has no CRS, so its objects have no place on a map of the web")
    kept = [each for each in schema.names if each != BOX]
    plain = pa.schema([schema.field(each) for each in kept])

    def batches() -> Iterator[Any]:
        for path in files:
            for batch in parquet.ParquetFile(path).iter_batches(columns=kept):
                yield from pa.Table.from_batches([batch]).cast(plain).to_batches()

    with written_whole(out) as part:
        try:
            write_arrow(
                pa.RecordBatchReader.from_batches(plain, batches()),
                part,
                layer="objects",
                driver="PMTiles",
                geometry_name="geometry",
                geometry_type="Unknown",
                crs=pyproj.CRS.from_json_dict(crs).to_wkt(),
                dataset_options=ZOOMS,
            )
        except (DataSourceError, pyogrio.errors.DataLayerError, RuntimeError) as error:
            raise as_output_error(error, out) from error


def check_tiles(dataset: str | Path, out: Path, *, overwrite: bool = False) -> None:
    """Refuse what vector tiles cannot be made of, or written to, before any work is done.

    Raises:
        UsageError: As `write_tiles` does.
        OutputError: When the folder is missing or not writable.
    """
    import pyogrio

    if out.suffix.lower() != ".pmtiles":
        raise UsageError(f"{out}: vector tiles go to a file that ends in .pmtiles")
    if is_object(dataset):
        raise UsageError(f"{dataset}: vector tiles are made of a data set on disk; download it")
    if "w" not in pyogrio.list_drivers().get("PMTiles", ""):
        raise UsageError("this GDAL cannot write PMTiles; install pyogrio as a wheel (pip)")
    check_writable(out, overwrite=overwrite, inputs=[dataset])
