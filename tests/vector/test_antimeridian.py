"""Polygons across the antimeridian and around a pole, in longitude and latitude."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine

from geohr.api.segment import segment_to_files
from geohr.encoding import Geometries
from geohr.geodesy import areas, parse_crs
from geohr.options import SegmentOptions
from geohr.outputs.vector import open_vector
from geohr.polygons.antimeridian import transform_polygons
from geohr.polygons.table import DTYPES, Polygons
from geohr.scene.footprints import Footprints
from geohr.workflows.batch.merge import merge_files
from geohr.workflows.change.output import open_changes
from tests.makers import random_model, write_scene

FIJI = "EPSG:32701"
ARCTIC = "EPSG:3413"
ANTARCTIC = "EPSG:3031"


def at(crs: str, lon: float, lat: float) -> tuple[float, float]:
    x, y = pyproj.Transformer.from_crs("OGC:CRS84", crs, always_xy=True).transform(lon, lat)
    return float(x), float(y)


def table(*geometry: Any) -> Polygons:
    columns = {name: np.zeros(len(geometry), dtype) for name, dtype in DTYPES.items()}
    return Polygons(np.array(geometry, object), columns)


X, Y = at(FIJI, 180, -17)
HOUSE = shapely.box(X - 6, Y - 4, X + 5, Y + 4)
COURT = HOUSE.difference(shapely.box(X - 2, Y - 2, X + 2, Y + 2))
EAST = shapely.box(X - 30, Y - 4, X - 10, Y + 4)


def as_degrees(geometry: Any, crs: str) -> Any:
    return transform_polygons(np.array([geometry]), crs, "EPSG:4326")[0]


@pytest.mark.parametrize("shape", [HOUSE, COURT])
def test_a_house_on_the_antimeridian_has_a_part_on_each_side(shape: Any) -> None:
    cut = as_degrees(shape, FIJI)
    assert cut.geom_type == "MultiPolygon"
    west, east = sorted(cut.geoms, key=lambda part: part.bounds[0])
    assert west.bounds[0] == -180
    assert east.bounds[2] == 180
    assert west.bounds[2] < -179.999
    assert east.bounds[0] > 179.999
    assert all(part.is_valid and part.exterior.is_ccw for part in cut.geoms)
    found = areas(np.array(cut.geoms), "EPSG:4326").sum()
    assert found == pytest.approx(areas(np.array([shape]), FIJI)[0], rel=1e-6)
    # No more corners than the cut asks for.
    assert len(shapely.get_coordinates(west)) <= 9


def test_what_does_not_cross_is_left_as_it_is() -> None:
    kept = as_degrees(EAST, FIJI)
    assert kept.geom_type == "Polygon"
    assert len(kept.exterior.coords) == 5
    continent = shapely.box(-1.2e7, -5e6, 1.2e7, 5e6)
    wide = as_degrees(continent, "EPSG:3857")
    assert wide.bounds == pytest.approx((-107.8, -40.9, 107.8, 40.9), abs=0.1)
    assert len(wide.exterior.coords) == 5


@pytest.mark.parametrize(("crs", "pole"), [(ARCTIC, 90.0), (ANTARCTIC, -90.0)])
def test_what_lies_on_a_pole_reaches_it(crs: str, pole: float) -> None:
    shape = shapely.box(-3e4, -2e4, 1e4, 5e4)
    cut = as_degrees(shape, crs)
    assert cut.is_valid
    assert cut.geom_type == "Polygon"
    assert cut.exterior.is_ccw
    assert (cut.bounds[0], cut.bounds[2]) == (-180, 180)
    assert pole in cut.bounds
    flat = pyproj.Transformer.from_crs("OGC:CRS84", crs, always_xy=True)
    generator = np.random.default_rng(0)
    points = generator.uniform(-6e4, 6e4, (200, 2))
    lon, lat = flat.transform(*points.T, direction="INVERSE")
    # Sides are bent between points, by less than a hundredth of the shape.
    clear = shapely.distance(shape.exterior, shapely.points(points)) > 500
    inside = shapely.contains(cut, shapely.points(lon, lat))
    assert (inside == shapely.contains(shape, shapely.points(points)))[clear].all()


def test_a_ring_around_a_pole_does_not_hold_it() -> None:
    ring = shapely.Point(0, 0).buffer(5e4).difference(shapely.Point(0, 0).buffer(2e4))
    cut = as_degrees(ring, ARCTIC)
    assert cut.is_valid
    assert cut.bounds[3] < 89.9
    assert (cut.bounds[0], cut.bounds[2]) == (-180, 180)


def geojson(path: Path, crs: str, *geometry: Any) -> list[Any]:
    with open_vector(path, crs=crs) as vector:
        vector.write(table(*geometry))
    features = json.loads(path.read_text("utf-8"))["features"]
    return [shapely.geometry.shape(feature["geometry"]) for feature in features]


def test_geojson_is_cut_whatever_the_scene_is_in(tmp_path: Path) -> None:
    near, far = geojson(tmp_path / "a.geojson", FIJI, EAST, HOUSE)
    assert (near.geom_type, far.geom_type) == ("Polygon", "MultiPolygon")
    degrees = shapely.box(179.9, -17, 180.1, -16.9)
    (cut,) = geojson(tmp_path / "b.geojson", "EPSG:4326", degrees)
    assert sorted(part.bounds[0] for part in cut.geoms) == pytest.approx([-180, 179.9])


@pytest.mark.parametrize("name", ["a.gpkg", "a.fgb", "a.parquet", "a.geojson", "a.shp"])
def test_a_run_across_the_antimeridian(name: str, tmp_path: Path) -> None:
    transform = Affine(0.5, 0, X - 16, 0, -0.5, Y + 16)
    grey = np.full((3, 64, 64), 128, np.uint8)
    scene = write_scene(tmp_path / "scene.tif", grey, crs=FIJI, transform=transform)
    out = tmp_path / name
    segment_to_files(
        scene,
        [out],
        model=random_model(tmp_path / "m.safetensors"),
        options=SegmentOptions(threshold=0.01, min_area=0, out_crs="EPSG:4326"),
        stac=True,
    )
    read = geopandas.read_parquet if out.suffix == ".parquet" else geopandas.read_file
    layer = {"layer": "a"} if out.suffix == ".gpkg" else {}
    found: Geometries = read(out, **layer).geometry.to_numpy()
    bounds = shapely.bounds(shapely.get_parts(found))
    assert len(found)
    assert (shapely.get_num_geometries(found) > 1).any()
    assert (bounds[:, 2] - bounds[:, 0]).max() < 0.001
    item = json.loads((tmp_path / "a.stac.json").read_text("utf-8"))
    assert item["geometry"]["type"] == "MultiPolygon"
    west, _, east, _ = item["bbox"]
    assert west > 179.99
    assert east < -179.99


def test_merged_files_and_changes_are_cut(tmp_path: Path) -> None:
    scene = {"scene": "a.tif"}
    with open_vector(tmp_path / "a.gpkg", crs="EPSG:4326", constants=scene) as vector:
        vector.write(table(shapely.box(10, 10, 10.001, 10.001)))
    with open_vector(tmp_path / "b.gpkg", crs=FIJI, constants=scene) as vector:
        vector.write(table(HOUSE, EAST))
    merge_files([tmp_path / "a.gpkg", tmp_path / "b.gpkg"], tmp_path / "all.gpkg")
    kinds = geopandas.read_file(tmp_path / "all.gpkg", layer="all").geometry.to_numpy()
    assert sorted(shapely.get_num_geometries(kinds)) == [1, 1, 2]

    shapes, names = np.array([HOUSE, EAST], object), np.array(["building"] * 2, object)
    objects = Footprints(
        ids=np.arange(2),
        shapes=shapes,
        confidence=np.ones(2),
        names=names,
        repaired=np.zeros(2, bool),
    )
    plane, crs = parse_crs(FIJI), parse_crs("EPSG:4326")
    with open_changes(tmp_path / "changes.gpkg", plane, crs) as writer:
        writer.objects("before", objects)
    kinds = geopandas.read_file(tmp_path / "changes.gpkg", layer="before").geometry.to_numpy()
    assert shapely.get_num_geometries(kinds).tolist() == [2, 1]
