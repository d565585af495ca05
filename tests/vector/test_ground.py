"""Metres on the ground, in every CRS, against pyproj's geodesics."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.features import rasterize

from geohr.errors import InputError
from geohr.geobox import GeoBox
from geohr.geodesy import ground_sampling_distance, local_metric_crs, local_scale, measure
from geohr.polygons import Tracer, TraceSettings, concatenate

GEOD = pyproj.Geod(ellps="WGS84")
PLACES = [
    ("EPSG:4326", 85.5, 27.6, 1e-5),
    ("EPSG:4326", 24.9, 65.0, 1e-5),
    ("EPSG:3857", 9_517_816.0, 3_200_000.0, 1.0),
    ("EPSG:3857", 3_628_400.0, 39_000.0, 1.0),
    ("EPSG:32636", 450_000.0, 40_000.0, 1.0),
    ("EPSG:2263", 980_000.0, 200_000.0, 3.0),
    ("EPSG:3031", 1_000_000.0, 1_500_000.0, 1.0),
    ("EPSG:4326", 179.9999, -17.0, 1e-5),
    # Their own longitudes and latitudes are in grads.
    ("EPSG:27572", 600_000.0, 2_200_000.0, 1.0),
    ("EPSG:4807", 0.5, 52.0, 1e-5),
]


@pytest.mark.parametrize(("crs", "x", "y", "unit"), PLACES)
@pytest.mark.parametrize("size", [20, 2_000])
def test_area_and_perimeter_equal_geodesics(
    crs: str, x: float, y: float, unit: float, size: int
) -> None:
    hole = shapely.box(x + unit, y + unit, x + size / 4 * unit, y + size / 4 * unit)
    shape = shapely.Polygon(
        [(x, y), (x + size * unit, y), (x + size * unit, y + size * unit / 2), (x, y + size * unit)]
    ).difference(hole)
    measured = measure(np.array([shape], object), crs)
    to_degrees = pyproj.Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    fine = shapely.segmentize(shape, size * unit / 50)
    degrees = shapely.transform(
        fine, lambda points: np.column_stack(to_degrees.transform(points[:, 0], points[:, 1]))
    )
    area = abs(GEOD.geometry_area_perimeter(degrees)[0])
    length = sum(GEOD.geometry_length(ring) for ring in (degrees.exterior, *degrees.interiors))
    assert measured.area[0] == pytest.approx(area, rel=2e-4)
    assert measured.perimeter[0] == pytest.approx(length, rel=2e-4)


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:4326"])
def test_objects_of_many_kilometres_are_measured_where_they_lie(crs: str) -> None:
    degrees = shapely.box(10, 50, 12, 54)
    to_crs = pyproj.Transformer.from_crs("OGC:CRS84", crs, always_xy=True)
    shape = shapely.transform(
        shapely.segmentize(degrees, 0.01),
        lambda points: np.column_stack(to_crs.transform(points[:, 0], points[:, 1])),
    )
    fine = shapely.segmentize(degrees, 0.01)
    measured = measure(np.array([shape], object), crs)
    assert measured.area[0] == pytest.approx(abs(GEOD.geometry_area_perimeter(fine)[0]), rel=5e-4)
    assert measured.perimeter[0] == pytest.approx(GEOD.geometry_length(fine.exterior), rel=5e-4)


@pytest.mark.parametrize("angle", [0, 10, 45, 70])
def test_orientation_is_the_direction_of_the_walls_on_the_ground(angle: float) -> None:
    house = shapely.affinity.rotate(shapely.box(0, 0, 30, 10), -angle)
    to_degrees = pyproj.Transformer.from_crs(
        "+proj=laea +lat_0=60 +lon_0=25", "EPSG:4326", always_xy=True
    )
    shape = shapely.transform(
        house, lambda points: np.column_stack(to_degrees.transform(points[:, 0], points[:, 1]))
    )
    (found,) = measure(np.array([shape], object), "EPSG:4326").orientation
    assert abs((found - angle + 45) % 90 - 45) < 0.1


@pytest.mark.parametrize("angle", [0, 12, 30, 45, 77])
def test_orientation_of_an_outline_along_pixels_is_that_of_the_walls(angle: float) -> None:
    house = shapely.affinity.rotate(shapely.box(10, 15, 50, 35), -angle)
    grid = Affine(1, 0, 0, 0, -1, 60)
    rows = rasterize([house], out_shape=(60, 60), transform=grid, dtype=np.uint8)
    geobox = GeoBox(CRS.from_epsg(32636), grid @ Affine.scale(0.3), 60, 60)
    tracer = Tracer(TraceSettings(geobox))
    (found,) = concatenate([tracer.push(rows), tracer.finish()]).columns["orientation"]
    assert abs((found - angle + 45) % 90 - 45) < 3


@pytest.mark.parametrize("angle", [1e-15, 1e-9, 1e-6])
def test_orientation_stays_below_90_in_a_table(angle: float) -> None:
    house = shapely.affinity.rotate(shapely.box(0, 0, 30, 10), angle)
    (found,) = measure(np.array([house], object), "EPSG:32636").orientation
    assert 0 <= np.float32(found) < 90


def test_the_zone_of_a_point_in_grads_is_where_it_lies() -> None:
    degrees = np.array([9.0, 45.0])
    there = pyproj.Transformer.from_crs("EPSG:4275", "EPSG:4807", always_xy=True)
    metric = local_metric_crs("EPSG:4807", *there.transform(*degrees))
    assert metric.coordinate_operation is not None
    parameters = {each.name: each.value for each in metric.coordinate_operation.params}
    assert parameters["Longitude of natural origin"] == pytest.approx(9)


@pytest.mark.parametrize("crs", ["EPSG:3031", "EPSG:3413"])
@pytest.mark.parametrize("away", [0.0, 1.0, 9.0, 20.0, 400.0, 700.0])
def test_a_pole_is_a_place_like_others(crs: str, away: float) -> None:
    at_pole, beside = np.array([0.6 * away, 2000.0]), np.array([-0.8 * away, 2000.0])
    here, there = (abs(np.linalg.det(each)) for each in local_scale(crs, at_pole, beside))
    assert here == pytest.approx(there, rel=1e-4)


def test_the_moon_has_a_metric_crs() -> None:
    metric = local_metric_crs("IAU_2015:30100", 12.0, -30.0)
    scale = local_scale(metric, np.array([500_000.0]), np.array([-900_000.0]))[0]
    assert abs(np.linalg.det(scale)) == pytest.approx(1, rel=0.01)


def test_coordinates_outside_the_crs_are_refused() -> None:
    with pytest.raises(InputError, match="georeference is wrong"):
        local_scale("EPSG:32636", np.array([1e12]), np.array([1e12]))
    with pytest.raises(InputError, match="not understood"):
        measure(np.array([shapely.box(0, 0, 1, 1)], object), "EPSG:999999")


def test_pixels_that_cannot_be_measured_are_refused() -> None:
    # A projection that is described, but that PROJ cannot compute.
    unknown = """PROJCRS["odd",BASEGEOGCRS["own",DATUM["own",ELLIPSOID["GRS80",6378137,298.257]]],
        CONVERSION["own",METHOD["Spilhaus of another house"]],CS[Cartesian,2],AXIS["x",east],
        AXIS["y",north],LENGTHUNIT["metre",1]]"""
    with pytest.raises(InputError, match="PROJ cannot compute longitudes and latitudes from odd"):
        local_scale(unknown, np.array([0.0]), np.array([0.0]))
    centre = GeoBox(CRS.from_epsg(4978), Affine(4, 0, -180, 0, -180 / 70, 90), 70, 90)
    with pytest.raises(InputError, match="no area on the ground in WGS 84"):
        ground_sampling_distance(centre)


@pytest.mark.parametrize("crs", ["EPSG:3413", "EPSG:3031"])
@pytest.mark.parametrize("metres", [0.0, 3.0, 15.0, 40.0])
def test_pixels_near_a_pole_are_as_large_as_a_little_farther(crs: str, metres: float) -> None:
    def gsd(x: float) -> float:
        place = Affine(0.5, 0, x - 50, 0, -0.5, 50)
        return ground_sampling_distance(GeoBox(CRS.from_string(crs), place, 200, 200))

    assert gsd(metres) == pytest.approx(gsd(5000.0), rel=1e-5)
    # Where the one way of measuring gives way to the other.
    assert gsd(11_100.0) == pytest.approx(gsd(11_300.0), rel=1e-5)
