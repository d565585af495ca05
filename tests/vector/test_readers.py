"""Every format read back by programs that are not ours: GDAL's ogrinfo, and DuckDB."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pyproj
import pytest
import shapely

from geohr.outputs.vector import EXTENSIONS
from tests.polygons.tracing import UTM
from tests.vector.test_vector import polygons, written


def by_ogr(path: Path, statement: str) -> str:
    """What ogrinfo prints for a statement in SQLite's dialect; it must not warn."""
    command = ["ogrinfo", "-q", "-dialect", "sqlite", "-sql", statement, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stderr == ""
    return run.stdout


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_ogrinfo_finds_as_many_and_as_much(
    extension: str, connectivity: int, tmp_path: Path
) -> None:
    if shutil.which("ogrinfo") is None:
        pytest.skip("ogrinfo is not installed; apt-get install gdal-bin")
    formats = subprocess.run(["ogrinfo", "--formats"], capture_output=True, text=True, check=True)
    if extension == ".parquet" and "Parquet" not in formats.stdout:
        pytest.skip("this GDAL reads no Parquet; DuckDB reads it below")
    found = polygons(connectivity=connectivity)
    path = tmp_path / f"out{extension}"
    written(path, found, multi=connectivity == 8)
    places = {".geojson": "ST_Transform(geometry, 32636)", ".gpkg": "geom"}
    place = places.get(extension, "geometry")
    told = by_ogr(path, f"SELECT count(*) AS n, sum(ST_Area({place})) AS area FROM out")
    count, area = (float(line.rpartition("=")[2]) for line in told.splitlines() if " = " in line)
    assert count == len(found)
    assert area == pytest.approx(shapely.area(found.geometry).sum(), rel=1e-4)


@pytest.mark.parametrize("connectivity", [4, 8])
def test_duckdb_finds_as_many_and_as_much_in_parquet(connectivity: int, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    found = polygons(connectivity=connectivity)
    path = tmp_path / "out.parquet"
    written(path, found, multi=connectivity == 8)
    # Its spatial extension is fetched from a server, so that the geometry is read as it is stored.
    rows = duckdb.sql(
        f"SELECT area_m2, geometry, bbox.xmin, bbox.ymax FROM read_parquet('{path}')"
    ).fetchall()
    shapes = shapely.from_wkb([bytes(row[1]) for row in rows])
    assert len(rows) == len(found)
    assert shapely.area(shapes).sum() == pytest.approx(shapely.area(found.geometry).sum())
    assert sum(row[0] for row in rows) == pytest.approx(found.columns["area_m2"].sum())
    assert [row[2:] for row in rows] == [(shape.bounds[0], shape.bounds[3]) for shape in shapes]


def test_geoparquet_names_its_crs_for_other_readers(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "out.parquet"
    written(path, polygons())
    geo = json.loads(parquet.read_metadata(path).metadata[b"geo"])
    crs = pyproj.CRS.from_json_dict(geo["columns"]["geometry"]["crs"])
    assert crs == pyproj.CRS.from_user_input(UTM)
