"""Finished rows to cloud-optimised GeoTIFFs that appear whole or not at all.

The COG layout needs the overviews before the pixels, so rows go to a plain tiled GeoTIFF beside
the target first and are copied when all are there.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile
from rasterio.windows import Window as RasterWindow

from geohr._runtime.files import as_output_error, written_whole
from geohr.encoding import NODATA, PROBABILITY_MAX
from geohr.errors import InputError, UsageError
from geohr.geobox import GeoBox
from geohr.scene import CACHE_BYTES
from geohr.scene.files import FAILURES

# Side in pixels of the output's internal tiles.
BLOCK = 512


# The creation options that may be asked for, as GDAL's COG driver names them, and their values.
# Those that change pixels or their grid are left out: class ids have nothing between two.
CREATION_OPTIONS = {
    "BIGTIFF": "YES|NO|IF_NEEDED|IF_SAFER",
    "BLOCKSIZE": "[1-9][0-9]*",
    "COMPRESS": "DEFLATE|ZSTD|LZW|LZMA|NONE",
    "GEOTIFF_VERSION": "AUTO|1.0|1.1",
    "INTERLEAVE": "BAND|PIXEL|TILE",
    "LEVEL": "[1-9][0-9]*",
    "NUM_THREADS": "ALL_CPUS|[1-9][0-9]*",
    "OVERVIEWS": "AUTO|NONE",
    "OVERVIEW_COUNT": "[0-9]+",
    "PREDICTOR": "YES|NO|STANDARD",
    "SPARSE_OK": "YES|NO",
    "STATISTICS": "AUTO|YES|NO",
}


class RasterWriter:
    """A raster of uint8 with 255 as nodata, written row by row; a context manager.

    The file appears when the block ends without an error.

    Args:
        path: The target, `.tif` or `.tiff`.
        geobox: The grid of its pixels.
        descriptions: A name for each band.
        tags: Text that goes into the file's metadata.
        resampling: The resampling of overviews, `nearest` or `average`.
        colours: RGB by pixel value, for a raster of classes.
        scale: The factor from pixel values to probabilities.
        creation_options: Options of GDAL's COG driver, as `check_creation_options` allows them.

    Raises:
        InputError: When a GeoTIFF cannot hold the CRS.
        OutputError: When it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        geobox: GeoBox,
        *,
        descriptions: Sequence[str],
        tags: Mapping[str, str],
        resampling: str,
        colours: Mapping[int, tuple[int, int, int]] | None = None,
        scale: float = 1.0,
        creation_options: Mapping[str, str] | None = None,
    ) -> None:
        check_crs(path, geobox)
        self._path = path
        self._creation_options = dict(creation_options or {})
        self._resampling = resampling
        self._bands = len(descriptions)
        self._width = geobox.width
        self._profile = {
            "driver": "GTiff",
            "dtype": "uint8",
            "count": self._bands,
            "height": geobox.height,
            "width": geobox.width,
            "crs": geobox.crs,
            "transform": geobox.transform,
            "nodata": NODATA,
            "tiled": True,
            "blockxsize": BLOCK,
            "blockysize": BLOCK,
            # These rows are temporary, and the COG is compressed anew: the quickest that every GDAL
            # has, of those that make rows of probabilities half as large.
            "compress": "deflate",
            "zlevel": 1,
            # The compressed size is not known before the last row.
            "bigtiff": "if_safer",
        }
        self._descriptions = tuple(descriptions)
        self._tags = dict(tags)
        self._colours = colours
        self._scale = scale
        self._waiting: list[NDArray[np.uint8]] = []
        self._row = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Open the temporary files."""
        with self._stack as stack:
            self._target = stack.enter_context(written_whole(self._path))
            # Overviews come first in a COG, so that it can only be made from finished rows.
            self._rows = self._target.with_suffix(".rows.tif")
            stack.callback(self._rows.unlink, missing_ok=True)
            try:
                with without_georeference():
                    opened = rasterio.open(self._rows, "w", **self._profile)
                self._raster = stack.enter_context(opened)
            except (*FAILURES, OSError) as error:
                raise as_output_error(error, self._path) from error
            self._describe()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Make the COG and give it its name, or leave nothing behind."""
        if error is not None:
            # What the disk says of a file that is given up hides what went wrong before.
            with suppress(*FAILURES, OSError):
                self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._finish()

    def write(self, rows: NDArray[np.uint8]) -> None:
        """Append rows to the raster.

        Args:
            rows: `(band, row, col)`, or `(row, col)` for one band.

        Raises:
            OutputError: When the disk is full or went away.
        """
        self._waiting.append(rows if rows.ndim == 3 else rows[None])
        if sum(each.shape[1] for each in self._waiting) >= BLOCK:
            self._flush(whole_blocks=True)

    def _flush(self, *, whole_blocks: bool) -> None:
        """Write what waits, in whole rows of blocks where more is to come."""
        rows = np.concatenate(self._waiting, axis=1)
        count = rows.shape[1] // BLOCK * BLOCK if whole_blocks else rows.shape[1]
        where = RasterWindow(0, self._row, rows.shape[2], count)
        try:
            self._raster.write(rows[:, :count], window=where)
        except (*FAILURES, OSError) as error:
            raise as_output_error(error, self._path) from error
        self._waiting = [rows[:, count:]] if count < rows.shape[1] else []
        self._row += count

    def _describe(self) -> None:
        """Set names, tags and colours of the bands."""
        raster = self._raster
        raster.update_tags(**self._tags)
        for band, name in enumerate(self._descriptions, start=1):
            raster.set_band_description(band, name)
        raster.scales = (self._scale,) * self._bands
        if self._colours is not None:
            raster.write_colormap(1, {**self._colours, NODATA: (0, 0, 0)})

    def _finish(self) -> None:
        """Copy the finished rows into the COG."""
        try:
            if self._waiting:
                self._flush(whole_blocks=False)
            self._raster.close()
            # GDAL's cache of blocks would take a share of all memory.
            with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES + BLOCK * self._width * self._bands):
                rasterio.shutil.copy(
                    self._rows,
                    self._target,
                    driver="COG",
                    **cog_settings(self._creation_options),
                    overview_resampling=self._resampling,
                )
        except (*FAILURES, OSError) as error:
            raise as_output_error(error, self._path) from error


