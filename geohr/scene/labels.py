"""Labels read by windows of a scene, from rasters on its grid or from vectors.

A label is a class id: 0 background, 1 and up classes, 255 not annotated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyogrio
import pyogrio.errors
import rasterio.errors
import rasterio.warp
import shapely
from rasterio.features import rasterize

from geohr.encoding import IGNORE, Bytes
from geohr.errors import InputError
from geohr.geobox import Window
from geohr.scene import Scene, open_raster
from geohr.scene.provenance import file_version
from geohr.scene.vectors import (
    LABELLED,
    LABELS,
    PARQUET,
    check_layer,
    first_layer,
    is_vector,
    read_parquet,
)

if TYPE_CHECKING:
    import geopandas


def read_classes(path: str, scene: Scene, window: Window, *, legend: Legend | None = None) -> Bytes:
    """Class ids `(row, col)` of a window that lies inside the scene, from vectors or a raster.

    By default every polygon is class 1.

    Raises:
        InputError: When the labels cannot be read or do not lie on the scene's grid.
    """
    if is_vector(path):
        return read_vector(path, scene, window, legend=legend)
    return read_raster(path, scene, window)


def read_raster(path: str, scene: Scene, window: Window) -> Bytes:
    """Class ids from the first band of a raster of the scene's size."""
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
            classes: Bytes = raster.read(1, window=window.slices)
        except rasterio.errors.RasterioIOError as error:
            raise InputError(f"{path}: the labels cannot be read ({error})") from error
    return classes


def read_vector(
    path: str,
    scene: Scene,
    window: Window,
    *,
    legend: Legend | None = None,
    prefer: str = LABELS,
) -> Bytes:
    """Class ids where a polygon of the file covers a pixel's centre, 0 elsewhere.

    Later polygons lie over earlier ones, those that are not annotated over all.

    Args:
        path: The polygons.
        scene: On whose grid they are wanted.
        window: Which part of it.
        legend: How the polygons tell classes; by default every polygon is class 1.
        prefer: The layer that is read where the file has it, rather than the first.

    Raises:
        InputError: When the polygons cannot be read.
    """
    legend = legend or Legend()
    polygons = read_polygons(path, scene, window, legend, prefer=prefer)
    ids = class_ids(polygons, legend, path)
    order = np.argsort(ids == IGNORE, kind="stable")
    shapes = [
        (shape, ids[index])
        for index, shape in zip(order, polygons.geometry.to_numpy()[order], strict=True)
        if shape is not None and not shape.is_empty
    ]
    size = (window.height, window.width)
    if not shapes:
        return np.zeros(size, np.uint8)
    transform = scene.geobox.window(window).transform
    drawn: Bytes = rasterize(shapes, out_shape=size, transform=transform, dtype=np.uint8)
    return drawn


def read_polygons(
    path: str, scene: Scene, window: Window, legend: Legend, *, prefer: str = LABELS
) -> geopandas.GeoDataFrame:
    """The polygons that touch a window, in the scene's CRS, with the legend's attribute."""
    if scene.crs is None:
        raise InputError(
            f"{scene.path}: has no CRS, so vector labels cannot be placed on it; "
            "give raster labels on its grid"
        )
    wanted = [] if legend.attribute is None else [legend.attribute]
    if Path(path).suffix.lower() == PARQUET:
        table = read_parquet(path)
        check_layer(path, table.crs, list(table.columns), wanted)
        box = shapely.box(*window_bounds(scene, window, table.crs.to_wkt()))
        return table.iloc[np.sort(table.sindex.query(box))].to_crs(scene.crs.to_wkt())
    try:
        layer = first_layer(path, prefer=prefer)
        info = pyogrio.read_info(path, layer=layer)
        check_layer(path, info["crs"], list(info["fields"]), wanted)
        reach = window_bounds(scene, window, info["crs"])
        polygons = pyogrio.read_dataframe(path, layer=layer, columns=wanted, bbox=reach)
    except pyogrio.errors.DataSourceError as error:
        raise InputError(f"{path}: not vectors that can be read ({error})") from error
    return polygons.to_crs(scene.crs.to_wkt())


def class_ids(polygons: geopandas.GeoDataFrame, legend: Legend, path: str) -> Bytes:
    """`(n,)` class ids of polygons by their attribute.

    Raises:
        InputError: For a value that is neither an id nor a name.
    """
    if legend.attribute is None:
        return np.ones(len(polygons), np.uint8)
    ids = []
    for value in polygons[legend.attribute]:
        known = {"ignore": IGNORE, **{name: i for i, name in enumerate(legend.names, 1)}}
        number = known.get(value, value)
        if not isinstance(number, (int, float, np.number)) or number not in range(256):
            raise InputError(
                f"{path}: attribute {legend.attribute} holds {value!r}; allowed are the class "
                f"names {', '.join(legend.names)} and ignore, or ids from 0 to 255"
            )
        ids.append(int(number))
    return np.array(ids, np.uint8)


def aoi_window(path: str, scene: Scene) -> Window:
    """The smallest window of the scene that holds all polygons of the file within it.

    Raises:
        InputError: When no polygon lies on the scene.
    """
    return _aoi_window(path, file_version(path), scene)


@lru_cache(maxsize=4096)
def _aoi_window(path: str, version: object, scene: Scene) -> Window:
    """The window of one version of the file; training asks for it at every window it draws."""
    del version
    polygons = read_polygons(path, scene, scene.geobox.extent, Legend(), prefer=LABELLED)
    if polygons.empty:
        raise InputError(f"{path}: holds no polygon on the scene {scene.path}")
    corners = shapely.get_coordinates(shapely.box(*polygons.total_bounds))
    cols, rows = scene.geobox.to_pixels(corners[:, 0], corners[:, 1])
    first_row, first_col = max(int(rows.min()), 0), max(int(cols.min()), 0)
    last_row = min(int(np.ceil(rows.max())), scene.height)
    last_col = min(int(np.ceil(cols.max())), scene.width)
    if last_row <= first_row or last_col <= first_col:
        raise InputError(f"{path}: holds no polygon on the scene {scene.path}")
    return Window(first_row, first_col, last_row - first_row, last_col - first_col)


def window_bounds(scene: Scene, window: Window, crs: str) -> tuple[float, float, float, float]:
    """The window's bounds in another CRS, its bent edges included."""
    bounds = scene.geobox.window(window).bounds
    west, south, east, north = rasterio.warp.transform_bounds(scene.crs, crs, *bounds)
    return float(west), float(south), float(east), float(north)


@dataclass(frozen=True)
class Legend:
    """How an attribute of vector labels tells a polygon's class.

    Attributes:
        attribute: The column, of class ids or class names; None where every polygon is class 1.
        names: Class names, in the order of their ids, from 1. The name `ignore` and the id 255
            mark ground that is not annotated.
    """

    attribute: str | None = None
    names: tuple[str, ...] = ()
