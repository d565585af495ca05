"""Rasters opened safely, wherever they live: on disk, in archives, behind addresses."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import rasterio
import rasterio.errors
from rasterio._err import CPLE_BaseError
from rasterio.env import ensure_env_with_credentials

from geohr.endpoints import gdal_options
from geohr.errors import InputError
from geohr.stores import CREDENTIALS

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
