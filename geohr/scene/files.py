"""Pixels out of a file."""

from __future__ import annotations

import logging
import math
import os
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
import rasterio.errors
from rasterio._err import CPLE_BaseError
from rasterio.env import ensure_env_with_credentials

from geohr._runtime.redact import redact
from geohr._runtime.stores import CREDENTIALS, gdal_options
from geohr.encoding import Mask, Pixels
from geohr.errors import InputError
from geohr.geobox import Window

if TYPE_CHECKING:
    from geohr.scene.scene import Scene

BLOCK_ROWS_MAX = 2048
"""Blocks up to this height are read whole; of higher ones only the rows that are needed."""
RETRIES = 4
"""How often a part of a remote file is asked for again, with the file opened anew."""
RETRY_SECONDS = 0.5
"""Before the first time; each wait is twice the one before."""
LOG = logging.getLogger("geohr")


class FileReader:
    """A scene's file, open.

    Args:
        scene: Of a file.

    Raises:
        InputError: When the file is gone or no longer a raster.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._raster = open_raster(scene.path)

    def close(self) -> None:
        """Close the file."""
        self._raster.close()

    def read_inside(self, window: Window, pixels: Pixels, valid: Mask) -> None:
        """Read a window of the file; see `geohr.scene.SceneReader.read_inside`."""
        try:
            self._attempt(lambda: self._read(window, pixels, valid))
        except FAILURES as error:
            scene = self._scene
            if scene.on_read_error == "nodata":
                self._read_what_can_be(window, pixels, valid)
                return
            raise InputError(
                f"{scene.path}: cannot be read at rows {window.row} to {window.row_stop} "
                f"({error.__cause__ or error}); the file may be truncated or damaged, in which "
                "case --on-read-error nodata goes on without the blocks that are lost"
            ) from error

    def _read(self, window: Window, pixels: Pixels, valid: Mask) -> None:
        """Read, once."""
        scene = self._scene
        self._raster.read(list(scene.bands), window=window.slices, out=pixels)
        valid[...] = is_valid(pixels, scene)
        if scene.mask_band:
            valid &= self._raster.dataset_mask(window=window.slices) > 0

    def _attempt(self, read: Callable[[], None]) -> None:
        """Read; over a network several times, as answers are cut short now and then."""
        for attempt in range(RETRIES if is_remote(self._scene.path) else 0):
            try:
                self._reopen()
                read()
            except (*FAILURES, InputError) as error:
                LOG.info("%s: read again (%s)", redact(self._scene.path), error)
                time.sleep(RETRY_SECONDS * 2**attempt)
                self._raster.close()
            else:
                return
        self._reopen()
        read()

    def _reopen(self) -> None:
        """Open the file again after an attempt that failed."""
        if self._raster.closed:
            self._raster = open_raster(self._scene.path)

    def _read_what_can_be(self, window: Window, pixels: Pixels, valid: Mask) -> None:
        """Read a window block by block; blocks that cannot be read become no data."""
        scene = self._scene
        height = min(scene.block_height, BLOCK_ROWS_MAX)
        width = self._raster.block_shapes[0][1]
        lost = 0
        reader = FileReader(replace(scene, on_read_error="fail"))
        try:
            for row in range(window.row // height * height, window.row_stop, height):
                for col in range(window.col // width * width, window.col_stop, width):
                    part = Window(row, col, height, width).within(window)
                    rows, cols = part.relative_to(window).slices
                    held = np.zeros((len(pixels), part.height, part.width), pixels.dtype)
                    fine = np.zeros((part.height, part.width), bool)
                    try:
                        reader.read_inside(part, held, fine)
                    except InputError:
                        lost += 1
                        held[:], fine[:] = 0, False
                    pixels[:, rows, cols], valid[rows, cols] = held, fine
        finally:
            reader.close()
        LOG.warning(
            "%s: %d damaged blocks at rows %d to %d taken as no data",
            redact(scene.path), lost, window.row, window.row_stop,
        )  # fmt: skip


def is_valid(pixels: Pixels, scene: Scene) -> Mask:
    """Where pixels are neither nodata nor NaN nor infinite.

    Args:
        pixels: `(band, row, col)`.
        scene: Whose nodata value and rule hold.

    Returns:
        `(row, col)`, True = valid.
    """
    valid = np.ones(pixels.shape[1:], bool)
    if pixels.dtype.kind == "f":
        valid &= np.isfinite(pixels).all(axis=0)
    if scene.nodata is not None and not np.isnan(scene.nodata):
        equal = pixels == scene.nodata
        valid &= ~(equal.all(axis=0) if scene.nodata_match == "all" else equal.any(axis=0))
    return valid


DRIVERS = (
    "GTiff", "VRT", "JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID", "ECW", "MrSID", "HFA", "ENVI",
    "NITF", "MRF", "PNG", "JPEG", "WEBP", "MEM",
)  # fmt: skip
"""Formats that are read; GDAL has others that run queries or fetch what a file names."""
SAFETY = {"GDAL_VRT_ENABLE_PYTHON": "NO"}
"""No file may make GDAL run code."""
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
"""How GDAL reads over a network; what the environment sets wins."""
ARCHIVES = ("zip", "tar", "gzip")
"""Kinds of names that lead into a file."""
FAILURES = (rasterio.errors.RasterioError, CPLE_BaseError)
"""What rasterio raises for a file that it cannot make sense of."""


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
    try:
        with rasterio.Env(**settings(path)), warnings.catch_warnings():
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


@ensure_env_with_credentials  # type: ignore[untyped-decorator]
def open_with(path: str, drivers: Sequence[str]) -> rasterio.DatasetReader:
    """The raster at `path`, opened by one of the drivers; `rasterio.open` takes but one."""
    return rasterio.DatasetReader(path, driver=list(drivers))


def members(path: Path) -> str:
    """How to name what lies in an archive."""
    with zipfile.ZipFile(path) as archive:
        held = [each for each in archive.namelist() if not each.endswith("/")]
    if not held:
        return "nothing is in it"
    shown = next((each for each in held if each.lower().endswith((".tif", ".tiff"))), held[0])
    return f"name one of the {len(held)} files in it, such as zip://{path}!{shown}"


def refusal(path: str | Path, error: BaseException) -> str:
    """What is wrong with a raster that cannot be opened, and what to do."""
    told = str(error)
    if not is_remote(path):
        return f"{path}: not a raster that GDAL can read ({told})"
    kind = str(path).partition("://")[0].split("+")[-1]
    denied = any(word in told for word in ("redential", "403", "401", "AccessDenied", "Forbidden"))
    if denied and kind in CREDENTIALS:
        return f"{path}: access is refused ({told}); {CREDENTIALS[kind]}"
    if "404" in told or "does not exist" in told or "NoSuch" in told:
        return f"{path}: nothing is there ({told}); check the address"
    if "urn response code" in told or "CURL" in told or "HTTP" in told or "resolve" in told:
        return f"{path}: cannot be reached ({told}); check the address and the network"
    return f"{path}: not a raster that GDAL can read, or not reachable ({told})"


BLOCK_BYTES_MAX = 2**30
"""A single block of a file that needs more memory than this is refused."""
CLAIMED_BYTES = 2**36
"""Up to this size a scene may be as sparse as it likes."""
CLAIMED_RATIO = 100_000
"""How many times its file's bytes a larger scene may claim; the best codecs reach a thousandth."""


