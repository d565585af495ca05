"""Checks of a raster before any pixel is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp

from geohr._runtime.messages import amount
from geohr.errors import InputError

# A single block of a file that needs more memory than this is refused.
BLOCK_BYTES_MAX = 2**30
# Up to this size a scene may be as sparse as it likes.
CLAIMED_BYTES = 2**36
# The largest ratio of a large scene's bytes to its file's; the best codecs reach a thousand.
CLAIMED_RATIO = 100_000


def check_regular(path: str | Path) -> None:
    """Refuse a pipe or a device, which would be waited for without end, and a name not in UTF-8.

    Raises:
        InputError: When a name on disk is that of neither a file nor a folder, or is not UTF-8.
    """
    # Python holds bytes that are not UTF-8 as single surrogates; GDAL takes no such name.
    if any("\ud800" <= each <= "\udfff" for each in str(path)):
        raise InputError(f"{path}: the name is not in UTF-8; rename the file or its folder")
    on_disk = Path(path)
    if on_disk.exists() and not (on_disk.is_file() or on_disk.is_dir()):
        raise InputError(f"{path}: is a pipe or a device; give a file")


def check_raster(
    raster: Any, path: str | Path, colours: Sequence[ColorInterp], dtypes: Sequence[str]
) -> None:
    """Refuse an open raster that cannot be segmented as it is, before any pixel is read.

    Raises:
        InputError: For MBTiles over a network, complex numbers, a palette, a georeference that is
            no transform or none that can be, blocks that do not fit into memory, and a size that
            the file cannot have.
    """
    # Measured with GDAL 3.10: one tile in four was no data, without an error.
    if raster.driver == "MBTiles" and "://" in str(path):
        raise InputError(
            f"{path}: GDAL loses tiles of MBTiles that it reads over a network; copy the file to "
            "disk, or make it PMTiles with `pmtiles convert`"
        )
    # Not by numpy: it has no type for complex numbers of 16-bit integers.
    if complex_type := next((each for each in dtypes if each.startswith("complex")), None):
        raise InputError(
            f"{path}: pixels are complex numbers ({complex_type}); give a raster of real numbers, "
            "such as the amplitude"
        )
    if ColorInterp.palette in colours:
        raise InputError(
            f"{path}: its pixels are places in a palette; expand them with "
            "gdal_translate -expand rgb"
        )
    check_georeference(raster, path)
    check_blocks(raster, path, dtypes)
    check_claim(raster, path, dtypes)


def check_georeference(raster: Any, path: str | Path) -> None:
    """Refuse control points or a sensor model in place of a geotransform, and a bad one."""
    transform = raster.transform
    if transform.is_identity and raster.gcps[0]:
        raise InputError(
            f"{path}: is placed by {amount(len(raster.gcps[0]), 'ground control point')} only; "
            "warp it first with gdalwarp"
        )
    if transform.is_identity and has_rpcs(raster):
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


def has_rpcs(raster: Any) -> bool:
    """Whether rational polynomials place a raster, well written or not."""
    try:
        return raster.rpcs is not None
    except (ValueError, KeyError):  # rasterio parses them: text for a number, one missing
        return True


def check_blocks(raster: Any, path: str | Path, dtypes: Sequence[str]) -> None:
    """Refuse blocks that cannot be held in memory."""
    interleaved = getattr(raster.interleaving, "name", "") == "pixel"
    for (height, width), dtype in zip(raster.block_shapes, dtypes, strict=True):
        size = height * width * np.dtype(dtype).itemsize * (raster.count if interleaved else 1)
        if size > BLOCK_BYTES_MAX:
            raise InputError(
                f"{path}: its blocks of {height} x {width} pixels need {size / 1e9:.1f} GB each; "
                "cut it into tiles with gdal_translate -co TILED=YES"
            )


def check_claim(raster: Any, path: str | Path, dtypes: Sequence[str]) -> None:
    """Refuse a size that the file's bytes cannot hold."""
    pixel = sum(np.dtype(dtype).itemsize for dtype in dtypes)
    claimed = raster.height * raster.width * pixel
    files = [Path(name) for name in raster.files]
    if claimed <= CLAIMED_BYTES or raster.driver == "VRT" or not all(map(Path.is_file, files)):
        return
    held = sum(file.stat().st_size for file in files)
    if claimed > CLAIMED_RATIO * held:
        raise InputError(
            f"{path}: claims {raster.height} x {raster.width} pixels in a file of {held} bytes; "
            "it is damaged, or almost all of it is nodata"
        )
