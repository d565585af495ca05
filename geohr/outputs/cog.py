"""Finished rows to cloud-optimised GeoTIFFs that appear whole or not at all.

Rows become compressed tiles here (`RasterWriter.write`) or elsewhere (`RasterWriter.add`); the file
is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.io import DatasetWriter, MemoryFile

from geohr._runtime.files import as_output_error, written_whole
from geohr.encoding import NODATA, PROBABILITY_MAX, Ints
from geohr.errors import InputError
from geohr.geobox import GeoBox
from geohr.outputs.assembly import CogAssembly
from geohr.outputs.creation_options import cog_settings
from geohr.outputs.tiff import read_tags
from geohr.outputs.tiles import CogPart, TileEncoder, without_georeference
from geohr.scene.files import FAILURES

# Side in pixels of a raster that has an overview.
SMALL = 16


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

    Attributes:
        encoder: How rows become tiles, for those who make parts of the raster elsewhere.

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
        self._geobox = geobox
        self._descriptions = tuple(descriptions)
        self._tags = dict(tags)
        self._colours = colours
        self._scale = scale
        self.encoder = TileEncoder(
            geobox.height,
            geobox.width,
            len(self._descriptions),
            resampling,
            cog_settings(creation_options or {}),
        )
        self._waiting: list[NDArray[np.uint8]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Open the temporary files."""
        with self._stack as stack:
            self._target = stack.enter_context(written_whole(self._path))
            tiles = self._target.with_suffix(".tiles")
            stack.callback(tiles.unlink, missing_ok=True)
            try:
                file = stack.enter_context(tiles.open("w+b"))
            except OSError as error:
                raise as_output_error(error, self._path) from error
            self._assembly = CogAssembly(self.encoder, file)
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
        """Append rows, `(band, row, col)`, or `(row, col)` for one band.

        Raises:
            OutputError: When the disk is full or went away.
        """
        self._waiting.append(rows if rows.ndim == 3 else rows[None])
        if sum(each.shape[1] for each in self._waiting) >= self.encoder.tile:
            self._flush(whole_tiles=True)

    def add(self, part: CogPart) -> None:
        """Append rows of which tiles were made elsewhere, by `encoder`.

        Raises:
            OutputError: When the disk is full or went away.
        """
        try:
            self._assembly.add(part)
        except (*FAILURES, OSError) as error:
            raise as_output_error(error, self._path) from error

    def _flush(self, *, whole_tiles: bool) -> None:
        """Make tiles of what waits, in whole rows of them where more is to come."""
        rows = np.concatenate(self._waiting, axis=1)
        tile = self.encoder.tile
        count = rows.shape[1] // tile * tile if whole_tiles else rows.shape[1]
        self._waiting = [rows[:, count:]] if count < rows.shape[1] else []
        try:
            self._assembly.add(self.encoder.part(self._assembly.came, rows[:, :count]))
        except (*FAILURES, OSError) as error:
            raise as_output_error(error, self._path) from error

    def _describe(self, raster: DatasetWriter) -> None:
        """Set names, tags and colours of the bands, and statistics where they are asked for."""
        raster.update_tags(**self._tags)
        for band, name in enumerate(self._descriptions, start=1):
            raster.set_band_description(band, name)
            if self.encoder.counted:
                raster.update_tags(band, **statistics(self._assembly.counts[band - 1]))
        raster.scales = (self._scale,) * len(self._descriptions)
        if self._colours is not None:
            raster.write_colormap(1, {**self._colours, NODATA: (0, 0, 0)})

    def _finish(self) -> None:
        """Write the COG, of the same tags as a small one that GDAL writes."""
        encoder = self.encoder
        settings = {name: each for name, each in encoder.settings.items() if name != "STATISTICS"}
        if len(encoder.shapes) > 1:
            settings |= {"OVERVIEWS": "AUTO", "OVERVIEW_COUNT": "1"}
        try:
            if self._waiting:
                self._flush(whole_tiles=False)
            with without_georeference(), MemoryFile() as rows, MemoryFile(ext=".tif") as small:
                with rows.open(
                    driver="GTiff", dtype="uint8", count=encoder.bands, height=SMALL, width=SMALL,
                    crs=self._geobox.crs, transform=self._geobox.transform, nodata=NODATA,
                ) as raster:  # fmt: skip
                    self._describe(raster)
                rasterio.shutil.copy(rows.name, small.name, driver="COG", **settings)
                between, directories = read_tags(small.read())
            self._assembly.finish(
                self._target, between, directories, bigtiff=settings["BIGTIFF"].upper()
            )
        except (*FAILURES, OSError) as error:
            raise as_output_error(error, self._path) from error


def statistics(counts: Ints) -> dict[str, str]:
    """What GDAL keeps of the values of a band, by how often each comes, `(256,)`."""
    known = counts[:NODATA]
    total = int(known.sum())
    if total == 0:
        return {}
    values = np.arange(NODATA)
    mean = float((values * known).sum()) / total
    variance = float(((values - mean) ** 2 * known).sum()) / total
    there = np.flatnonzero(known)
    found = {
        "MINIMUM": float(there[0]),
        "MAXIMUM": float(there[-1]),
        "MEAN": mean,
        "STDDEV": variance**0.5,
    }
    share = 100 * total / int(counts.sum())
    return {
        **{f"STATISTICS_{name}": f"{value:.14g}" for name, value in found.items()},
        "STATISTICS_VALID_PERCENT": f"{share:.4g}",
    }


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
