"""Searches of a STAC API as scenes, by pystac-client and a server of items."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pytest
import rasterio.warp
from affine import Affine

from geohr.errors import InputError, UsageError
from geohr.options import ViewOptions
from geohr.scene import Scene
from geohr.scene.prepare import open_view
from geohr.scene.search import items_text
from geohr.scene.stac import acquired
from tests.command import Geohr
from tests.imagery.tile_server import MISSING, Answer, TileServer, tile_server
from tests.makers import ORIGIN, UTM, noise, write_scene

SIDE = 100


def item(path: Path, number: int, year: int) -> dict[str, Any]:
    """The item of a scene."""
    west, south, east, north = rasterio.warp.transform_bounds(
        UTM, "OGC:CRS84", *Scene.open(path).geobox.bounds
    )
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": f"item-{number}", "collection": "ortho",
        "geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": [west, south, east, north],
        "properties": {"datetime": f"{year}-05-06T07:08:09Z"}, "links": [],
        "assets": {"visual": {"href": str(path), "type": "image/tiff; application=geotiff"}},
    }  # fmt: skip


@pytest.fixture
def scenes(tmp_path: Path) -> list[Path]:
    """Three scenes beside each other, of which neighbours overlap by half."""
    return [
        write_scene(
            tmp_path / f"{number}.tif", noise(SIDE, SIDE, seed=number),
            transform=Affine(0.5, 0, ORIGIN[0] + 25 * number, 0, -0.5, ORIGIN[1]),
        )
        for number in range(3)
    ]  # fmt: skip


@pytest.fixture
def api(scenes: list[Path]) -> Iterator[TileServer]:
    """A STAC API of the scenes, newest first, one item a page; it notes what was asked for."""
    items = [item(path, number, 2020 + number) for number, path in enumerate(scenes)][::-1]

    def answer(path: str) -> Answer:
        name, _, query = path.partition("?")
        asked = {key: values[0] for key, values in parse_qs(query).items()}
        told: dict[str, Any]
        if name == "/api":
            told = {
                "type": "Catalog", "stac_version": "1.0.0", "id": "api", "description": "scenes",
                "conformsTo": [
                    "https://api.stacspec.org/v1.0.0/core",
                    "https://api.stacspec.org/v1.0.0/item-search",
                ],
                "links": [
                    {"rel": "self", "href": f"{server.address}/api"},
                    {"rel": "root", "href": f"{server.address}/api"},
                    {"rel": "search", "href": f"{server.address}/search", "method": "GET",
                     "type": "application/geo+json"},
                ],
            }  # fmt: skip
        elif name == "/search" and asked["collections"] == "ortho":
            first, last = asked.get("datetime", "2000/2100").split("/")
            found = [
                each for each in items
                if first[:4] <= each["properties"]["datetime"][:4] <= last[:4]
                and overlaps(each["bbox"], asked.get("bbox"))
            ]  # fmt: skip
            page = int(asked.get("page", 0))
            told = {"type": "FeatureCollection", "features": found[page : page + 1], "links": []}
            if page + 1 < len(found):
                onward = f"{server.address}{path}".partition("&page=")[0] + f"&page={page + 1}"
                told["links"] = [{"rel": "next", "href": onward, "method": "GET"}]
        else:
            return MISSING
        return 200, {"Content-Type": "application/json"}, json.dumps(told).encode()

    items_text.cache_clear()
    with tile_server(answer) as server:
        yield server


def overlaps(box: list[float], asked: str | None) -> bool:
    """Whether a box and west,south,east,north have something in common."""
    if asked is None:
        return True
    west, south, east, north = map(float, asked.split(","))
    return box[0] < east and west < box[2] and box[1] < north and south < box[3]


def test_a_search_is_a_mosaic_with_the_newest_on_top(api: TileServer, scenes: list[Path]) -> None:
    name = f"stac:{api.address}/api?collection=ortho&datetime=2020-01-01/2022-12-31"
    options = ViewOptions(gsd="native")
    scene = open_view(name, options)
    assert list(scene.files) == list(map(str, scenes))
    expected = np.zeros((3, SIDE, 2 * SIDE), np.uint8)
    for number, path in enumerate(scenes):
        own = Scene.open(path)
        at = number * SIDE // 2
        expected[:, :, at : at + SIDE] = own.read(own.geobox.extent).pixels
    assert np.array_equal(scene.read(scene.geobox.extent).pixels, expected)
    assert acquired([name], scene.files, options) == "2020-05-06T07:08:09Z/2022-05-06T07:08:09Z"
    # Each page once, whoever asked.
    assert set(api.asked.values()) == {1}


def test_time_and_area_narrow_a_search(api: TileServer, scenes: list[Path]) -> None:
    name = f"stac:{api.address}/api?collection=ortho"
    assert len(open_view(f"{name}&datetime=2021/2022", ViewOptions()).files) == 2
    west, south, _, north = Scene.open(scenes[0]).geobox.bounds
    lon, lat = rasterio.warp.transform(UTM, "OGC:CRS84", [west, west + 20], [south, north])
    scene = open_view(name, ViewOptions(bbox=(lon[0], lat[0], lon[1], lat[1])))
    assert list(scene.files) == [str(scenes[0])]


@pytest.mark.parametrize(
    ("terms", "error", "told"),
    [
        ("api?datetime=2020", UsageError, "collection=NAME"),
        ("api?collection=ortho&colour=red", UsageError, "collection=NAME"),
        ("api?collection=ortho&datetime=yesterday", UsageError, "yesterday|datetime"),
        ("api?collection=other", InputError, "the search fails .status 404."),
        ("nothing?collection=ortho", InputError, "the search fails .status 404."),
        ("api?collection=ortho&datetime=1990/1991", InputError, "finds no item"),
    ],
)
def test_searches_that_fail(
    api: TileServer, geohr: Geohr, tmp_path: Path, terms: str, error: type[Any], told: str
) -> None:
    name = f"stac:{api.address.replace('//', '//me:S3CRET@')}/{terms}"
    ended = geohr("segment", name, "--out", tmp_path / "b.gpkg")
    assert ended.code == error.exit_code
    assert re.search(told, ended.err)
    assert "S3CRET" not in ended.err
    assert len(ended.err.splitlines()) == 1
