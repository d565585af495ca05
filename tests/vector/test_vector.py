"""What is written is read back by others."""

from __future__ import annotations

import json
import sqlite3
import warnings
from pathlib import Path
from xml.etree import ElementTree as Xml

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely

from geohr._runtime.files import staged
from geohr.errors import OutputError, UsageError
from geohr.options import PolygonOptions
from geohr.outputs import vector
from geohr.outputs.vector import EXTENSIONS, open_vector
from geohr.polygons import DTYPES, Polygons
from tests.polygons.tracing import METRES, UTM, trace


def polygons(*, connectivity: int = 4) -> Polygons:
    generator = np.random.default_rng(3)
    classes = np.kron(generator.integers(0, 3, (12, 15)), np.ones((4, 4))).astype(np.uint8)
    scores = generator.integers(128, 255, (2, *classes.shape)).astype(np.uint8)
    options = PolygonOptions(connectivity=8 if connectivity == 8 else 4)
    return trace(classes, scores, options=options, transform=METRES, crs=UTM)


COLOURS = {"building": "#ff0000", "water": "#0000ff"}


def written(
    path: Path, found: Polygons, *, multi: bool = False, colours: dict[str, str] = COLOURS
) -> geopandas.GeoDataFrame:
    with open_vector(
        path,
        crs=UTM,
        multi=multi,
        constants={"scene": "Bâtiment"},
        colours=colours,
        provenance={"geohr_version": "test", "geohr_model": "m"},
    ) as vector:
        half = len(found) // 2
        vector.write(found.take(np.arange(half)))
        vector.write(found.take(np.arange(half, len(found))))
    if path.suffix == ".parquet":
        return geopandas.read_parquet(path)
    return geopandas.read_file(path, layer=path.stem)


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("batch", [7, vector.BATCH])
def test_every_format_is_read_back(
    extension: str,
    connectivity: int,
    batch: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vector, "BATCH", batch)
    found = polygons(connectivity=connectivity)
    table = written(tmp_path / f"out{extension}", found, multi=connectivity == 8)
    assert len(table) == len(found)
    assert table.crs.to_epsg() == (4326 if extension == ".geojson" else 32636)
    assert table["scene"].eq("Bâtiment").all()
    # FlatGeobuf sorts by place.
    table = table.to_crs(UTM).sort_values(["area_m2", "confidence"], ignore_index=True)
    expected = found.to_geodataframe(UTM).sort_values(["area_m2", "confidence"], ignore_index=True)
    assert np.allclose(table.area, expected.area, rtol=1e-4)
    assert table["class"].tolist() == expected["class"].tolist()
    assert np.allclose(table["confidence"], expected["confidence"])
    assert sorted(path.name for path in tmp_path.iterdir() if path.stem.startswith(".")) == []


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_no_object_gives_an_empty_layer_with_its_columns(extension: str, tmp_path: Path) -> None:
    table = written(tmp_path / f"out{extension}", Polygons.none())
    assert len(table) == 0
    if extension == ".geojson":  # has no place for them
        return
    names = list(table.columns)
    assert len(names) >= len(DTYPES) + 2
    assert table.crs.to_epsg() == 32636


def test_equal_runs_give_equal_bytes(tmp_path: Path) -> None:
    for extension in EXTENSIONS:
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "b").mkdir(exist_ok=True)
        one, other = tmp_path / "a" / f"x{extension}", tmp_path / "b" / f"x{extension}"
        written(one, polygons())
        written(other, polygons())
        assert one.read_bytes() == other.read_bytes(), extension


def test_a_geopackage_has_index_style_and_provenance(tmp_path: Path) -> None:
    path = tmp_path / "out.gpkg"
    written(path, polygons())
    with sqlite3.connect(path) as database:
        (count,) = database.execute("SELECT count(*) FROM rtree_out_geom").fetchone()
        (kept,) = database.execute("SELECT metadata FROM gpkg_metadata").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
    # GDAL 3.6 warns of 1.4.
    assert version == 10300
    assert count == len(polygons())
    assert "geohr_model" in kept
    text = path.with_suffix(".sld").read_text("utf-8")
    assert all(colour in text for colour in COLOURS.values())
    assert "categorizedSymbol" in path.with_suffix(".qml").read_text("utf-8")
    one = tmp_path / "one.gpkg"
    written(one, polygons(), colours={"building": "#ff0000"})
    for each, rules in ((path, 3), (one, 6)):
        sld = Xml.fromstring(each.with_suffix(".sld").read_text("utf-8"))
        assert sld.get("version") == "1.1.0"
        assert len(list(sld.iter("{http://www.opengis.net/se}Rule"))) == rules


