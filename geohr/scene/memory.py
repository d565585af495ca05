"""Scenes that a notebook already holds: open datasets, DataArrays, arrays with a transform."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader, DatasetWriter, MemoryFile
from rasterio.vrt import WarpedVRT

from geohr.errors import InputError, UsageError
from geohr.scene.prepare import SceneLike

if TYPE_CHECKING:
    import xarray

# A scene that is named by paths or URLs, or held in memory.
SceneInput: TypeAlias = "SceneLike | DatasetReader | WarpedVRT | xarray.DataArray | NDArray[Any]"

# Its name in messages, after a folder that GDAL keeps in memory.
NAME = "scene.tif"


@contextmanager
def named(
    scene: SceneInput, *, transform: Affine | None = None, crs: object = None
) -> Iterator[SceneLike]:
    """Give a scene a name by which GDAL can open it, within the block.

    Paths and URLs are their own names, and so is that of an open dataset. Arrays are copied once,
    into memory that GDAL reads.

    Args:
        scene: A path, URL or several; an open rasterio dataset or WarpedVRT; an xarray DataArray
            with the georeference of rioxarray; or an array `(band, row, col)` or `(row, col)`.
        transform: Of an array: from (col, row) of pixel corners to coordinates.
        crs: Of an array: its CRS, such as `EPSG:32636`.

    Raises:
        UsageError: When a scene that has a georeference is given another one, or rioxarray is
            not installed.
        InputError: When the dataset is closed or being written, or an array is no raster.
    """
    if not isinstance(scene, np.ndarray) and (transform is not None or crs is not None):
        raise UsageError("transform and crs are for arrays; other scenes have their own")
    if _is_named(scene):
        yield scene
    elif isinstance(scene, DatasetReader | DatasetWriter | WarpedVRT):
        if scene.closed or isinstance(scene, DatasetWriter):
            state = "closed" if scene.closed else "open for writing"
            raise InputError(f"{scene.name}: is {state}; open it for reading, or give its path")
        if isinstance(scene, DatasetReader):
            yield scene.name
            return
        # A WarpedVRT has no name by which it can be opened again.
        with MemoryFile(filename=NAME) as file:
            rasterio.shutil.copy(scene, file.name, driver="GTiff")
            yield file.name
    else:
        with MemoryFile(filename=NAME) as file:
            try:
                if isinstance(scene, np.ndarray):
                    _write_array(file.name, scene, transform, crs)
                else:
                    _write_dataarray(file.name, scene)
            except (RasterioError, TypeError) as error:
                raise InputError(f"the array cannot be read as a raster ({error})") from error
            yield file.name


def _is_named(scene: SceneInput) -> TypeGuard[SceneLike]:
    """Whether the scene is named already."""
    return isinstance(scene, str | Path | Sequence)


def _write_array(path: str, pixels: NDArray[Any], transform: Affine | None, crs: object) -> None:
    """Write an array as a GeoTIFF.

    Raises:
        InputError: When it has not two or three dimensions.
        UsageError: For a CRS that nothing understands, or one without a transform.
    """
    if pixels.ndim not in (2, 3) or pixels.size == 0:
        raise InputError(
            f"an array must be (band, row, col) or (row, col) and not empty; got {pixels.shape}"
        )
    if crs is not None and transform is None:
        raise UsageError("an array with crs needs transform, which says where its pixels lie")
    try:
        known = None if crs is None else CRS.from_user_input(crs)
    except CRSError as error:
        raise UsageError(f"crs: {error}; give one such as EPSG:32636") from error
    bands = pixels.astype(np.uint8) if pixels.dtype == bool else pixels
    bands = bands if bands.ndim == 3 else bands[None]
    count, height, width = bands.shape
    placed = {} if transform is None else {"transform": transform}
    profile = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    with warnings.catch_warnings():
        # Whether a scene without a CRS can be used is said by who reads it.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", crs=known, **profile, **placed) as file:
            file.write(bands)


def _write_dataarray(path: str, array: Any) -> None:
    """Write a DataArray as rioxarray does, with its nodata value and data type on disk.

    Raises:
        UsageError: When the object is no scene, or rioxarray is not installed.
        InputError: When the array has no dimensions of space.
    """
    if not hasattr(array, "dims"):
        raise UsageError(
            "a scene is a path, a URL, an open rasterio dataset, a DataArray or an array; got "
            f"{type(array).__name__}"
        )
    try:
        import rioxarray  # gives every DataArray its `rio`
    except ImportError as error:
        raise UsageError("a DataArray needs rioxarray; pip install 'geohr[notebook]'") from error
    if array.dtype.kind == "f" and array.rio.encoded_nodata is None:
        # Without a value for it, NaN has no place in the whole numbers that were on disk.
        array = array.copy(deep=False)
        whole = ("dtype", "rasterio_dtype")
        array.encoding = {name: each for name, each in array.encoding.items() if name not in whole}
    try:
        array.transpose(..., array.rio.y_dim, array.rio.x_dim).rio.to_raster(path, driver="GTiff")
    except rioxarray.exceptions.RioXarrayError as error:
        raise InputError(f"the DataArray is no raster ({error})") from error
