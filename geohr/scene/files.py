"""Pixels out of a file: opened with care, checked before any pixel is read, read by windows."""

from __future__ import annotations

import logging
import math
import os
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
import rasterio
import rasterio.errors
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.env import ensure_env_with_credentials

from geohr._runtime.redact import redact
from geohr._runtime.stores import CREDENTIALS, gdal_options
from geohr._runtime.threads import FILTERS
from geohr.encoding import Mask, Pixels
from geohr.errors import InputError
from geohr.geobox import Window
from geohr.options import SceneOptions
from geohr.scene.checks import check_raster, check_regular
from geohr.scene.source import BLOCK_ROWS_MAX, PixelReader

# The number of times that a failed read of a remote file is repeated, with the file reopened.
RETRIES = 4
# Before the first time; each wait is twice the one before.
RETRY_SECONDS = 0.5
LOG = logging.getLogger("geohr")


@dataclass(frozen=True)
class FileSource:
    """A raster file; see `geohr.scene.source.PixelSource` for what a source does.

    Attributes:
        path: The file, or any name GDAL can open.
        files: Names of the files that the raster is read from, the first being itself.
        bands: Numbers of the bands in use, from 1, without alpha.
        dtype: Name of numpy's data type that holds all bands in use.
        nodata_values: For each band in use the value that means no data, or None.
        nodata_match: Whether all bands or any band must hold its nodata value.
        on_read_error: Whether blocks that cannot be read end the run or are no data.
        mask_band: Whether the file carries a mask or an alpha band.
        block_height: Rows of the file's blocks.
        row_bytes: Bytes of a row of the file with all its bands.
        one_type: Whether all bands in use have the same data type.
    """

    path: str
    files: tuple[str, ...]
    bands: tuple[int, ...]
    dtype: str
    nodata_values: tuple[float | None, ...]
    nodata_match: Literal["all", "any"]
    on_read_error: Literal["fail", "nodata"]
    mask_band: bool
    block_height: int
    row_bytes: int
    one_type: bool

    @classmethod
    def of(cls, raster: rasterio.DatasetReader, path: str | Path, options: SceneOptions) -> Self:
        """An open raster, described.

        Raises:
            InputError: When it cannot be segmented, or lacks a band that was asked for.
        """
        # GDAL is asked about all bands by each of these properties: once is enough for a file
        # that claims 65,535 of them.
        colours, dtypes = raster.colorinterp, raster.dtypes
        check_raster(raster, path, colours, dtypes)
        alpha = {band for band, each in enumerate(colours, 1) if each == ColorInterp.alpha}
        data_bands = [band for band in raster.indexes if band not in alpha]
        if not data_bands:
            raise InputError(f"{path}: has no band besides alpha; at least one is needed")
        bands = options.bands or tuple(data_bands)
        if missing := set(bands) - set(data_bands):
            raise InputError(
                f"{path}: band {min(missing)} was asked for, but its bands are "
                f"{', '.join(map(str, data_bands))}; choose with --bands"
            )
        own, mask_flags = raster.nodatavals, raster.mask_flag_enums
        used = {dtypes[band - 1] for band in bands}
        dtype = np.result_type(*used)
        values = [own[band - 1] if options.nodata is None else options.nodata for band in bands]
        return cls(
            path=str(path),
            files=tuple(files_of(raster, (str(path),))),
            bands=bands,
            dtype=str(dtype),
            nodata_values=tuple(None if each is None else float(each) for each in values),
            nodata_match=options.nodata_match,
            on_read_error=options.on_read_error,
            mask_band=bool(alpha)
            or any(MaskFlags.per_dataset in mask_flags[band - 1] for band in bands),
            block_height=max(height for height, _ in raster.block_shapes),
            row_bytes=raster.width * (len(data_bands) + bool(alpha)) * dtype.itemsize,
            one_type=len(used) == 1,
        )

    @property
    def nodata(self) -> float | None:
        """The value that means no data in all bands in use, or None where there is no such one."""
        first, *others = self.nodata_values
        return first if all(_same(each, first) for each in others) else None

    def open(self) -> PixelReader:
        """Open the file."""
        return FileReader(self)

    def row_block(self) -> int:
        """Bytes of a row of the file's blocks, or of part of it where blocks are very high."""
        return min(self.block_height, BLOCK_ROWS_MAX) * self.row_bytes

    def select(self, places: Sequence[int]) -> Self:
        """The file with some of its bands in use."""
        return replace(
            self,
            bands=tuple(self.bands[place] for place in places),
            nodata_values=tuple(self.nodata_values[place] for place in places),
        )

    def describe(self) -> dict[str, object]:
        """The settings, besides the bytes of the file, that the pixels depend on."""
        return {"bands": list(self.bands), "nodata": repr(self.nodata_values)}

    def absolute(self) -> Self:
        """The file under a name that holds in any working folder."""
        return replace(self, path=absolute(self.path), files=tuple(map(absolute, self.files)))


def _same(one: float | None, other: float | None) -> bool:
    """Whether two nodata values are the same; NaN is itself."""
    return one == other or (one != one and other != other)


