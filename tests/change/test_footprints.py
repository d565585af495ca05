"""Footprints that exist: of any format, on disk or remote, read where they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely

from geohr.errors import InputError
from geohr.geodesy import parse_crs
from geohr.scene import features
from geohr.scene.footprints import FootprintLayer
from geohr.workflows.change.dates import change
from tests.change.test_compare import by_kind, house, village, write
from tests.imagery.servers import Server, range_server

UTM = "EPSG:32636"
PLANE = parse_crs(UTM)
COUNT = 20_000
PART = (455_000.0, 35_000.0, 456_000.0, 36_000.0)


@pytest.fixture(scope="module")
def country() -> geopandas.GeoDataFrame:
    """Footprints over 50 x 50 km, in the order of a Hilbert curve as such files are."""
    rng = np.random.default_rng(0)
    x, y = 430_000 + rng.uniform(0, 50_000, COUNT), 10_000 + rng.uniform(0, 50_000, COUNT)
    # A village of 64 houses where some of the others were, of which no two overlap.
    x[(x > 454_900) & (x < 456_100)] = 430_000
    place = np.arange(64)
    x[:64] = 455_010 + place % 8 * 35 + x[:64] % 20
    y[:64] = 35_010 + place // 8 * 35 + y[:64] % 20
    table = geopandas.GeoDataFrame(
        {"id": [f"08b{number:05d}" for number in range(COUNT)]},
        geometry=shapely.box(x, y, x + 12, y + 9), crs=UTM,
    )  # fmt: skip
    order = np.argsort(table.hilbert_distance(), kind="stable")
    return table.iloc[order].reset_index(drop=True)


@pytest.fixture(scope="module")
def server(
    country: geopandas.GeoDataFrame, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A web server of the footprints."""
    folder = tmp_path_factory.mktemp("footprints")
    country.to_file(folder / "country.fgb")
    country.to_parquet(folder / "country.parquet", write_covering_bbox=True, row_group_size=1000)
    with range_server(folder) as running:
        yield running


@pytest.mark.parametrize("name", ["country.fgb", "country.parquet"])
def test_of_a_remote_file_only_the_part_that_is_needed_is_read(
    name: str, server: Server, country: geopandas.GeoDataFrame, tmp_path: Path
) -> None:
    size = (Path(str(server.behaviour.folder)) / name).stat().st_size
    before = server.ask().sent
    layer = FootprintLayer(f"{server.address}/{name}").near(PART, PLANE, tmp_path / "part.gpkg")
    sent = server.ask().sent - before
    assert sent < size / 5
    # What comes after is asked of the copy.
    found = layer.read(PART, PLANE)
    layer.read((455_200, 35_000, 455_500, 35_600), PLANE)
    assert server.ask().sent - before == sent
    inside = country[country.intersects(shapely.box(*PART))]
    assert len(inside) == 64
    assert sorted(found.ids) == sorted(inside["id"])


def test_a_result_is_compared_with_a_remote_country(
    server: Server, country: geopandas.GeoDataFrame, tmp_path: Path
) -> None:
    inside = country[country.within(shapely.box(*PART))]
    shapes = [shapely.affinity.translate(each, 0.8, -0.6) for each in inside.geometry]
    result = write(tmp_path / "result.gpkg", [*shapes[3:], house(5_300, 5_280)])
    before = server.ask().sent
    counts = change(
        f"{server.address}/country.parquet", result, tmp_path / "changes.gpkg", against=True
    )
    size = (Path(str(server.behaviour.folder)) / "country.parquet").stat().st_size
    assert server.ask().sent - before < size / 3
    assert by_kind(counts) == {"new": 1, "gone": 3, "same": len(shapes) - 3}
    gone = geopandas.read_file(tmp_path / "changes.gpkg", layer="changes").query("change == 'gone'")
    assert set(gone["before_ids"]) == set(inside["id"][:3])


def test_what_is_not_there_is_said_in_one_line(server: Server) -> None:
    for name in ("missing.parquet", "missing.fgb"):
        with pytest.raises(InputError, match=rf"{name}: not .* that can be read"):
            FootprintLayer(f"{server.address}/{name}")


@pytest.mark.parametrize("name", ["a.geojson", "a.parquet", "a.shp", "a.fgb"])
def test_every_format_gives_the_same_objects(name: str, tmp_path: Path) -> None:
    table = geopandas.GeoDataFrame({"class": ["hut"] * 64}, geometry=village(), crs=UTM)
    table.to_file(tmp_path / "a.gpkg")
    if name.endswith(".parquet"):
        table.to_parquet(tmp_path / name)
    else:
        table.to_file(tmp_path / name)
    box = (449_000.0, 29_000.0, 450_100.0, 30_100.0)
    whole = FootprintLayer(str(tmp_path / "a.gpkg")).read(box, PLANE)
    layer = FootprintLayer(str(tmp_path / name))
    copied = layer.near(box, PLANE, tmp_path / "copy.gpkg")
    assert 0 < len(whole) < 64
    for found in (layer.read(box, PLANE), copied.read(box, PLANE)):
        assert set(found.names) == {"hut"}
        assert shapely.union_all(found.shapes).symmetric_difference(
            shapely.union_all(whole.shapes)
        ).area == pytest.approx(0, abs=1e-3)


def test_features_are_named_by_their_own_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "PIECE", 2)
    shapes = [house(0, 0), house(20, 0), house(40, 0), house(60, 0), house(80, 0)]
    box = (449_000.0, 29_000.0, 451_000.0, 31_000.0)
    for columns, wanted in (
        ({}, ["1", "2", "3", "4", "5"]),
        ({"osm_id": [7, None, 9, 10, 11]}, ["7", "2", "9", "10", "11"]),
        ({"id": ["a", "b", None, "d", "e"]}, ["a", "b", "3", "d", "e"]),
    ):
        path = tmp_path / f"named{'-'.join(columns)}.gpkg"
        found = FootprintLayer(write(path, shapes, **columns)).read(box, PLANE)
        assert found.ids.tolist() == wanted
