"""Broken and hostile scenes: a row a defect, with the exit code and the line that it must give.

The network plays no part in what is refused, and a constant takes its place.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from geohr.encoding import NODATA
from geohr.workflows.batch.inputs import plain
from tests.command import Geohr
from tests.hostile import makers
from tests.hostile.makers import SIDE, Maker, filled, named, placed, virtual, written
from tests.makers import Constant, noise

HALF = noise(SIDE, SIDE).astype(np.float32)
HALF[:, : SIDE // 2] = np.nan
HALF[0, -1] = np.inf

REFUSED: dict[str, tuple[Maker, int, str]] = {
    "truncated": (makers.truncated, 3, "the file may be truncated or damaged"),
    "corrupt block": (makers.corrupt, 3, "the file may be truncated or damaged, in which case"),
    "empty file": (makers.empty, 3, "not a raster that GDAL can read"),
    "text": (makers.text, 3, "not a raster that GDAL can read"),
    "missing": (makers.missing, 3, "scene.tif: no such file; check the path"),
    "folder": (makers.a_folder, 3, "is a folder; name a file"),
    "10^6 x 10^6 over no data": (makers.boundless, 3, "claims 1000000 x 1000000 pixels in a file"),
    "block of gigabytes": (makers.one_block, 3, "blocks of 40000 x 40000 pixels need 1.6 GB each"),
    "palette": (makers.palette, 3, "expand them with gdal_translate -expand rgb"),
    "complex": (filled(noise(SIDE, SIDE).astype(np.complex64)), 3, "pixels are complex numbers"),
    "1 band": (filled(noise(SIDE, SIDE, bands=1)), 3, "3 bands (red, green, blue) and the"),
    "alpha only": (makers.only_alpha, 3, "has no band besides alpha"),
    "control points only": (makers.control_points, 3, "warp it first with gdalwarp"),
    "RPC only": (makers.rational, 3, "orthorectify it first"),
    "pixels without area": (placed(Affine(0, 0, 1, 0, 0, 1)), 3, "gives pixels no area"),
    "geotransform of NaN": (placed(Affine(np.nan, 0, 1, 0, -1, 1)), 3, "gives pixels no area"),
    "off the map": (placed(Affine(0.5, 0, 1e12, 0, -0.5, 1e12)), 3, "lie outside what"),
    "16 bit beyond the card": (
        filled(noise(SIDE, SIDE).astype(np.uint16) * 40), 3, "with --scale MIN,MAX",
    ),
    "VRT with a missing part": (virtual("gone.tif"), 3, "gone.tif: No such file"),
    "VRT of itself": (virtual("scene.vrt"), 3, "cannot be read at rows"),
    "VRTs of each other": (makers.endless_vrts, 3, "VRTs in it name each other"),
    "pipe": (makers.pipe, 3, "is a pipe or a device"),
    "VRT of a pipe": (makers.vrt_of_a_pipe, 3, "is a pipe or a device"),
    "complex 16-bit integers": (makers.complex_integers, 3, "pixels are complex numbers"),
    "RPC of text": (makers.rational_text, 3, "orthorectify it first"),
    "name that is not UTF-8": (makers.not_utf8, 3, "the name is not in UTF-8; rename the file"),
    "VRT with Python": (makers.python_in_vrt, 3, "Python"),
}  # fmt: skip

TAKEN: dict[str, Maker] = {
    "NaN and infinity": filled(HALF),
    "all NaN": filled(np.full((3, SIDE, SIDE), np.nan, np.float32)),
    "all nodata": filled(np.zeros((3, SIDE, SIDE), np.uint8), nodata=0),
    "1 bit": filled(noise(SIDE, SIDE) % 2, nbits=1),
    "bands of several types": makers.mixed_types,
    "200 bands": filled(noise(SIDE, SIDE, bands=200)),
    "no CRS": written(crs=None),
    "no georeference": makers.ungeoreferenced,
    "rotated": placed(Affine(0.4, 0.3, 450_000, 0.3, -0.4, 40_000)),
    "sheared": placed(Affine(0.5, 0.2, 450_000, 0, -0.5, 40_000)),
    "south-up": placed(Affine(0.5, 0, 450_000, 0, 0.5, 40_000)),
    "tiny pixels": placed(Affine(1e-6, 0, 450_000, 0, -1e-6, 40_000)),
    "huge pixels": placed(Affine(2_000, 0, 300_000, 0, -2_000, 200_000)),
    "geographic": written(**makers.GEOGRAPHIC),
    "across the antimeridian": placed(Affine(1e-5, 0, 179.9995, 0, -1e-5, 10), crs="EPSG:4326"),
    "Pacific-centred across it": placed(Affine(0.5, 0, 3.3e6, 0, -0.5, 10), crs="EPSG:3832"),
    "engineering CRS": written(crs=CRS.from_wkt(makers.LOCAL)),
    "JPEG": written(compress="jpeg", photometric="ycbcr", interleave="pixel"),
    "WebP": written(compress="webp", interleave="pixel"),
    "LERC": written(compress="lerc"),
    "ZSTD": written(compress="zstd"),
    "JPEG 2000": makers.jpeg2000,
    "VRT with a relative path": virtual("scene.tif"),
    "mask and overviews beside it": makers.masked,
    "spaces, quotes, newline": named("a b'\"\n.tif"),
    "letters beyond ASCII": named("räum 漢字.tif"),
    "brackets and stars": named("[a]*?.tif"),
}


@pytest.fixture(autouse=True)
def _constant_predictor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "geohr.inference.executor.open_predictor", lambda *_, **__: Constant(0.9, batch=2)
    )


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_segmented_gives_a_line_and_no_output(
    name: str, geohr: Geohr, model: Path, tmp_path: Path
) -> None:
    maker, code, line = REFUSED[name]
    scene, out = maker(tmp_path), tmp_path / "out"
    out.mkdir()
    ended = geohr(
        "segment", scene, "--out", out / "a.gpkg", "--out", out / "a.tif", "--model", model
    )
    assert (ended.code, ended.out) == (code, "")
    assert line in ended.err
    last = ended.err.splitlines()[-1]
    assert last.startswith("geohr: ")
    assert "Traceback" not in ended.err
    assert list(out.iterdir()) == []
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings(
    "ignore:.*(expect poor results|is resampled|no value but 0 and 1).*:UserWarning"
)
@pytest.mark.parametrize("name", TAKEN)
def test_what_can_be_segmented_is(name: str, geohr: Geohr, model: Path, tmp_path: Path) -> None:
    scene = TAKEN[name](tmp_path)
    # SQLite opens no file with a newline in its name; batch leaves it out as well.
    stem, out = plain(scene.stem), tmp_path / "out"
    out.mkdir()
    polygons, classes = out / f"{stem}.gpkg", out / f"{stem}.tif"
    ended = geohr("segment", scene, "--out", polygons, "--out", classes, "--model", model)
    assert ended.code == 0, ended.err
    styles = [polygons.with_suffix(end) for end in (".qml", ".sld")]
    assert sorted(out.iterdir()) == sorted([polygons, classes, *styles])
    with makers.unplaced(), rasterio.open(scene) as read, rasterio.open(classes) as written_classes:
        found = written_classes.read(1)
        bands = np.stack([read.read(band) for band in (1, 2, 3)])
        valid = np.isfinite(bands).all(axis=0) & (read.dataset_mask() > 0)
    assert ((found == NODATA) == ~valid).all()
    assert (found[valid] == 1).all()


def test_damaged_blocks_are_no_data_on_request(geohr: Geohr, model: Path, tmp_path: Path) -> None:
    scene, out = makers.corrupt(tmp_path), tmp_path / "out.tif"
    ended = geohr("segment", scene, "--out", out, "--model", model, "--on-read-error", "nodata")
    assert ended.code == 0
    with rasterio.open(out) as classes:
        found = classes.read(1)
    lost = (found == NODATA).mean()
    assert 0 < lost < 0.5
    assert (found[found != NODATA] == 1).all()


def test_a_vanished_output_folder_is_told(geohr: Geohr, model: Path, tmp_path: Path) -> None:
    scene = makers.plain(tmp_path)
    ended = geohr("segment", scene, "--out", tmp_path / "gone" / "a.gpkg", "--model", model)
    assert ended.code == 6
    assert "does not exist; make it first" in ended.err


def test_a_place_where_nothing_can_be_written_is_told(
    geohr: Geohr, model: Path, tmp_path: Path
) -> None:
    scene = makers.plain(tmp_path)
    ended = geohr("segment", scene, "--out", "/proc/a.gpkg", "--model", model)
    assert ended.code == 6
    assert "/proc" in ended.err


def test_no_credential_is_told(geohr: Geohr, model: Path, tmp_path: Path) -> None:
    address = "https://user:hunter2@127.0.0.1:9/a.tif?X-Amz-Signature=abcdef"
    ended = geohr("segment", address, "--out", tmp_path / "a.gpkg", "--model", model)
    assert ended.code == 3
    assert "127.0.0.1" in ended.err
    assert "hunter2" not in ended.err
    assert "abcdef" not in ended.err