def check_raster(raster: Any, path: str | Path) -> None:
    """Refuse a raster that cannot be segmented as it is, before any pixel is read.

    Args:
        raster: Open, as rasterio opens it.
        path: Its name, for the message.

    Raises:
        InputError: For a palette, a georeference that is no transform or none that can be, blocks
            that do not fit into memory, and a size that the file cannot have.
    """
    if any(meaning.name == "palette" for meaning in raster.colorinterp):
        raise InputError(
            f"{path}: its pixels are places in a palette; expand them with "
            "gdal_translate -expand rgb"
        )
    check_georeference(raster, path)
    check_blocks(raster, path)
    check_claim(raster, path)


def check_georeference(raster: Any, path: str | Path) -> None:
    """Refuse control points or a sensor model in place of a geotransform, and a bad one."""
    transform = raster.transform
    if transform.is_identity and raster.gcps[0]:
        raise InputError(
            f"{path}: is placed by {len(raster.gcps[0])} ground control points only; "
            "warp it first with gdalwarp"
        )
    if transform.is_identity and raster.rpcs is not None:
        raise InputError(
            f"{path}: is placed by rational polynomials (RPC) only; orthorectify it first, for "
            "instance with gdalwarp -rpc"
        )
    finite = all(math.isfinite(value) for value in transform[:6])
    if not finite or transform.determinant == 0:
        raise InputError(
            f"{path}: its geotransform {tuple(transform[:6])} gives pixels no area; "
            "set the right one with gdal_edit.py -a_ullr"
        )


def check_blocks(raster: Any, path: str | Path) -> None:
    """Refuse blocks that cannot be held in memory."""
    interleaved = getattr(raster.interleaving, "name", "") == "pixel"
    for (height, width), dtype in zip(raster.block_shapes, raster.dtypes, strict=True):
        size = height * width * np.dtype(dtype).itemsize * (raster.count if interleaved else 1)
        if size > BLOCK_BYTES_MAX:
            raise InputError(
                f"{path}: its blocks of {height} x {width} pixels need {size / 1e9:.1f} GB each; "
                "cut it into tiles with gdal_translate -co TILED=YES"
            )


def check_claim(raster: Any, path: str | Path) -> None:
    """Refuse a size that the file's bytes cannot hold."""
    pixel = sum(np.dtype(dtype).itemsize for dtype in raster.dtypes)
    claimed = raster.height * raster.width * pixel
    files = [Path(name) for name in raster.files]
    if claimed <= CLAIMED_BYTES or raster.driver == "VRT" or not all(map(Path.is_file, files)):
        return
    held = sum(file.stat().st_size for file in files)
    if claimed > CLAIMED_RATIO * held:
        raise InputError(
            f"{path}: claims {raster.height} x {raster.width} pixels in a file of {held} bytes; "
            "it is damaged, or has no data to speak of"
        )