def test_a_geopackage_has_one_layer_and_is_read_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "out.gpkg"
    written(path, polygons())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(geopandas.read_file(path, engine="pyogrio")) == len(polygons())
    assert pyogrio.list_layers(path)[:, 0].tolist() == ["out"]


@pytest.mark.parametrize("suffix", [".qml", ".sld"])
def test_a_style_that_somebody_else_made_stays(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "out.gpkg"
    written(path, polygons(), colours={"building": "#ff0000"})
    old = path.with_suffix(suffix).read_bytes()
    written(path, polygons())
    assert path.with_suffix(suffix).read_bytes() != old
    # That of a raster of the same name, for example, which QGIS keeps there, too.
    path.with_suffix(suffix).write_text("<qgis/>")
    written(path, polygons())
    with staged([path], "stage") as names:
        written(names[path], polygons())
    assert path.with_suffix(suffix).read_text() == "<qgis/>"
    assert not (tmp_path / "stage").exists()


def test_geojson_is_rfc_7946(tmp_path: Path) -> None:
    path = tmp_path / "out.geojson"
    written(path, polygons())
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["type"] == "FeatureCollection"
    assert content["geohr_model"] == "m"
    for feature in content["features"]:
        exterior = shapely.geometry.shape(feature["geometry"]).exterior
        assert exterior.is_ccw
        assert 29 < exterior.coords[0][0] < 34


def test_geoparquet_says_what_1_1_asks(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "out.parquet"
    table = written(path, polygons())
    geo = json.loads(parquet.read_metadata(path).metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    column = geo["columns"]["geometry"]
    assert column["bbox"] == pytest.approx(table.total_bounds.tolist())
    assert column["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    west, _, east, _ = table.total_bounds
    some = geopandas.read_parquet(path, bbox=(west, 0, (west + east) / 2, 1e7))
    assert 0 < len(some) < len(table)


def test_a_shapefile_has_short_names(tmp_path: Path) -> None:
    written(tmp_path / "out.shp", polygons())
    assert {"perim_m", "orient", "at_edge"} <= set(
        pyogrio.read_info(tmp_path / "out.shp")["fields"]
    )


def fail_while_writing(path: Path) -> None:
    with open_vector(path, crs=UTM) as vector:
        vector.write(polygons())
        raise RuntimeError("stop")


def test_an_error_leaves_no_file_and_keeps_the_old_one(tmp_path: Path) -> None:
    for extension in EXTENSIONS:
        path = tmp_path / f"out{extension}"
        path.write_bytes(b"old")
        with pytest.raises(RuntimeError, match="stop"):
            fail_while_writing(path)
        assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == len(EXTENSIONS)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.xyz is not a vector format; name a file that ends in"):
        open_vector(tmp_path / "out.xyz", crs=UTM)
    for extension in EXTENSIONS:
        with (
            pytest.raises(OutputError, match="cannot be written"),
            open_vector(tmp_path / "missing" / f"out{extension}", crs=UTM) as vector,
        ):
            vector.write(polygons())


def write_on_a_bad_disk(path: Path) -> None:
    with open_vector(path, crs=UTM) as opened:
        opened.write(polygons())
        part = next(each for each in path.parent.iterdir() if each.stat().st_size)
        part.write_bytes(b"what a bad disk gave back" + part.read_bytes()[25:])


def test_a_disk_that_fails_while_the_style_is_written_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector, "BATCH", 1)
    with pytest.raises(OutputError, match=r"out\.gpkg: cannot be written"):
        write_on_a_bad_disk(tmp_path / "out.gpkg")
    assert not list(tmp_path.glob("*.gpkg"))


def test_an_index_of_the_shapefile_that_is_replaced_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "x.shp"
    written(path, polygons())
    stale = [path.with_suffix(suffix) for suffix in (".qix", ".sbn", ".sbx")]
    other = tmp_path / "y.qix"
    for each in (*stale, other):
        each.write_bytes(b"of the old one")
    assert len(written(path, polygons())) == len(polygons())
    assert not any(each.exists() for each in stale)
    assert path.with_suffix(".prj").exists()
    assert other.exists()
