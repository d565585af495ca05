"""Seeded results to look at."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import shapely

from geohr.outputs.vector import open_vector
from geohr.polygons import Polygons
from geohr.polygons.table import DTYPES
from tests.makers import ORIGIN, UTM, noise, write_scene

PROVENANCE = {
    "geohr_version": "0",
    "geohr_scene": "scene.tif",
    "geohr_model": "tiny 1",
    "geohr_options": '{"threshold": 0.5}',
}


def houses(count: int, *, seed: int = 0, spacing: float = 12.0) -> Polygons:
    """L-shaped houses in rows from the scene's upper left corner, with confidences."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(count**0.5))
    number = np.arange(count)
    centres = np.stack(
        [
            ORIGIN[0] + (number % side + 0.5) * spacing,
            ORIGIN[1] - (number // side + 0.5) * spacing,
        ],
        axis=1,
    )
    corners = np.array(
        [[-1, -1], [1, -1], [1, 0.2], [0.3, 0.2], [0.3, 1], [-1, 1], [-1, -1]], float
    )
    sizes = rng.uniform(0.2, 0.4, (count, 1, 2)) * spacing
    geometry = shapely.polygons(corners * sizes + centres[:, None])
    columns = {name: np.zeros(count, dtype) for name, dtype in DTYPES.items()}
    columns["class"][:] = "building"
    columns["class_id"][:] = 1
    columns["confidence"][:] = rng.beta(6, 2, count)
    columns["area_m2"][:] = shapely.area(geometry)
    return Polygons(np.asarray(geometry, object), columns)


def write_objects(path: Path, polygons: Polygons, *, crs: str = UTM) -> Path:
    """A GeoPackage as `segment` writes it; the polygons come in the scenes' own CRS."""
    frame = geopandas.GeoSeries(polygons.geometry, crs=UTM).to_crs(crs)
    moved = Polygons(np.asarray(frame.array, object), polygons.columns)
    colours = {"building": "#e6550d"}
    with open_vector(path, crs=crs, colours=colours, provenance=PROVENANCE) as sink:
        sink.write(moved)
    return path


def read_houses(path: Path) -> geopandas.GeoDataFrame:
    """The objects of a GeoPackage, by their numbers."""
    return pyogrio.read_dataframe(path, layer="houses", fid_as_index=True)


def write_result(folder: Path, count: int = 25) -> tuple[Path, Path]:
    """A scene of 120 m and houses on it."""
    scene = write_scene(folder / "scene.tif", noise(240, 240))
    return scene, write_objects(folder / "houses.gpkg", houses(count))
