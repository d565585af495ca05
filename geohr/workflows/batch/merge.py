"""Polygons of scenes that overlap into one file, each object once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyogrio
import pyogrio.errors
import shapely
from numpy.typing import NDArray

from geohr._runtime.files import check_writable
from geohr.errors import InputError, UsageError
from geohr.outputs.formats import SHAPEFILE_NAMES
from geohr.outputs.vector import check_extension, open_vector
from geohr.polygons.antimeridian import transform_polygons
from geohr.polygons.table import DTYPES, Polygons
from geohr.scene.vectors import first_layer

SAME = 0.5
"""Share of the smaller of two polygons from which both are taken to be one object."""
SCENE = "scene"
"""The column that names an object's scene; scenes of two folders may share their name."""
FILE = "file"
"""The column that tells the files apart while they are joined."""


@dataclass(frozen=True)
class MergeCounts:
    """The result of a merge.

    Attributes:
        kept: Objects written.
        twice: Objects left out, for another scene shows them too.
    """

    kept: int
    twice: int


def merge_files(
    files: Sequence[Path],
    out: Path,
    *,
    colours: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> MergeCounts:
    """Join vector files that `segment` or `batch` wrote, in the first one's CRS.

    Of objects of one class that different scenes show, the one stays that is not cut by its
    scene's edge; then the more confident; then the larger; then that of the file named first.

    Args:
        files: Each the polygons of one scene; they are held in memory.
        out: The file to write, by extension.
        colours: Class names to "#rrggbb", for the style that a GPKG carries.
        overwrite: Replace `out` where it exists.

    Raises:
        UsageError: When `out` exists or its extension is not known, or there is no file.
        InputError: When a file cannot be read, or has not the columns of `segment`.
        OutputError: When `out` cannot be written.
    """
    check_extension(out)
    check_writable(out, overwrite=overwrite, inputs=files)
    if not files:
        raise UsageError(f"{out}: no polygons to merge; add an output such as --name {{stem}}.gpkg")
    frames = [read_objects(path) for path in dict.fromkeys(files)]
    crs = frames[0].crs
    frames = [in_crs(frame, crs) for frame in frames]
    # Numbers, as scenes of two folders may share their name.
    frames = [frame.assign(**{FILE: number}) for number, frame in enumerate(frames)]
    joined = geopandas.GeoDataFrame(pd.concat(frames, ignore_index=True), crs=crs)
    kept = joined[once(joined)]
    names = (*DTYPES, SCENE)
    columns = {name: kept[name].to_numpy(DTYPES.get(name, "object")) for name in names}
    geometry = kept.geometry.to_numpy()
    several = bool((shapely.get_type_id(geometry) == shapely.GeometryType.MULTIPOLYGON).any())
    with open_vector(out, crs=crs, multi=several, colours=colours) as sink:
        sink.write(Polygons(np.asarray(geometry, object), columns))
    return MergeCounts(len(kept), len(joined) - len(kept))


def in_crs(frame: geopandas.GeoDataFrame, crs: Any) -> geopandas.GeoDataFrame:
    """The polygons in a CRS, cut at the antimeridian; as they are where a CRS is not known."""
    if crs is None or frame.crs is None or frame.crs == crs:
        return frame
    moved = transform_polygons(frame.geometry.to_numpy(), frame.crs, crs)
    return frame.set_geometry(geopandas.GeoSeries(moved, index=frame.index, crs=crs))


def read_objects(path: Path) -> geopandas.GeoDataFrame:
    """The polygons of one scene.

    Raises:
        InputError: When the file cannot be read, or has not the columns of `segment`.
    """
    try:
        if path.suffix.lower() == ".parquet":
            frame = geopandas.read_parquet(path)
        else:
            # A GeoPackage has its styles in a layer of their own.
            with no_sidecars():
                frame = geopandas.read_file(path, layer=first_layer(path))
    except (OSError, ValueError, pyogrio.errors.DataSourceError) as error:
        raise InputError(f"{path}: cannot be read as polygons ({error})") from error
    frame = frame.rename(columns={short: name for name, short in SHAPEFILE_NAMES.items()})
    missing = [name for name in (*DTYPES, SCENE) if name not in frame.columns]
    if missing:
        raise InputError(f"{path}: has no column {missing[0]}; merge what geohr segment wrote")
    return frame[[*DTYPES, SCENE, "geometry"]]


@contextmanager
def no_sidecars() -> Iterator[None]:
    """Keep GDAL from leaving a .aux.xml beside a GeoPackage that is only read."""
    before = pyogrio.get_gdal_config_option("GDAL_PAM_ENABLED")
    pyogrio.set_gdal_config_options({"GDAL_PAM_ENABLED": "NO"})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"GDAL_PAM_ENABLED": before})


def once(objects: geopandas.GeoDataFrame) -> NDArray[np.bool_]:
    """Select the objects to keep, `(n,)` True, so that none of `segment`'s is there twice."""
    geometry = objects.geometry.to_numpy()
    area = shapely.area(geometry)
    cut = objects["touches_edge"].to_numpy(bool)
    confidence = np.nan_to_num(objects["confidence"].to_numpy(float))
    order = np.lexsort((np.arange(len(objects)), -area, -confidence, cut))
    rank = np.empty(len(objects), int)
    rank[order] = np.arange(len(objects))
    rivals: dict[int, list[int]] = {}
    for first, second in zip(*pairs(objects), strict=True):
        worse, better = sorted((int(first), int(second)), key=lambda index: -rank[index])
        rivals.setdefault(worse, []).append(better)
    stays = np.ones(len(objects), bool)
    # The best come first, so that what an object yields to is settled before it is looked at.
    for index in order:
        stays[index] = not any(stays[better] for better in rivals.get(int(index), ()))
    return stays


def pairs(objects: geopandas.GeoDataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Objects of one class in different files that are one object."""
    geometry = objects.geometry.to_numpy()
    file = objects[FILE].to_numpy()
    kind = objects["class"].to_numpy()
    first, second = shapely.STRtree(geometry).query(geometry, predicate="intersects")
    near = (first < second) & (file[first] != file[second]) & (kind[first] == kind[second])
    first, second = first[near], second[near]
    shared = shapely.area(shapely.intersection(geometry[first], geometry[second]))
    smaller = np.minimum(shapely.area(geometry[first]), shapely.area(geometry[second]))
    same = shared >= SAME * smaller
    return first[same], second[same]