def cog_settings(creation_options: Mapping[str, str]) -> dict[str, str]:
    """The settings of GDAL's COG driver: the defaults, and what was asked for."""
    asked = {name.upper(): value for name, value in creation_options.items()}
    # A level means something else in each compression.
    level = {} if "COMPRESS" in asked else {"LEVEL": "6"}
    return {
        "COMPRESS": "DEFLATE",
        "PREDICTOR": "NO",
        "BLOCKSIZE": str(BLOCK),
        "NUM_THREADS": "ALL_CPUS",
        "BIGTIFF": "IF_SAFER",
        **level,
        **asked,
    }


def check_creation_options(creation_options: Mapping[str, str]) -> None:
    """Refuse options that the COG driver does not take, by writing one pixel with them.

    Raises:
        UsageError: Naming the option, and what it may be.
    """
    if not creation_options:
        return
    for name, value in creation_options.items():
        allowed = CREATION_OPTIONS.get(name.upper())
        if allowed is None:
            known = ", ".join(CREATION_OPTIONS)
            raise UsageError(f"creation option {name}: not one of {known}")
        if re.fullmatch(allowed, value, re.IGNORECASE) is None:
            values = allowed.replace("[1-9][0-9]*", "a number").replace("[0-9]+", "a number")
            raise UsageError(f"creation option {name}={value}: must be {values}")
    given = " ".join(f"{name}={value}" for name, value in creation_options.items())
    with without_georeference(), MemoryFile() as first, MemoryFile(ext=".tif") as second:
        try:
            with first.open(driver="GTiff", width=1, height=1, count=1, dtype="uint8") as raster:
                raster.write(np.zeros((1, 1, 1), np.uint8))
            settings = cog_settings(creation_options)
            rasterio.shutil.copy(first.name, second.name, driver="COG", **settings)
        except FAILURES as error:
            raise UsageError(f"creation options {given}: {error}") from error


def check_crs(path: Path, geobox: GeoBox) -> None:
    """Refuse a CRS that GeoTIFF has no keys for, which it would be written without.

    Raises:
        InputError: When a raster in it would have no CRS.
    """
    if geobox.crs is None:
        return
    # GDAL would keep the CRS in a file beside the raster, which does not go where the raster goes.
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), MemoryFile() as file:
        with file.open(
            driver="GTiff", width=1, height=1, count=1, dtype="uint8",
            crs=geobox.crs, transform=geobox.transform,
        ) as raster:  # fmt: skip
            raster.write(np.zeros((1, 1, 1), np.uint8))
        with file.open() as raster:
            if raster.crs is None:
                raise InputError(
                    f"{path}: a GeoTIFF cannot hold the scene's CRS, and --out-crs is for polygons "
                    "only; write polygons alone, or bring the scene into another CRS with "
                    "gdalwarp -t_srs EPSG:4326"
                )


@contextmanager
def without_georeference() -> Iterator[None]:
    """Say nothing of a raster without a place on the ground; its scene has none either."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def write_raster(
    path: Path,
    pixels: NDArray[Any],
    geobox: GeoBox,
    *,
    nodata: float | None,
    valid: NDArray[np.bool_] | None = None,
) -> None:
    """Write a small raster in one go, whole or not at all.

    Args:
        path: The target, `.tif`.
        pixels: `(band, row, col)`.
        geobox: The grid of the pixels, of the same height and width.
        nodata: Value that means no data.
        valid: `(row, col)`, True = valid; written as the file's mask.

    Raises:
        OutputError: When it cannot be written.
    """
    with written_whole(path) as part:
        try:
            with (
                rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
                rasterio.open(
                    part,
                    "w",
                    driver="GTiff",
                    dtype=pixels.dtype,
                    count=len(pixels),
                    height=geobox.height,
                    width=geobox.width,
                    crs=geobox.crs,
                    transform=geobox.transform,
                    nodata=nodata,
                    compress="deflate",
                ) as raster,
            ):
                raster.write(pixels)
                if valid is not None:
                    raster.write_mask(valid)
        except (*FAILURES, OSError) as error:
            raise as_output_error(error, path) from error


def class_writer(
    path: Path,
    geobox: GeoBox,
    colours: Mapping[int, tuple[int, int, int]],
    tags: Mapping[str, str],
    creation_options: Mapping[str, str] | None = None,
) -> RasterWriter:
    """A raster of class ids: 0 background, ids from 1, 255 no data."""
    return RasterWriter(
        path,
        geobox,
        descriptions=["class"],
        tags=tags,
        resampling="nearest",
        colours=colours,
        creation_options=creation_options,
    )


def probability_writer(
    path: Path,
    geobox: GeoBox,
    names: Sequence[str],
    tags: Mapping[str, str],
    creation_options: Mapping[str, str] | None = None,
) -> RasterWriter:
    """A raster of probabilities, a band a class: value / 254, 255 no data."""
    return RasterWriter(
        path,
        geobox,
        descriptions=names,
        tags=tags,
        resampling="average",
        scale=1 / PROBABILITY_MAX,
        creation_options=creation_options,
    )
