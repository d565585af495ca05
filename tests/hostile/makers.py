"""Makers of broken and hostile scenes and models; each returns the file to be segmented."""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC

from tests.makers import noise, write_scene

Maker = Callable[[Path], Path]
SIDE = 96
LOCAL = 'LOCAL_CS["site grid",LOCAL_DATUM["site",0],UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'
GEOGRAPHIC = {"crs": "EPSG:4326", "transform": Affine(5e-6, 0, 32.58, 0, -5e-6, 0.35)}


def plain(folder: Path, **profile: Any) -> Path:
    return write_scene(folder / "scene.tif", noise(SIDE, SIDE), **profile)


def written(**profile: Any) -> Maker:
    """A scene that is written with this profile."""
    return lambda folder: plain(folder, **profile)


def placed(transform: Affine, **profile: Any) -> Maker:
    """A scene with this geotransform."""
    return lambda folder: plain(folder, transform=transform, **profile)


def filled(pixels: Any, **profile: Any) -> Maker:
    """A scene with these pixels."""
    return lambda folder: write_scene(folder / "scene.tif", pixels, **profile)


def truncated(folder: Path) -> Path:
    path = plain(folder, compress="deflate")
    os.truncate(path, path.stat().st_size * 2 // 3)
    return path


def corrupt(folder: Path) -> Path:
    """One of nine blocks does not decompress."""
    path = plain(folder, compress="deflate", tiled=True, blockxsize=32, blockysize=32)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 500] = b"\xff" * 500
    path.write_bytes(content)
    return path


def empty(folder: Path) -> Path:
    path = folder / "scene.tif"
    path.write_bytes(b"")
    return path


def text(folder: Path) -> Path:
    path = folder / "scene.tif"
    path.write_text("this is no raster\n")
    return path


def missing(folder: Path) -> Path:
    return folder / "scene.tif"


def a_folder(folder: Path) -> Path:
    path = folder / "scene.tif"
    path.mkdir()
    return path


def boundless(folder: Path) -> Path:
    """10^6 x 10^6 pixels are claimed, none is there."""
    path = folder / "scene.tif"
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "height": 10**6, "width": 10**6}
    layout = {"tiled": True, "blockxsize": 8192, "blockysize": 8192, "sparse_ok": True}
    with rasterio.open(path, "w", bigtiff="yes", **profile, **layout, **GEOGRAPHIC):
        pass
    return path


def one_block(folder: Path) -> Path:
    """A single tile of 40,000 x 40,000 pixels is claimed."""
    path = folder / "scene.tif"
    side = 40_000
    entries = [
        (256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1),
        (277, 3, 1, 1), (322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, 200), (325, 4, 1, 70_000),
    ]  # fmt: skip
    content = b"II*\0" + struct.pack("<IH", 8, len(entries))
    for tag, kind, number, value in entries:
        content += struct.pack("<HHII", tag, kind, number, value)
    content += struct.pack("<I", 0)
    path.write_bytes(content.ljust(200, b"\0") + b"x" * 70_000)
    return path


def palette(folder: Path) -> Path:
    path = write_scene(folder / "scene.tif", noise(SIDE, SIDE, bands=1))
    with rasterio.open(path, "r+") as raster:
        raster.write_colormap(1, {value: (value, 0, 0) for value in range(256)})
    return path


def control_points(folder: Path) -> Path:
    path = ungeoreferenced(folder)
    corners = [(0, 0), (0, SIDE), (SIDE, 0), (SIDE, SIDE)]
    with unplaced(), rasterio.open(path, "r+") as raster:
        points = [GroundControlPoint(row, col, 32 + col, 1 - row) for row, col in corners]
        raster.gcps = (points, CRS.from_epsg(4326))
    return path


def rational(folder: Path) -> Path:
    path = ungeoreferenced(folder)
    ones = [1.0, *[0.0] * 19]
    with unplaced(), rasterio.open(path, "r+") as raster:
        raster.rpcs = RPC(
            height_off=0.0, height_scale=500.0, lat_off=0.3, lat_scale=0.1, line_den_coeff=ones,
            line_num_coeff=ones, line_off=0.0, line_scale=1.0, long_off=32.0, long_scale=0.1,
            samp_den_coeff=ones, samp_num_coeff=ones, samp_off=0.0, samp_scale=1.0,
            err_bias=None, err_rand=None,
        )  # fmt: skip
    return path


def ungeoreferenced(folder: Path) -> Path:
    path = folder / "scene.tif"
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "height": SIDE, "width": SIDE}
    with unplaced(), rasterio.open(path, "w", **profile) as raster:
        raster.write(noise(SIDE, SIDE))
    return path


