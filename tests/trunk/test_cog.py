"""COGs put together from tiles are those that GDAL writes, however rows were cut, wherever made."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.io import MemoryFile
from rasterio.transform import from_origin
from scipy import ndimage

from geohr.encoding import NODATA
from geohr.geobox import GeoBox
from geohr.outputs.cog import RasterWriter
from geohr.outputs.tiff import TILE_OFFSETS, TILE_SIZES, read_tags
from geohr.outputs.tiles import CogPart

HEIGHT, WIDTH = 640, 448
CRS = rasterio.crs.CRS.from_epsg(32645)
PLACE = from_origin(300000, 3_000_000, 0.1, 0.1)


def pixels(bands: int) -> NDArray[np.uint8]:
    """Smooth values with holes, and a corner without data."""
    generator = np.random.default_rng(bands)
    noise = ndimage.gaussian_filter(generator.normal(size=(bands, HEIGHT, WIDTH)), (0, 5, 5))
    rows = np.clip(noise * 1500 + 120, 0, 254).astype(np.uint8)
    rows[:, generator.integers(0, HEIGHT, 400), generator.integers(0, WIDTH, 400)] = NODATA
    rows[:, :300, :200] = NODATA
    return rows


def writer(path: Path, bands: int, resampling: str, asked: dict[str, str]) -> RasterWriter:
    return RasterWriter(
        path,
        GeoBox(CRS, PLACE, HEIGHT, WIDTH),
        descriptions=[f"band {number}" for number in range(bands)],
        tags={"made_by": "a test"},
        resampling=resampling,
        scale=1 / 254,
        creation_options=asked,
    )


def by_gdal(path: Path, rows: NDArray[np.uint8], resampling: str, asked: dict[str, str]) -> None:
    """The same by GDAL's COG driver."""
    bands = len(rows)
    with MemoryFile() as file:
        with file.open(
            driver="GTiff", width=WIDTH, height=HEIGHT, count=bands, dtype="uint8", crs=CRS,
            transform=PLACE, nodata=NODATA,
        ) as raster:  # fmt: skip
            raster.write(rows)
            raster.update_tags(made_by="a test")
            raster.descriptions = [f"band {number}" for number in range(bands)]
            raster.scales = (1 / 254,) * bands
        settings = {"COMPRESS": "DEFLATE", "LEVEL": "6", **asked}
        rasterio.shutil.copy(
            file.name, path, driver="COG", overview_resampling=resampling, **settings
        )


CASES = [
    (1, "average", {"BLOCKSIZE": "128"}),
    (2, "average", {"BLOCKSIZE": "128", "STATISTICS": "YES", "BIGTIFF": "YES"}),
    (1, "nearest", {"BLOCKSIZE": "256", "SPARSE_OK": "YES", "PREDICTOR": "YES"}),
    (1, "average", {"BLOCKSIZE": "128", "OVERVIEWS": "NONE"}),
    (1, "average", {"BLOCKSIZE": "128", "OVERVIEW_COUNT": "1"}),
]


@pytest.mark.parametrize(("bands", "resampling", "asked"), CASES)
def test_a_cog_is_what_gdal_writes(
    bands: int, resampling: str, asked: dict[str, str], tmp_path: Path
) -> None:
    rows = pixels(bands)
    ours, theirs = tmp_path / "ours.tif", tmp_path / "theirs.tif"
    with writer(ours, bands, resampling, asked) as sink:
        sink.write(rows)
    by_gdal(theirs, rows, resampling, asked)
    with rasterio.open(ours) as one, rasterio.open(theirs) as other:
        levels = other.overviews(1)
        assert one.overviews(1) == levels
        for said in ("profile", "scales", "descriptions"):
            assert getattr(one, said) == getattr(other, said)
        for named in ({}, {"ns": "IMAGE_STRUCTURE"}, {"bidx": 1}, {"bidx": bands}):
            assert one.tags(**named) == other.tags(**named)
        assert (one.read() == rows).all()
    for level in range(len(levels)):
        made = [rasterio.open(each, overview_level=level) for each in (ours, theirs)]
        # GDAL may leave out the last row or column of an odd level.
        height, width = made[1].shape
        found, expected = (each.read()[:, :height, :width] for each in made)
        assert level > 1 or (found == expected).all()
        for each in made:
            each.close()


def test_tiles_lie_as_a_cog_says(tmp_path: Path) -> None:
    """Overviews before full resolution, the smallest first; sizes before tiles, ends after."""
    path = tmp_path / "a.tif"
    with writer(path, 1, "average", {"BLOCKSIZE": "128", "SPARSE_OK": "YES"}) as sink:
        sink.write(pixels(1))
    content = path.read_bytes()
    _, directories = read_tags(content)
    last = 0
    left_out = 0
    for directory in reversed(directories):
        offsets, sizes = directory[TILE_OFFSETS].numbers, directory[TILE_SIZES].numbers
        for start, size in zip(offsets.tolist(), sizes.tolist(), strict=True):
            if size == 0:
                assert start == 0
                left_out += 1
                continue
            assert start > last
            last = start + size
            assert content[start - 4 : start] == size.to_bytes(4, "little")
            assert content[last : last + 4] == content[last - 4 : last]
    assert (last + 4, left_out > 0) == (len(content), True)


@pytest.mark.parametrize(("bands", "resampling", "asked"), CASES[:3])
def test_a_cog_is_the_same_however_its_rows_are_cut_and_where_tiles_are_made(
    bands: int, resampling: str, asked: dict[str, str], tmp_path: Path
) -> None:
    rows = pixels(bands)
    made = set()
    for number, edges in enumerate(
        ([0, HEIGHT], [0, 7, 300, 301, HEIGHT], [0, 256, 384, 512, HEIGHT], [*range(0, HEIGHT, 32)])
    ):
        for elsewhere in (False, True):
            path = tmp_path / f"{number}{elsewhere}.tif"
            with writer(path, bands, resampling, asked) as sink:
                for start, stop in pairwise([*edges[:-1], HEIGHT]):
                    if elsewhere:
                        part = sink.encoder.part(start, rows[:, start:stop])
                        sink.add(CogPart.from_arrays(part.to_arrays("a_"), "a_"))
                    else:
                        sink.write(rows[:, start:stop])
            made.add(path.read_bytes())
    assert len(made) == 1
