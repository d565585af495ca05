"""Finished rows to cloud-optimised GeoTIFFs that appear whole or not at all.

The COG layout needs the overviews before the pixels, so rows go to a plain tiled GeoTIFF beside
the target first and are copied when all are there.
"""

from __future__ import annotations

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
from rasterio.windows import Window as RasterWindow

from geohr._runtime.files import as_output_error, written_whole
from geohr.encoding import NODATA, PROBABILITY_MAX
from geohr.geobox import GeoBox
from geohr.scene import CACHE_BYTES
from geohr.scene.files import FAILURES

# Side in pixels of the output's internal tiles.
BLOCK = 512


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

    Raises:
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
    ) -> None:
        self._path = path
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
            # These rows are temporary: lzw is quick, and the COG is compressed anew.
            "compress": "lzw",
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
                    compress="DEFLATE",
                    level=6,
                    predictor="NO",
                    blocksize=BLOCK,
                    overview_resampling=self._resampling,
                    num_threads="ALL_CPUS",
                    bigtiff="IF_SAFER",
                )
        except (*FAILURES, OSError) as error:
            raise as_output_error(error, self._path) from error


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
) -> RasterWriter:
    """A raster of class ids: 0 background, ids from 1, 255 no data."""
    return RasterWriter(
        path, geobox, descriptions=["class"], tags=tags, resampling="nearest", colours=colours
    )


def probability_writer(
    path: Path, geobox: GeoBox, names: Sequence[str], tags: Mapping[str, str]
) -> RasterWriter:
    """A raster of probabilities, a band a class: value / 254, 255 no data."""
    return RasterWriter(
        path,
        geobox,
        descriptions=names,
        tags=tags,
        resampling="average",
        scale=1 / PROBABILITY_MAX,
    )