class FileReader:
    """A reader of an open file.

    Args:
        source: Which file, and how.

    Raises:
        InputError: When the file is gone or no longer a raster.
    """

    def __init__(self, source: FileSource) -> None:
        self._source = source
        self._raster = open_raster(source.path)

    def close(self) -> None:
        """Close the file."""
        self._raster.close()

    def read_into(self, window: Window, pixels: Pixels, valid: Mask) -> None:
        """Read a window of the file; see `geohr.scene.source.PixelReader`."""
        try:
            self._attempt(lambda: self._read(window, pixels, valid))
        except FAILURES as error:
            source = self._source
            if source.on_read_error == "nodata":
                self._read_what_can_be(window, pixels, valid)
                return
            raise InputError(
                f"{source.path}: cannot be read at rows {window.row} to {window.row_stop} "
                f"({error.__cause__ or error}); the file may be truncated or damaged, in which "
                "case --on-read-error nodata continues without those blocks"
            ) from error

    def _read(self, window: Window, pixels: Pixels, valid: Mask) -> None:
        """Read without a retry."""
        source = self._source
        if source.one_type:
            self._raster.read(list(source.bands), window=window.slices, out=pixels)
        else:  # rasterio reads bands of several types one by one only
            for band, target in zip(source.bands, pixels, strict=True):
                self._raster.read(band, window=window.slices, out=target)
        valid[...] = is_valid(pixels, source.nodata_values, source.nodata_match)
        if source.mask_band:
            valid &= self._raster.dataset_mask(window=window.slices) > 0

    def _attempt(self, read: Callable[[], None]) -> None:
        """Read; over a network several times, as answers are cut short now and then."""
        for attempt in range(RETRIES if is_remote(self._source.path) else 0):
            try:
                self._reopen()
                read()
            except (*FAILURES, InputError) as error:
                LOG.info("%s: read again (%s)", redact(self._source.path), error)
                time.sleep(RETRY_SECONDS * 2**attempt)
                self._raster.close()
            else:
                return
        self._reopen()
        read()

    def _reopen(self) -> None:
        """Open the file again after an attempt that failed."""
        if self._raster.closed:
            self._raster = open_raster(self._source.path)

    def _read_what_can_be(self, window: Window, pixels: Pixels, valid: Mask) -> None:
        """Read a window block by block; blocks that cannot be read become no data."""
        source = self._source
        height = min(source.block_height, BLOCK_ROWS_MAX)
        width = self._raster.block_shapes[0][1]
        lost = 0
        reader = FileReader(replace(source, on_read_error="fail"))
        try:
            for row in range(window.row // height * height, window.row_stop, height):
                for col in range(window.col // width * width, window.col_stop, width):
                    part = Window(row, col, height, width).within(window)
                    rows, cols = part.relative_to(window).slices
                    held = np.zeros((len(pixels), part.height, part.width), pixels.dtype)
                    fine = np.zeros((part.height, part.width), bool)
                    try:
                        reader.read_into(part, held, fine)
                    except InputError:
                        lost += 1
                        held[:], fine[:] = 0, False
                    pixels[:, rows, cols], valid[rows, cols] = held, fine
        finally:
            reader.close()
        LOG.warning(
            "%s: %d damaged blocks at rows %d to %d taken as no data",
            redact(source.path), lost, window.row, window.row_stop,
        )  # fmt: skip


def is_valid(pixels: Pixels, nodata: Sequence[float | None], match: Literal["all", "any"]) -> Mask:
    """A mask, True where pixels are neither nodata nor NaN nor infinite.

    Args:
        pixels: `(band, row, col)`.
        nodata: For each band the value that means no data, or None.
        match: Whether all bands that have such a value, or any, must hold it.

    Returns:
        `(row, col)`, True = valid.
    """
    valid = np.ones(pixels.shape[1:], bool)
    if pixels.dtype.kind == "f":
        valid &= np.isfinite(pixels).all(axis=0)
    # NaN is no number, and has been taken out already.
    known = [
        band == value
        for band, value in zip(pixels, nodata, strict=True)
        if value is not None and not math.isnan(value)
    ]
    if known:
        valid &= ~(np.logical_and if match == "all" else np.logical_or).reduce(known)
    return valid


# Formats that are read; GDAL has others that run queries or fetch what a file names.
DRIVERS = (
    "GTiff", "VRT", "JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID", "ECW", "MrSID", "HFA", "ENVI",
    "NITF", "MRF", "MBTiles", "PNG", "JPEG", "WEBP", "MEM",
)  # fmt: skip
# No file may make GDAL run code.
SAFETY = {"GDAL_VRT_ENABLE_PYTHON": "NO"}
# GDAL's settings for reading over a network; variables of the environment take precedence.
NETWORK = {
    # Some forty names would be asked for beside each file, of which few are ever there.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_INGESTED_BYTES_AT_OPEN": "65536",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MAX_RETRY": "6",
    "GDAL_HTTP_RETRY_DELAY": "0.3",
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
    # What was read of a file before may be of another version of it.
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/:/vsigs/:/vsiaz/",
}
# Kinds of names that lead into a file.
ARCHIVES = ("zip", "tar", "gzip")
# The exceptions that rasterio raises for a file that it cannot understand.
FAILURES = (rasterio.errors.RasterioError, CPLE_BaseError)


def is_remote(path: str | Path) -> bool:
    """Whether a name leads over a network."""
    text = str(path)
    kind = text.partition("://")[0].split("+")[-1] if "://" in text else ""
    inside = any(f"vsi{each}" in text.split("?")[0] for each in ("curl", "s3", "gs", "az", "adls"))
    return kind in ("http", "https", "s3", "gs", "az") or (text.startswith("/vsi") and inside)


def is_local(path: str | Path) -> bool:
    """Whether a name is that of a file on disk, and of nothing inside it."""
    return "://" not in str(path) and not str(path).startswith("/vsi")


def settings(path: str | Path) -> dict[str, str]:
    """GDAL's settings for reading a raster; what the environment sets wins."""
    if not is_remote(path):
        return SAFETY
    chosen = {name: value for name, value in NETWORK.items() if name not in os.environ}
    return SAFETY | chosen | gdal_options(os.environ)


def open_raster(path: str | Path) -> rasterio.DatasetReader:
    """The raster at `path`, open.

    Raises:
        InputError: When it is missing, cannot be reached, or is no raster.
    """
    local = is_local(path)
    if local and Path(path).is_dir():
        raise InputError(f"{path}: is a folder; name a file, or give folders to geohr batch")
    check_regular(path)
    try:
        with rasterio.Env(**settings(path)), FILTERS, warnings.catch_warnings():
            # A scene without a place on the ground is told of once, and not at each opening.
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            return open_with(str(path) if local else absolute(str(path)), DRIVERS)
    except FAILURES as error:
        if local and not Path(path).exists():
            raise InputError(f"{path}: no such file; check the path") from error
        if local and zipfile.is_zipfile(path):
            raise InputError(f"{path}: is an archive; {members(Path(path))}") from error
        raise InputError(refusal(path, error)) from error


def absolute(name: str) -> str:
    """A raster's name that holds in any working folder.

    Archives need it in this one, too: rasterio takes what comes first in their name for a host.
    """
    if is_local(name):
        return str(Path(name).absolute())
    kind, _, rest = name.partition("://")
    return f"{kind}://{Path(rest).absolute()}" if kind in ARCHIVES else name


# How deep VRTs may be nested: GDAL would follow those that name each other without end.
VRT_DEPTH_MAX = 8


def files_of(raster: rasterio.DatasetReader, chain: tuple[str, ...]) -> dict[str, None]:
    """Names of all files that a raster is read from, those inside of VRTs inside of it too.

    Raises:
        InputError: When VRTs are nested too deep or name each other, or name a pipe.
    """
    found = dict.fromkeys(raster.files or chain[-1:])
    for name in list(found)[1:] if raster.driver == "VRT" else ():
        check_regular(name)
        if name.lower().endswith(".vrt") and Path(name).is_file():
            if name in chain or len(chain) > VRT_DEPTH_MAX:
                raise InputError(
                    f"{chain[0]}: VRTs in it name each other, or are nested more than "
                    f"{VRT_DEPTH_MAX} deep; make one VRT of the files themselves"
                )
            with open_raster(name) as inner:
                found |= files_of(inner, (*chain, name))
    return found


@ensure_env_with_credentials  # type: ignore[untyped-decorator]
def open_with(path: str, drivers: Sequence[str]) -> rasterio.DatasetReader:
    """The raster at `path`, opened by one of the drivers; `rasterio.open` takes but one."""
    return rasterio.DatasetReader(path, driver=list(drivers))


def members(path: Path) -> str:
    """The names under which the members of an archive can be opened."""
    with zipfile.ZipFile(path) as archive:
        held = [each for each in archive.namelist() if not each.endswith("/")]
    if not held:
        return "nothing is in it"
    shown = next((each for each in held if each.lower().endswith((".tif", ".tiff"))), held[0])
    return f"name one of its files, such as zip://{path}!{shown}"


def refusal(path: str | Path, error: BaseException) -> str:
    """The message for a raster that cannot be opened: the cause, and what to do."""
    told = str(error)
    if not is_remote(path):
        return f"{path}: not a raster that GDAL can read ({told})"
    kind = str(path).partition("://")[0].split("+")[-1]
    denied = any(word in told for word in ("redential", "403", "401", "AccessDenied", "Forbidden"))
    if denied and kind in CREDENTIALS:
        return f"{path}: access is refused ({told}); {CREDENTIALS[kind]}"
    if "404" in told or "does not exist" in told or "NoSuch" in told:
        return f"{path}: nothing is there ({told}); check the URL"
    if "urn response code" in told or "CURL" in told or "HTTP" in told or "resolve" in told:
        return f"{path}: cannot be reached ({told}); check the URL and the network"
    return f"{path}: not a raster that GDAL can read, or not reachable ({told})"
