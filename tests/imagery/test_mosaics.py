"""Several scenes as one, and the scenes that STAC names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.warp
from affine import Affine

from geohr.api.memory import predict
from geohr.errors import InputError
from geohr.geobox import Window
from geohr.options import SegmentOptions, ViewOptions
from geohr.scene import Scene
from geohr.scene.prepare import open_view
from tests.command import Geohr
from tests.imagery.servers import Server
from tests.makers import ORIGIN, UTM, noise, write_scene


def pieces(folder: Path, pixels: Any, *, side: int = 150, overlap: int = 20) -> list[Path]:
    """A scene cut into overlapping files."""
    _, height, width = pixels.shape
    made = []
    for row in range(0, height, side):
        for col in range(0, width, side):
            part = pixels[:, row : row + side + overlap, col : col + side + overlap]
            place = Affine(0.5, 0, ORIGIN[0] + col / 2, 0, -0.5, ORIGIN[1] - row / 2)
            name = folder / f"r{row}c{col}.tif"
            made.append(write_scene(name, part, transform=place))
    return made


def stac_item(path: str, **assets: str) -> dict[str, Any]:
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": path,
        "assets": {name: {"href": href, "type": "image/tiff"} for name, href in assets.items()},
    }  # fmt: skip


def all_of(scene: Scene) -> Any:
    return scene.read(Window(0, 0, scene.height, scene.width))


def test_pieces_are_the_scene_they_were_cut_from(tmp_path: Path) -> None:
    pixels = noise(400, 350)
    scene = open_view(pieces(tmp_path, pixels), ViewOptions())
    tile = all_of(scene)
    assert (tile.pixels == pixels).all()
    assert tile.valid.all()
    part = scene.read(Window(130, 140, 60, 90))
    assert (part.pixels == pixels[:, 130:190, 140:230]).all()


def test_the_later_scene_lies_on_top_where_it_has_data(tmp_path: Path) -> None:
    below = write_scene(tmp_path / "a.tif", np.full((3, 40, 40), 50, np.uint8))
    pixels = np.full((3, 40, 40), 90, np.uint8)
    pixels[:, :20] = 0
    above = write_scene(tmp_path / "b.tif", pixels, nodata=0)
    tile = all_of(open_view([below, above], ViewOptions()))
    assert (tile.pixels[:, :20] == 50).all()
    assert (tile.pixels[:, 20:] == 90).all()
    apart = write_scene(
        tmp_path / "c.tif", pixels, nodata=0, transform=Affine(0.5, 0, 450_100, 0, -0.5, 40_000)
    )
    far = all_of(open_view([below, apart], ViewOptions()))
    assert far.valid.sum() == 40 * 40 + 20 * 40


def test_scenes_in_several_crss_are_one_mosaic_in_that_of_the_first(tmp_path: Path) -> None:
    rows, cols = np.mgrid[0:300, 0:300].astype(np.float32)
    first = write_scene(tmp_path / "a.tif", np.stack([rows, cols]))
    with rasterio.open(first) as source:
        place, width, height = rasterio.warp.calculate_default_transform(
            UTM, "EPSG:4326", 300, 300, *source.bounds
        )
        other = np.full((2, height, width), -1, np.float32)
        rasterio.warp.reproject(
            rasterio.band(source, [1, 2]), other, dst_transform=place, dst_crs="EPSG:4326",
            resampling=rasterio.warp.Resampling.cubic, tolerance=0, dst_nodata=-1,
        )  # fmt: skip
    second = write_scene(tmp_path / "b.tif", other, crs="EPSG:4326", transform=place, nodata=-1.0)
    scene = open_view([first, second], ViewOptions())
    assert scene.crs == UTM
    left, top = ~scene.transform @ ORIGIN
    found = scene.read(Window(round(top) + 50, round(left) + 50, 200, 200)).pixels
    assert np.abs(found - np.stack([rows, cols])[:, 50:250, 50:250]).max() < 0.05


@pytest.mark.usefixtures("local_predictor")
def test_pieces_in_web_mercator_have_the_resolution_of_the_scene(tmp_path: Path) -> None:
    pixels = noise(400, 60)
    north = 6_500_000.0
    whole = write_scene(
        tmp_path / "whole.tif", pixels, crs="EPSG:3857", transform=Affine(500, 0, 0, 0, -500, north)
    )
    halves = [
        write_scene(
            tmp_path / f"{row}.tif",
            pixels[:, row : row + 200],
            crs="EPSG:3857",
            transform=Affine(500, 0, 0, 0, -500, north - 500 * row),
        )
        for row in (0, 200)
    ]
    scene, mosaic = open_view(whole, ViewOptions()), open_view(halves, ViewOptions())
    assert mosaic.gsd == scene.gsd
    assert Scene.open(halves[0]).gsd != scene.gsd


def test_a_mosaic_gives_what_the_scene_gives(tmp_path: Path, model: Path, geohr: Geohr) -> None:
    pixels = noise(300, 260)
    whole = write_scene(tmp_path / "whole.tif", pixels)
    parts = pieces(tmp_path, pixels)
    options = SegmentOptions(tile=96)
    one = predict(whole, model=model, options=options, progress=None).probabilities
    several = predict(parts, model=model, options=options, progress=None).probabilities
    assert (one == several).all()
    out = tmp_path / "out.gpkg"
    ended = geohr("segment", *parts, "--out", out, "--model", model, "--tile", "96")
    assert ended.code == 0, ended.err
    assert out.exists()


def test_stac_names_scenes_from_a_file_and_over_the_web(
    tmp_path: Path, served: Path, web: Server
) -> None:
    pixels = noise(200, 170)
    for folder in (tmp_path, served):
        names = [path.name for path in pieces(folder, pixels, side=100)]
        items = [stac_item(name, thumb="no.png", visual=f"./{name}") for name in names]
        text = json.dumps({"type": "FeatureCollection", "features": items})
        (folder / "items.json").write_text(text)
    for name in (str(tmp_path / "items.json"), f"{web.address}/items.json"):
        scene = open_view(name, ViewOptions(asset="visual"))
        assert (all_of(scene).pixels == pixels).all()
        assert len(scene.files) == 4


def test_a_vrt_is_the_mosaic_of_its_sources(tmp_path: Path) -> None:
    pixels = noise(100, 180)
    names = [path.name for path in pieces(tmp_path, pixels, side=100, overlap=0)]
    with rasterio.open(tmp_path / names[0]) as first:
        place, crs = ", ".join(map(str, first.transform.to_gdal())), first.crs
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}">'
        + "".join(
            f'<SimpleSource><SourceFilename relativeToVRT="1">{name}</SourceFilename>'
            f'<SourceBand>{band}</SourceBand><SrcRect xOff="0" yOff="0" xSize="{width}" '
            f'ySize="100"/><DstRect xOff="{col}" yOff="0" xSize="{width}" '
            'ySize="100"/></SimpleSource>'
            for name, col, width in zip(names, (0, 100), (100, 80), strict=True)
        )
        + "</VRTRasterBand>"
        for band in (1, 2, 3)
    )
    (tmp_path / "all.vrt").write_text(
        f'<VRTDataset rasterXSize="180" rasterYSize="100"><SRS>{crs}</SRS>'
        f"<GeoTransform>{place}</GeoTransform>{bands}</VRTDataset>"
    )
    scene = open_view(tmp_path / "all.vrt", ViewOptions())
    assert (all_of(scene).pixels == pixels).all()
    assert {Path(each).name for each in scene.files} == {"all.vrt", *names}


def test_scenes_that_do_not_fit_together_give_one_line(tmp_path: Path) -> None:
    first = write_scene(tmp_path / "a.tif", noise(50, 50))
    two = write_scene(tmp_path / "b.tif", noise(50, 50, bands=2))
    wide = write_scene(tmp_path / "c.tif", noise(50, 50).astype(np.uint16))
    bare = write_scene(tmp_path / "d.tif", noise(50, 50), crs=None)
    item = tmp_path / "item.json"
    item.write_text(json.dumps(stac_item("x", visual="a.tif")))
    none = tmp_path / "none.json"
    none.write_text('{"type": "FeatureCollection", "features": []}')
    for given, options, line in (
        ([first, two], ViewOptions(), "has bands 2, but"),
        ([first, wide], ViewOptions(), "has pixels of type uint16, but"),
        ([first, bare], ViewOptions(), "has no CRS, so it cannot be placed in a mosaic"),
        ([item], ViewOptions(asset="nir"), "no asset 'nir'; its assets are visual"),
        ([none], ViewOptions(), "without items"),
        ([tmp_path / "gone.json"], ViewOptions(), "no such file"),
    ):
        with pytest.raises(InputError, match=line):
            open_view(given, options)
