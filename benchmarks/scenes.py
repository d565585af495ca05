"""Seeded scenes of any size for the benchmarks, and a predictor that reads them off."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin
from rasterio.windows import Window

PATTERN = 2048
"""Side of the pattern that a scene repeats, in pixels."""
HOUSES = 900
"""Houses in one pattern: about as dense as a town at 0.3 m a pixel."""
ROOF, GROUND = 200, 80


def pattern(seed: int = 0) -> NDArray[np.uint8]:
    """Houses of 10 to 40 pixels a side on noisy ground, `(band, row, col)`."""
    random = np.random.default_rng(seed)
    ground = random.integers(GROUND - 20, GROUND + 20, (3, PATTERN, PATTERN), dtype=np.uint8)
    sides = random.integers(10, 40, (HOUSES, 2))
    corners = random.integers(0, PATTERN - 40, (HOUSES, 2))
    for (height, width), (row, col) in zip(sides, corners, strict=True):
        ground[:, row : row + height, col : col + width] += np.uint8(ROOF - GROUND)
    return ground


def write_town(
    path: Path,
    *,
    height: int,
    width: int,
    compress: str = "jpeg",
    sparse_from: int | None = None,
    block: int = 512,
) -> Path:
    """A tiled GeoTIFF of houses at 0.3 m a pixel.

    Args:
        path: The target.
        height: Rows.
        width: Columns.
        compress: GDAL's name of a compression.
        sparse_from: First row without data, which takes no room on disk; by default none.
        block: Side of the file's blocks in pixels; 0 for strips.
    """
    source = pattern()
    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": 3,
        "height": height,
        "width": width,
        "crs": "EPSG:32645",
        "transform": from_origin(300_000, 3_000_000, 0.3, 0.3),
        "compress": compress,
        "bigtiff": "if_safer",
        "sparse_ok": True,
        "interleave": "pixel",
    }
    if block:
        profile |= {"tiled": True, "blockxsize": block, "blockysize": block}
    if compress == "jpeg":
        profile |= {"photometric": "ycbcr", "jpeg_quality": 85}
    if sparse_from is not None:
        profile |= {"nodata": 0}
    with rasterio.open(path, "w", **profile) as raster:
        for row in range(0, height if sparse_from is None else sparse_from, PATTERN):
            for col in range(0, width, PATTERN):
                rows, cols = min(PATTERN, height - row), min(PATTERN, width - col)
                raster.write(source[:, :rows, :cols], window=Window(col, row, cols, rows))
    return path


class ReadOff:
    """A predictor as fast as memory allows: a pixel is a house where its first band is bright.

    Args:
        edge: Normalised value from which a pixel is bright.
        workers: Threads that may predict at the same time.
    """

    batch = 1
    engine = "none"

    def __init__(self, edge: float, *, workers: int) -> None:
        self._edge = np.float32(edge)
        self.workers = workers

    def predict(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores `(n, 1, row, col)`: 0.9 or 0.1."""
        return np.where(pixels[:, :1] > self._edge, np.float32(0.9), np.float32(0.1))


def write_vrt(path: Path, source: Path, *, height: int, width: int) -> Path:
    """A scene of any size that repeats a small file of three bands, and takes no room itself.

    Args:
        path: The target, `.vrt`.
        source: A file of `write_town`, `PATTERN` pixels a side.
        height: Rows.
        width: Columns.
    """
    with rasterio.open(source) as raster:
        wkt, transform = raster.crs.to_wkt(), raster.transform
        block = raster.block_shapes[0][0]
    bands = []
    for band in (1, 2, 3):
        places = "".join(
            f'<SimpleSource><SourceFilename relativeToVRT="1">{source.name}</SourceFilename>'
            f"<SourceBand>{band}</SourceBand>"
            f'<SourceProperties RasterXSize="{PATTERN}" RasterYSize="{PATTERN}" DataType="Byte" '
            f'BlockXSize="{block}" BlockYSize="{block}"/>'
            f'<SrcRect xOff="0" yOff="0" xSize="{PATTERN}" ySize="{PATTERN}"/>'
            f'<DstRect xOff="{col}" yOff="{row}" xSize="{PATTERN}" ySize="{PATTERN}"/>'
            "</SimpleSource>"
            for row in range(0, height, PATTERN)
            for col in range(0, width, PATTERN)
        )
        bands.append(
            f'<VRTRasterBand dataType="Byte" band="{band}" blockXSize="{block}" '
            f'blockYSize="{block}">{places}</VRTRasterBand>'
        )
    corner = transform.to_gdal()
    path.write_text(
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>{escape(wkt)}</SRS>'
        f"<GeoTransform>{', '.join(map(str, corner))}</GeoTransform>{''.join(bands)}</VRTDataset>"
    )
    return path