@contextmanager
def unplaced() -> Iterator[None]:
    """Without rasterio's warning of rasters that have no place on the ground."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


def only_alpha(folder: Path) -> Path:
    path = write_scene(folder / "scene.tif", noise(SIDE, SIDE, bands=1))
    with rasterio.open(path, "r+") as raster:
        raster.colorinterp = [ColorInterp.alpha]
    return path


def jpeg2000(folder: Path) -> Path:
    path = folder / "scene.jp2"
    profile = {"driver": "JP2OpenJPEG", "dtype": "uint8", "count": 3, "crs": "EPSG:32636"}
    place = Affine(0.5, 0, 450_000, 0, -0.5, 40_000)
    with rasterio.open(path, "w", height=SIDE, width=SIDE, transform=place, **profile) as raster:
        raster.write(noise(SIDE, SIDE))
    return path


def virtual(source: str) -> Maker:
    """A VRT beside a scene; `source` is what it says it is made of."""

    def make(folder: Path) -> Path:
        plain(folder)
        bands = "".join(
            f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource>'
            f'<SourceFilename relativeToVRT="1">{source}</SourceFilename>'
            f"<SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
            for band in (1, 2, 3)
        )
        path = folder / "scene.vrt"
        path.write_text(
            f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}"><SRS>EPSG:32636</SRS>'
            f"<GeoTransform>450000,0.5,0,40000,0,-0.5</GeoTransform>{bands}</VRTDataset>"
        )
        return path

    return make


def endless_vrts(folder: Path) -> Path:
    """Two VRTs that are made of each other."""
    virtual("scene.vrt")(folder).rename(folder / "other.vrt")
    return virtual("other.vrt")(folder)


def pipe(folder: Path) -> Path:
    """A name that a reader would wait at for ever."""
    os.mkfifo(folder / "scene.tif")
    return folder / "scene.tif"


def vrt_of_a_pipe(folder: Path) -> Path:
    path = virtual("pipe.tif")(folder)
    os.mkfifo(folder / "pipe.tif")
    return path


def complex_integers(folder: Path) -> Path:
    """A type that GDAL has and numpy has not."""
    path = virtual("scene.tif")(folder)
    path.write_text(path.read_text().replace('dataType="Byte"', 'dataType="CInt16"'))
    return path


def rational_text(folder: Path) -> Path:
    """A sensor model with words where numbers should be, as some vendors' files have."""
    path = virtual("scene.tif")(folder)
    text = re.sub("<SRS>.*?</GeoTransform>", "", path.read_text())
    keys = ("LINE_OFF", "SAMP_OFF", "LAT_OFF", "LONG_OFF", "HEIGHT_OFF")
    items = "".join(f'<MDI key="{key}">not a number</MDI>' for key in keys)
    head, bands = text.split("<VRTRasterBand", 1)
    path.write_text(f'{head}<Metadata domain="RPC">{items}</Metadata><VRTRasterBand{bands}')
    return path


def mixed_types(folder: Path) -> Path:
    """Bands of bytes beside a band of floating-point numbers."""
    path = virtual("scene.tif")(folder)
    text = path.read_text()
    path.write_text(text.replace('"Byte" band="3"', '"Float32" band="3"'))
    return path


def python_in_vrt(folder: Path) -> Path:
    """A VRT whose pixels a Python function is to compute, which would leave a file."""
    path = folder / "scene.vrt"
    code = f"def run(*a, **k):\n    open({str(folder / 'ran')!r}, 'w').close()\n"
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}" subClass="VRTDerivedRasterBand">'
        "<PixelFunctionLanguage>Python</PixelFunctionLanguage>"
        f"<PixelFunctionType>run</PixelFunctionType><PixelFunctionCode><![CDATA[{code}]]>"
        "</PixelFunctionCode></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    path.write_text(
        f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}"><SRS>EPSG:32636</SRS>'
        f"<GeoTransform>450000,0.5,0,40000,0,-0.5</GeoTransform>{bands}</VRTDataset>"
    )
    return path


def masked(folder: Path) -> Path:
    """A scene with its mask and overviews in files of their own."""
    path = plain(folder)
    mask = np.full((SIDE, SIDE), 255, np.uint8)
    mask[: SIDE // 2] = 0
    beside = rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False, TIFF_USE_OVR=True)
    with beside, rasterio.open(path, "r+") as raster:
        raster.write_mask(mask)
        raster.build_overviews([2])
    assert path.with_name("scene.tif.msk").exists()
    return path


def named(name: str) -> Maker:
    """A scene with this name."""

    def make(folder: Path) -> Path:
        return write_scene(folder / name, noise(SIDE, SIDE))

    return make


def not_utf8(folder: Path) -> Path:
    """A scene whose name is in Latin-1."""
    return write_scene(folder / "scene.tif", noise(SIDE, SIDE)).rename(
        folder / os.fsdecode(b"sc\xe8ne.tif")
    )


def model_of(content: bytes, name: str = "model.safetensors") -> Maker:
    """A model file with this content."""

    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content)
        return path

    return make


class Harmful:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (self.path,)


def pickled(folder: Path) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(pickle.dumps(Harmful(str(folder / "ran"))))
    return path


def changed_model(model: Path, change: Callable[[dict[str, Any]], None]) -> Maker:
    """A copy of a model file with another header."""

    def make(folder: Path) -> Path:
        content = model.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        path = folder / "model.safetensors"
        path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
        return path

    return make


def changed_card(model: Path, **entries: Any) -> Maker:
    """A copy of a model file whose card says something else."""

    def change(header: dict[str, Any]) -> None:
        card = json.loads(header["__metadata__"]["geohr"])
        header["__metadata__"]["geohr"] = json.dumps({**card, **entries})

    return changed_model(model, change)
