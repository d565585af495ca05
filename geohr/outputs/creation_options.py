"""Creation options of GDAL's COG driver: which may be asked for, and what is the default."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import rasterio.shutil
from rasterio.io import MemoryFile

from geohr.errors import UsageError
from geohr.outputs.tiles import without_georeference
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
