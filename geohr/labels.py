"""Labels read by windows of a scene, from rasters on its grid or from vectors.

A label is a class id: 0 background, 1 and up classes, 255 not annotated.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyogrio
import pyogrio.errors
import rasterio.errors
import rasterio.warp
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import array_bounds
from rasterio.windows import Window as RasterWindow

from geohr.errors import InputError
from geohr.grid import Window
from geohr.metrics import IGNORE
from geohr.samples import Sample
from geohr.scene import Scene, open_raster

Classes = NDArray[np.uint8]

VECTOR_SUFFIXES = (".gpkg", ".geojson", ".json", ".fgb", ".shp", ".parquet")
"""Labels with these endings are vectors; all others are rasters."""


def read_labels(sample: Sample, window: Window) -> Classes:
    """Class ids `(row, col)` of a window that lies inside the sample's scene.

    Raises:
        InputError: When the labels cannot be read or do not lie on the scene's grid.
    """
    if sample.label is None:
        return np.full((window.height, window.width), IGNORE, np.uint8)
    return read_classes(sample.label, sample.scene, window)


def read_classes(path: str, scene: Scene, window: Window) -> Classes:
    """Class ids `(row, col)` of a window that lies inside the scene, from vectors or a raster.

    Raises:
        InputError: When the labels cannot be read or do not lie on the scene's grid.
    """
    if Path(path).suffix.lower() in VECTOR_SUFFIXES:
        return read_vector(path, scene, window)
    return read_raster(path, scene, window)


def read_raster(path: str, scene: Scene, window: Window) -> Classes:
    """Class ids from the first band of a raster of the scene's size."""
    where = RasterWindow(window.col, window.row, window.width, window.height)
    with open_raster(path) as raster:
        if raster.shape != (scene.height, scene.width):
            raise InputError(
                f"{path}: {raster.height} x {raster.width} pixels, but its scene {scene.path} has "
                f"{scene.height} x {scene.width}; give labels on the scene's grid"
            )
        if raster.dtypes[0] != "uint8":
            raise InputError(
                f"{path}: {raster.dtypes[0]} labels; class ids must be uint8 with 255 where "
                "nothing is annotated"
            )
        try:
            classes: Classes = raster.read(1, window=where)
        except rasterio.errors.RasterioIOError as error:
            raise InputError(f"{path}: the labels cannot be read ({error})") from error
    return classes


def read_vector(path: str, scene: Scene, window: Window) -> Classes:
    """Class 1 where a polygon of the file covers a pixel's centre."""
    if scene.crs is None:
        raise InputError(
            f"{scene.path}: has no CRS, so vector labels cannot be placed on it; "
            "give raster labels on its grid"
        )
    transform = scene.transform @ Affine.translation(window.col, window.row)
    try:
        layer = first_layer(path)
        crs = pyogrio.read_info(path, layer=layer)["crs"]
        if crs is None:
            raise InputError(f"{path}: has no CRS; assign one first")
        reach = window_bounds(transform, window, scene, crs)
        polygons = pyogrio.read_dataframe(path, layer=layer, columns=[], bbox=reach)
    except pyogrio.errors.DataSourceError as error:
        raise InputError(f"{path}: not vectors that can be read ({error})") from error
    polygons = polygons.to_crs(scene.crs.to_wkt())
    shapes = [shape for shape in polygons.geometry if shape is not None and not shape.is_empty]
    if not shapes:
        return np.zeros((window.height, window.width), np.uint8)
    drawn: Classes = rasterize(
        shapes, out_shape=(window.height, window.width), transform=transform, dtype=np.uint8
    )
    return drawn


def first_layer(path: str | Path) -> str:
    """The first layer with geometries: a GPKG may hold others, such as its styles.

    Raises:
        InputError: When there is none.
    """
    for name, kind in pyogrio.list_layers(path):
        if kind is not None:
            return str(name)
    raise InputError(f"{path}: holds no layer with geometries")


def window_bounds(
    transform: Affine, window: Window, scene: Scene, crs: str
) -> tuple[float, float, float, float]:
    """The window's bounds in another CRS, its bent edges included."""
    left, bottom, right, top = array_bounds(window.height, window.width, transform)
    bounds = (min(left, right), min(top, bottom), max(left, right), max(top, bottom))
    west, south, east, north = rasterio.warp.transform_bounds(scene.crs, crs, *bounds)
    return float(west), float(south), float(east), float(north)
