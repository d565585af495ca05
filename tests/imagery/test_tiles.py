"""Services of tiles as scenes: the pixels, the requests, and what they do wrong."""

from __future__ import annotations

import io
import json
import pickle
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rasterio.warp
import shapely
from PIL import Image
from rasterio.crs import CRS

from geohr.api.segment import segment_to_files
from geohr.errors import InputError, UsageError
from geohr.geobox import Window
from geohr.options import SegmentOptions, ViewOptions
from geohr.scene import Scene
from geohr.scene.prepare import ResolutionRange, open_view
from geohr.scene.tiles import client
from geohr.scene.tiles.address import TileAddress
from geohr.scene.tiles.cache import CachedTile, TileCache, freshness
from geohr.scene.tiles.levels import MERCATOR_HALF, square_levels
from geohr.scene.tiles.ogcapi import SCHEME
from geohr.scene.tiles.origin import tile_cache
from tests.command import Geohr
from tests.imagery.servers import Server
from tests.imagery.tile_server import MISSING, PAGE, Answer, TileServer, tile_server

SAMPLE = Path(__file__).parents[2] / "examples" / "data" / "kampala.tif"
ZOOM, SIDE = 21, 256
# Tiles of the sample at zoom 21: rows and columns of them, counted in the whole world.
ROWS, COLS = 6, 8
KEY = "k3y-SECRET"
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:.*{each}:UserWarning")
    for each in ("terms of use", "was trained on")
]


@cache
def pixels() -> tuple[Any, int, int]:
    """The sample's pixels on whole tiles, and the row and column of the first tile."""
    with rasterio.open(SAMPLE) as raster:
        size = raster.transform.a
        col = (raster.transform.c + MERCATOR_HALF) / size
        row = (MERCATOR_HALF - raster.transform.f) / size
        held = raster.read()
    first_row, first_col = -(-round(row) // SIDE), -(-round(col) // SIDE)
    top, left = first_row * SIDE - round(row), first_col * SIDE - round(col)
    part = held[:, top:, left:]
    rows, cols = part.shape[1] // SIDE, part.shape[2] // SIDE
    return part[:, : rows * SIDE, : cols * SIDE], first_row, first_col


def encoded(tile: Any) -> bytes:
    """`(band, row, col)` as a picture."""
    file = io.BytesIO()
    Image.fromarray(np.moveaxis(tile, 0, -1)).save(file, "PNG", compress_level=1)
    return file.getvalue()


@cache
def xyz(path: str, suffix: str = ".png") -> Answer:
    """The tile of the sample that a path such as /21/5/6.png?key=K names."""
    try:
        zoom, col, row = map(int, path.partition("?")[0].removesuffix(suffix).split("/")[-3:])
    except ValueError:
        return MISSING
    held, first_row, first_col = pixels()
    step = 2 ** (ZOOM - zoom) if zoom <= ZOOM else 0
    if not step:
        return MISSING
    coarse = held[:, ::step, ::step]
    top, left = (row * step - first_row) * SIDE // step, (col * step - first_col) * SIDE // step
    tile = coarse[:, max(top, 0) : top + SIDE, max(left, 0) : left + SIDE]
    if top < 0 or left < 0 or tile.shape[1:] != (SIDE, SIDE):
        return MISSING
    return 200, {"Content-Type": "image/png", "ETag": f'"{path}"'}, encoded(tile)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TileServer]:
    """A server of the sample as tiles, an empty cache, and a client that hardly waits."""
    monkeypatch.setenv("GEOHR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(client, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(client, "READ_SECONDS", 5.0)
    fresh()
    with tile_server(xyz) as server:
        yield server
    fresh()


def fresh() -> None:
    """Forget what this process holds of services, as another process would."""
    tile_cache.cache_clear()
    client.client_of.cache_clear()


def box(top: float, left: float, bottom: float, right: float) -> tuple[float, ...]:
    """Degrees of a part of the sample, counted in tiles from its first."""
    _, row, col = pixels()
    level = square_levels(CRS.from_epsg(3857))[ZOOM]
    x, y = level.geobox.to_world(
        np.array([col + left, col + right]) * SIDE, np.array([row + bottom, row + top]) * SIDE
    )
    lon, lat = rasterio.warp.transform("EPSG:3857", "OGC:CRS84", x, y)
    return (lon[0], lat[0], lon[1], lat[1])


INNER = (1.2, 1.2, 2.8, 3.8)


def opened(service: TileServer, template: str = "/{z}/{x}/{y}.png", **changes: Any) -> Scene:
    """The scene of the middle of the sample."""
    settings: dict[str, Any] = {"bbox": box(*INNER), "zoom": ZOOM, "rate": 1000.0, "gsd": "native"}
    return open_view(service.address + template, ViewOptions(**{**settings, **changes}))


def whole(scene: Scene) -> tuple[Any, Any]:
    """All pixels of a scene, and which are valid."""
    tile = scene.read(scene.geobox.extent)
    return tile.pixels, tile.valid


def test_pixels_are_those_of_the_file_and_each_tile_is_asked_for_once(
    service: TileServer,
) -> None:
    scene = opened(service)
    got, valid = whole(scene)
    held, *_ = pixels()
    # Two tiles by three are touched, and one more on each side is context.
    assert got.shape == (3, 4 * SIDE, 5 * SIDE)
    assert valid.all()
    assert np.array_equal(got, held[:, : 4 * SIDE, : 5 * SIDE])
    whole(scene)
    fresh()
    whole(scene)
    assert len(service.asked) == 20
    assert set(service.asked.values()) == {1}
    assert {each["User-Agent"].partition("/")[0] for each in service.headers} == {"geohr"}


@pytest.mark.parametrize(
    ("template", "to_xyz"),
    [
        ("/{z}/{x}/{-y}.png", lambda z, x, y: (z, x, 2**z - 1 - y)),
        ("/wmts/{TileMatrix}/{TileCol}/{TileRow}.png", lambda z, x, y: (z, x, y)),
        ("/{switch:a,b}/{z}/{x}/{y}.png", lambda z, x, y: (z, x, y)),
    ],
)
def test_ways_to_count_tiles(service: TileServer, template: str, to_xyz: Any) -> None:
    def tile(path: str) -> Answer:
        z, x, y = map(int, path.removesuffix(".png").split("/")[-3:])
        return xyz("/" + "/".join(map(str, to_xyz(z, x, y))) + ".png")

    service.tile = tile
    got, _ = whole(opened(service, template))
    assert np.array_equal(got, pixels()[0][:, : 4 * SIDE, : 5 * SIDE])


def test_the_zoom_follows_from_the_model_at_the_latitude() -> None:
    levels = square_levels(CRS.from_epsg(3857))
    address = TileAddress("https://h/{q}.jpg")
    # The tile of Bing's own example.
    assert address.url(levels[3], 5, 3) == "https://h/213.jpg"
    assert levels[18].geobox.transform.a == pytest.approx(0.5971642834779395)


def test_the_coarsest_zoom_that_suits_is_read(service: TileServer) -> None:
    suits = ResolutionRange((0.06, 0.4), (0.1, 0.15))
    options = ViewOptions(bbox=box(*INNER), rate=1000.0)
    address = f"{service.address}/{{z}}/{{x}}/{{y}}.png"
    scene = open_view(address, options, suits=suits)
    assert scene.gsd == pytest.approx(0.149, abs=0.001)
    with pytest.raises(UsageError, match="--zoom"):
        open_view(address, options)
    with pytest.raises(UsageError, match="--aoi"):
        open_view(address, ViewOptions(zoom=20))


def test_a_level_without_tiles_gives_way_to_a_coarser_one(service: TileServer) -> None:
    suits = ResolutionRange((0.02, 0.04), (0.02, 0.04))
    options = ViewOptions(bbox=box(*INNER), rate=1000.0)
    with pytest.warns(UserWarning, match="zoom 21 is read"):
        scene = open_view(f"{service.address}/{{z}}/{{x}}/{{y}}.png", options, suits=suits)
    assert scene.native.gsd == pytest.approx(0.0746, abs=0.001)


def test_missing_tiles_are_no_data_and_trouble_that_passes_is_waited_for(
    service: TileServer,
) -> None:
    _, row, col = pixels()
    paths = [f"/{ZOOM}/{col + across}/{row + down}.png" for down in (1, 2) for across in (1, 2)]
    busy, broken = (429, {"Retry-After": "0"}, b"slow down"), (500, {}, b"<html>")
    service.wrong = {
        paths[0]: [busy, busy],
        paths[1]: [(204, {}, b"")],
        paths[2]: [broken, None],
        paths[3]: [(503, {}, b""), (200, {"Content-Length": "9"}, b"")],
    }
    service.wrong[paths[3]].pop()
    got, valid = whole(opened(service))
    held = pixels()[0][:, : 4 * SIDE, : 5 * SIDE].copy()
    hole = (slice(SIDE, 2 * SIDE), slice(2 * SIDE, 3 * SIDE))
    assert not valid[hole].any()
    assert valid.sum() == valid.size - SIDE * SIDE
    held[:, *hole] = 0
    assert np.array_equal(got, held)
    assert service.asked[paths[0]] == 3
    assert service.asked[paths[2]] == 3
    # Each was answered once with what it holds; only what failed was asked for again.
    assert set(service.given.values()) <= {0, 1}
    assert sum(service.given.values()) == 19


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((403, {}, b"no"), "refuses access .status 403."),
        (PAGE, "sends text/html"),
        ((200, {"Content-Type": "image/png"}, b"\x89PNG\r\n\x1a\nbroken"), "damaged"),
        ((302, {"Location": "https://login.example/?SECRET"}, b""), "redirects to login.example"),
        ((302, {"Location": "/again.png"}, b""), "redirects more than"),
        ((500, {}, b""), "status 500, 6 times"),
        ((429, {"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, b""), "--rate"),
        ((418, {}, b""), "status 418"),
        (None, "breaks off"),
    ],
)
def test_bad_answers_end_a_run_in_one_line_without_keys(
    service: TileServer, geohr: Geohr, tmp_path: Path, answer: Answer | None, told: str,
) -> None:  # fmt: skip
    service.tile = lambda _: answer  # type: ignore[assignment, return-value]
    out = tmp_path / "b.gpkg"
    bounds = ",".join(map(str, box(*INNER)))
    name = f"{service.address}/v1/0123456789abcdef01234567/{{z}}/{{x}}/{{y}}.png?key={KEY}"
    ended = geohr("segment", name, "--bbox", bounds, "--rate", 1000, "--out", out)
    assert ended.code == InputError.exit_code
    lines = ended.err.splitlines()
    assert [line for line in lines if "terms of use" not in line][-1].startswith("geohr: ")
    assert "127.0.0.1" in lines[-1]
    assert re.search(told, lines[-1])
    assert "Traceback" not in ended.err
    for secret in ("SECRET", "0123456789abcdef"):
        assert secret not in ended.err + ended.out
    assert not out.exists()


def test_a_server_that_never_answers_is_given_up(
    service: TileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "READ_SECONDS", 0.05)
    monkeypatch.setattr(client, "TRIES", 2)
    service.guard.acquire()  # no handler gets past it
    try:
        with pytest.raises(InputError, match="does not answer in time, 2 times"):
            opened(service)
    finally:
        service.guard.release()


def test_pictures_of_an_error_are_no_data(service: TileServer) -> None:
    _, _, col = pixels()
    picture = np.zeros((3, SIDE, SIDE), np.uint8)
    picture[:, 100:120] = 200
    sorry = (200, {"Content-Type": "image/png"}, encoded(picture))

    def tile(path: str) -> Answer:
        across = int(path.split("/")[2]) - col
        return sorry if across >= 3 else xyz(path)

    service.tile = tile
    _, valid = whole(opened(service))
    assert valid[:, : 3 * SIDE].all()
    assert not valid[:, 3 * SIDE :].any()


@pytest.mark.parametrize("kind", ["grey", "alpha", "palette"])
def test_kinds_of_pictures(service: TileServer, kind: str) -> None:
    held, _, col = pixels()

    def tile(path: str) -> Answer:
        status, headers, body = xyz(path)
        if status != 200:
            return MISSING
        image = Image.open(io.BytesIO(body))
        if kind == "grey" and (int(path.split("/")[2]) - col) % 2:
            image = image.convert("L")
        elif kind == "alpha":
            image.putalpha(Image.fromarray(np.triu(np.full((SIDE, SIDE), 255, np.uint8))))
        elif kind == "palette":
            image = image.convert("P")
        file = io.BytesIO()
        image.save(file, "PNG")
        return 200, headers, file.getvalue()

    service.tile = tile
    got, valid = whole(opened(service))
    assert got.shape[0] == 3
    first = (slice(SIDE), slice(SIDE))
    off = np.abs(got[0][first].astype(int) - held[0][first])
    assert off[valid[first]].mean() < 20
    if kind == "alpha":
        assert np.array_equal(valid[first], np.triu(np.ones((SIDE, SIDE), bool)))


def test_tiles_of_512_pixels_are_recognised(service: TileServer) -> None:
    held, row, col = pixels()

    def tile(path: str) -> Answer:
        zoom, x, y = map(int, path.removesuffix(".png").split("/")[-3:])
        top, left = 2 * SIDE * y - SIDE * row, 2 * SIDE * x - SIDE * col
        part = held[:, max(top, 0) : top + 512, max(left, 0) : left + 512]
        if zoom != ZOOM - 1 or top < 0 or left < 0 or part.shape[1:] != (512, 512):
            return MISSING
        return 200, {}, encoded(part)

    service.tile = tile
    scene = opened(service, zoom=ZOOM - 1, bbox=box(2.2, 2.2, 3.8, 3.8))
    assert scene.gsd == pytest.approx(0.0746, abs=0.001)
    got, valid = whole(scene)
    where = np.nonzero(valid)
    assert len(where[0])
    x, y = scene.geobox.to_world(where[1][0], where[0][0])
    level = square_levels(CRS.from_epsg(3857))[ZOOM]
    c, r = level.geobox.to_pixels(x, y)
    at = (round(float(r)) - row * SIDE, round(float(c)) - col * SIDE)
    assert np.array_equal(got[:, where[0][0], where[1][0]], held[:, at[0], at[1]])


def test_the_cache_honours_http(tmp_path: Path, service: TileServer) -> None:
    age = "max-age=3600"
    service.tile = lambda path: (200, {**xyz(path)[1], "Cache-Control": age}, xyz(path)[2])
    whole(opened(service))
    service.forget()
    fresh()
    whole(opened(service))
    assert not service.asked
    kept = [each for each in (tmp_path / "cache").rglob("*") if each.is_file()]
    assert len(kept) == 20
    assert not any(b"127.0.0.1" in each.read_bytes() for each in kept)


def test_what_is_stale_is_asked_for_again_and_what_is_not_to_be_stored_is_not(
    tmp_path: Path, service: TileServer
) -> None:
    service.tile = lambda path: (200, {**xyz(path)[1], "Cache-Control": "no-cache"}, xyz(path)[2])
    whole(opened(service))
    service.forget()
    fresh()
    got, _ = whole(opened(service))
    assert set(service.unchanged.values()) == {1}
    assert np.array_equal(got, pixels()[0][:, : 4 * SIDE, : 5 * SIDE])
    assert freshness({"cache-control": "no-store"}, 0.0, 9.0) == (9.0, False)
    assert freshness({"cache-control": "max-age=60", "age": "20"}, 0.0, 9.0) == (40.0, True)
    assert freshness({"expires": "Thu, 01 Jan 1970 00:01:00 GMT"}, 0.0, 9.0) == (60.0, True)
    assert freshness({"expires": "0"}, 5.0, 9.0) == (5.0, True)


def test_the_cache_keeps_to_its_bound(tmp_path: Path) -> None:
    cache = TileCache(tmp_path, limit=10_000)
    for number in range(100):
        cache.put(f"{number:064d}", CachedTile(bytes(1000), 0.0, 1.0))
    held = [each.stat().st_size for each in tmp_path.rglob("*") if each.is_file()]
    assert sum(held) <= 12_000
    other = TileCache(tmp_path)
    assert other.get(f"{99:064d}") == CachedTile(bytes(1000), 0.0, 1.0)
    assert other.get("0" * 64) is None


@pytest.mark.usefixtures("local_predictor")
def test_outputs_are_those_of_a_file(service: TileServer, model: Path, tmp_path: Path) -> None:
    scene = opened(service)
    file = tmp_path / "scene.tif"
    with rasterio.open(
        file, "w", driver="GTiff", dtype="uint8", count=3, height=scene.height, width=scene.width,
        crs=scene.crs, transform=scene.transform,
    ) as raster:  # fmt: skip
        raster.write(whole(scene)[0])
    service.forget()
    area = tmp_path / "area.geojson"
    geopandas.GeoDataFrame(geometry=[shapely.box(*box(*INNER))], crs="OGC:CRS84").to_file(area)
    options = SegmentOptions(aoi=str(area), gsd="native", zoom=ZOOM, rate=1000.0, tile=256)
    template = f"{service.address}/{{z}}/{{x}}/{{y}}.png?key={KEY}"
    for name, given in (("tiles", template), ("file", str(file))):
        segment_to_files(
            given, [tmp_path / f"{name}.gpkg"], probs=tmp_path / f"{name}.tif", model=model,
            options=options, stac=True,
        )  # fmt: skip
    for tiles, of_file in (("tiles.tif", "file.tif"),):
        with rasterio.open(tmp_path / tiles) as one, rasterio.open(tmp_path / of_file) as two:
            assert np.array_equal(one.read(), two.read())
            assert one.transform == two.transform
            assert one.tags()["geohr_scene"].startswith("http://127.0.0.1")
    one, two = (
        geopandas.read_file(tmp_path / f"{each}.gpkg", layer=each) for each in ("tiles", "file")
    )
    assert len(one)
    assert one.geometry.equals(two.geometry)
    for each in tmp_path.iterdir():
        assert not each.is_file() or KEY.encode() not in each.read_bytes()
    assert set(service.asked.values()) == {1}


WMTS = """<?xml version="1.0"?>
<Capabilities xmlns="http://www.opengis.net/wmts/1.0" xmlns:ows="http://www.opengis.net/ows/1.1"
 xmlns:xlink="http://www.w3.org/1999/xlink" version="1.0.0">
 <ows:OperationsMetadata><ows:Operation name="GetTile"><ows:DCP><ows:HTTP>
  <ows:Get xlink:href="{address}/kvp?"/></ows:HTTP></ows:DCP></ows:Operation>
 </ows:OperationsMetadata>
 <Contents>
  <Layer><ows:Identifier>ortho</ows:Identifier><Format>image/png</Format>
   <Style isDefault="true"><ows:Identifier>plain</ows:Identifier></Style>
   <Dimension><ows:Identifier>Time</ows:Identifier><Default>2020</Default></Dimension>
   <TileMatrixSetLink><TileMatrixSet>degrees</TileMatrixSet></TileMatrixSetLink>
   <TileMatrixSetLink><TileMatrixSet>google</TileMatrixSet></TileMatrixSetLink>
   {resource}
  </Layer>
  <Layer><ows:Identifier>map</ows:Identifier></Layer>
  <TileMatrixSet><ows:Identifier>degrees</ows:Identifier>
   <ows:SupportedCRS>urn:ogc:def:crs:EPSG::4326</ows:SupportedCRS>
   <TileMatrix><ows:Identifier>0</ows:Identifier>
    <ScaleDenominator>279541132.01435894</ScaleDenominator>
    <TopLeftCorner>90.0 -180.0</TopLeftCorner><TileWidth>256</TileWidth>
    <TileHeight>256</TileHeight><MatrixWidth>2</MatrixWidth><MatrixHeight>1</MatrixHeight>
   </TileMatrix></TileMatrixSet>
  <TileMatrixSet><ows:Identifier>google</ows:Identifier>
   <ows:SupportedCRS>urn:ogc:def:crs:EPSG::3857</ows:SupportedCRS>{matrices}</TileMatrixSet>
 </Contents></Capabilities>"""
MATRIX = """<TileMatrix><ows:Identifier>{zoom}</ows:Identifier>
 <ScaleDenominator>{scale}</ScaleDenominator>
 <TopLeftCorner>-20037508.342789244 20037508.342789244</TopLeftCorner><TileWidth>256</TileWidth>
 <TileHeight>256</TileHeight><MatrixWidth>{count}</MatrixWidth><MatrixHeight>{count}</MatrixHeight>
</TileMatrix>"""
RESOURCE = (
    '<ResourceURL format="image/png" resourceType="tile" '
    'template="{address}/rest/{{Style}}/{{Time}}/{{TileMatrixSet}}/{{TileMatrix}}/{{TileCol}}/'
    '{{TileRow}}.png"/>'
)


@pytest.mark.usefixtures("local_predictor")
def test_cells_of_a_service_are_one_run_over_it(
    service: TileServer, model: Path, tmp_path: Path, geohr: Geohr, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each cell asks for its own tiles; what it shares with others comes out of the cache."""
    monkeypatch.setattr("geohr.workflows.cells.planner.seconds_a_window", lambda *_: 0.5)
    name = f"{service.address}/{{z}}/{{x}}/{{y}}.png?key={KEY}"
    bounds = ",".join(map(str, box(1, 1, 5, 7)))
    options = ["--model", model, "--bbox", bounds, "--rate", 1000, "--threshold", "0.5"]
    options += ["--instances", "1", "--zoom", ZOOM, "--gsd", "native"]
    one = tmp_path / "one.parquet", tmp_path / "one.tif"
    ended = geohr("segment", name, *options, "--out", one[0], "--out", one[1])
    assert ended.code == 0, ended.err
    shutil.rmtree(tmp_path / "cache")
    service.forget()
    fresh()
    plan = tmp_path / "plan.json"
    ended = geohr("cells", "plan", name, *options, "--cell", "60m", "--out", plan)
    assert ended.code == 0, ended.err
    told = json.loads(geohr("cells", "status", plan, "--json").out)
    assert told["cells"] == 4
    for task in (4, 2, 1, 3):
        fresh()
        ended = geohr("cells", "run", plan, "--task", f"{task}/4")
        assert ended.code == 0, ended.err
        assert KEY not in ended.err + ended.out
    ended = geohr("cells", "join", plan, "--out", tmp_path / "all.parquet")
    assert ended.code == 0, ended.err
    assert max(service.asked.values()) == 1
    found = [geopandas.read_parquet(each) for each in (tmp_path / "all.parquet").rglob("*.parquet")]
    expected = geopandas.read_parquet(one[0])
    shapes = sorted(bytes(each) for frame in found for each in frame.geometry.to_wkb())
    assert shapes == sorted(map(bytes, expected.geometry.to_wkb()))
    assert len(shapes) > 10
    with rasterio.open(one[1]) as whole, rasterio.open(tmp_path / "all.classes.vrt") as cells:
        assert (whole.read() == cells.read()).all()


@pytest.mark.parametrize("rest", [True, False])
def test_wmts(service: TileServer, rest: bool) -> None:
    matrices = "".join(
        MATRIX.format(zoom=zoom, scale=559082264.0287178 / 2**zoom, count=2**zoom)
        for zoom in (22, 21, 20)  # in no order
    )
    resource = RESOURCE.format(address=service.address) if rest else ""

    def answer(path: str) -> Answer:
        if path == f"/capabilities.xml?apikey={KEY}":
            text = WMTS.format(address=service.address, resource=resource, matrices=matrices)
            return 200, {}, text.encode()
        if rest and path.startswith("/rest/plain/2020/google/"):
            return xyz(path)
        told = dict(each.split("=") for each in path.removeprefix("/kvp?").split("&"))
        assert (told["LAYER"], told["TILEMATRIXSET"]) == ("ortho", "google")
        return xyz(f"/{told['TILEMATRIX']}/{told['TILECOL']}/{told['TILEROW']}.png")

    service.tile = answer
    address = f"wmts:{service.address}/capabilities.xml?apikey={KEY}"
    view = ViewOptions(bbox=box(*INNER), zoom=ZOOM, rate=1000.0, gsd="native")
    got, _ = whole(open_view(f"{address}&layer=ortho", view))
    assert np.array_equal(got, pixels()[0][:, : 4 * SIDE, : 5 * SIDE])
    with pytest.raises(InputError, match="layer= in the address; the service has: ortho, map"):
        open_view(address, view)
    service.tile = lambda _: (200, {}, b"<html/>")
    with pytest.raises(InputError, match="not the capabilities of a WMTS") as told:
        open_view(address, view)
    assert KEY not in str(told.value)


@pytest.mark.parametrize(("version", "crs"), [("1.3.0", "EPSG:3857"), ("1.1.1", "EPSG:3857")])
def test_wms(service: TileServer, version: str, crs: str) -> None:
    size = square_levels(CRS.from_epsg(3857))[ZOOM].geobox.transform.a * SIDE

    def answer(path: str) -> Answer:
        told = {name: values[0] for name, values in parse_qs(path.partition("?")[2]).items()}
        assert (told["LAYERS"], told["WIDTH"], told["map"]) == ("ortho", "256", "x")
        assert told["CRS" if version == "1.3.0" else "SRS"] == crs
        west, _, _, north = map(float, told["BBOX"].split(","))
        col, row = (west + MERCATOR_HALF) / size, (MERCATOR_HALF - north) / size
        return xyz(f"/{ZOOM}/{round(col)}/{round(row)}.png")

    service.tile = answer
    address = f"wms:{service.address}/wms?map=x&layers=ortho&version={version}&crs={crs}&WIDTH=9"
    view = ViewOptions(bbox=box(*INNER), zoom=ZOOM, rate=1000.0, gsd="native")
    got, _ = whole(open_view(address, view))
    assert np.array_equal(got, pixels()[0][:, : 4 * SIDE, : 5 * SIDE])
    with pytest.raises(UsageError, match="layers=ortho"):
        open_view(f"wms:{service.address}/wms", view)


def test_wms_in_degrees_has_latitude_first() -> None:
    level = square_levels(CRS.from_epsg(4326))[2]
    address = "https://h/?BBOX={bbox}"
    assert TileAddress(address, north_first=True).url(level, 1, 0).endswith("0,-180,90,-90")
    assert TileAddress(address).url(level, 1, 0).endswith("-180,0,-90,90")


EPSG_URI = "http://www.opengis.net/def/crs/EPSG/0/3857"


@pytest.mark.parametrize("quad", [True, False])
def test_ogc_api_tiles(service: TileServer, quad: bool) -> None:
    item = {
        "rel": "item", "type": "image/png", "templated": True,
        "href": "/ogc/{tileMatrix}/{tileRow}/{tileCol}?f=png",
    }  # fmt: skip
    scheme, own = {"rel": SCHEME, "href": "/matrices"}, {"rel": "self", "href": "/tiles/own"}
    uri = "http://www.opengis.net/def/tilematrixset/OGC/1.0/WebMercatorQuad" if quad else "own"
    size = square_levels(CRS.from_epsg(3857))[ZOOM].geobox.transform.a
    matrix = {
        "id": str(ZOOM), "cellSize": size, "pointOfOrigin": [-MERCATOR_HALF, MERCATOR_HALF],
        "tileWidth": SIDE, "tileHeight": SIDE, "matrixWidth": 2**ZOOM, "matrixHeight": 2**ZOOM,
    }  # fmt: skip
    documents = {
        "/tiles": {"tilesets": [{"tileMatrixSetURI": uri, "links": [own]}]},
        "/tiles/own": {"tileMatrixSetURI": uri, "links": [scheme, item]},
        "/matrices": {"crs": EPSG_URI, "tileMatrices": [matrix]},
    }

    def answer(path: str) -> Answer:
        if path in documents:
            return 200, {}, json.dumps(documents[path]).encode()
        zoom, row, col = path.partition("?")[0].split("/")[-3:]
        return xyz(f"/{zoom}/{col}/{row}.png")

    service.tile = answer
    view = ViewOptions(bbox=box(*INNER), zoom=ZOOM, rate=1000.0, gsd="native")
    got, _ = whole(open_view(f"ogcapi:{service.address}/tiles", view))
    assert np.array_equal(got, pixels()[0][:, : 4 * SIDE, : 5 * SIDE])
    service.tile = lambda _: (200, {}, b'{"links": []}')
    with pytest.raises(InputError, match="not a tile set"):
        open_view(f"ogcapi:{service.address}/tiles", view)


def test_an_address_that_is_none(service: TileServer) -> None:
    with pytest.raises(UsageError, match=r"\{zoom\} is not known"):
        opened(service, "/{zoom}/{x}/{y}.png")
    with pytest.raises(UsageError, match="needs"):
        opened(service, "/{x}/{y}.png")
    with pytest.raises(InputError, match="no tile in the area at zoom 23"):
        opened(service, zoom=23)


def archive(path: Path) -> Path:
    """A PMTiles file of the sample at zooms 20 and 21."""
    from pmtiles.tile import Compression, TileType, zxy_to_tileid
    from pmtiles.writer import Writer

    _, row, col = pixels()
    west, _, east, north = box(0, 0, 1, COLS)
    south = box(ROWS - 1, 0, ROWS, 1)[1]
    bounds = {"min_lon_e7": west, "min_lat_e7": south, "max_lon_e7": east, "max_lat_e7": north}
    with path.open("wb") as file:
        writer = Writer(file)
        for zoom in (ZOOM - 1, ZOOM):
            step = 2 ** (ZOOM - zoom)
            places = [
                (zxy_to_tileid(zoom, x, y), f"/{zoom}/{x}/{y}.png")
                for y in range(row // step, (row + ROWS) // step + 1)
                for x in range(col // step, (col + COLS) // step + 1)
            ]
            for number, name in sorted(places):
                status, _, body = xyz(name)
                if status == 200:
                    writer.write_tile(number, body)
        told = {
            "tile_type": TileType.PNG, "tile_compression": Compression.NONE, "clustered": True,
            "min_zoom": ZOOM - 1, "max_zoom": ZOOM, "center_zoom": ZOOM,
            "center_lon_e7": 0, "center_lat_e7": 0,
            **{name: int(value * 1e7) for name, value in bounds.items()},
        }  # fmt: skip
        writer.finalize(told, {})
    return path


def test_pmtiles_of_imagery(
    service: TileServer, tmp_path: Path, served: Path, web: Server, geohr: Geohr
) -> None:
    path = archive(served / "ortho.pmtiles")
    view = ViewOptions(bbox=box(*INNER), gsd="native", rate=1000.0)
    for name in (str(path), f"{web.address}/ortho.pmtiles"):
        got, _ = whole(open_view(name, view))
        assert np.array_equal(got, pixels()[0][:, : 4 * SIDE, : 5 * SIDE])
    # Without an area, the file says what it covers; the model says at which zoom it is read.
    suits = ResolutionRange((0.1, 0.2), (0.1, 0.2))
    scene = open_view(str(path), ViewOptions(), suits=suits)
    assert scene.gsd == pytest.approx(0.149, abs=0.001)
    assert scene.native.source.files == (str(path),)
    vector, broken = tmp_path / "roads.pmtiles", tmp_path / "broken.pmtiles"
    content = path.read_bytes()
    vector.write_bytes(content[:99] + b"\1" + content[100:])
    broken.write_bytes(content[:2000])
    bads = {vector: "MVT", broken: "cut short|damaged|not a PMTiles", SAMPLE: "not a PMTiles"}
    for bad, told in bads.items():
        name = shutil.copy(bad, tmp_path / "bad.pmtiles")
        ended = geohr("segment", name, "--out", tmp_path / "b.gpkg")
        assert ended.code == InputError.exit_code
        assert re.search(told, ended.err)
    ended = geohr("segment", f"{web.address}/none.pmtiles", "--out", tmp_path / "b.gpkg")
    assert (ended.code, "status 404" in ended.err) == (InputError.exit_code, True)


def test_mbtiles_of_imagery(tmp_path: Path, served: Path, web: Server) -> None:
    level = square_levels(CRS.from_epsg(3857))[ZOOM].geobox
    held, row, col = pixels()
    place = level.window(Window(row * SIDE, col * SIDE, 2 * SIDE, 2 * SIDE))
    plain, tiles = tmp_path / "plain.tif", served / "ortho.mbtiles"
    with rasterio.open(
        plain, "w", driver="GTiff", dtype="uint8", count=3, height=2 * SIDE, width=2 * SIDE,
        crs="EPSG:3857", transform=place.transform,
    ) as raster:  # fmt: skip
        raster.write(held[:, : 2 * SIDE, : 2 * SIDE])
    rasterio.shutil.copy(plain, tiles, driver="MBTiles", TILE_FORMAT="PNG")
    scene = Scene.open(tiles)
    got, valid = whole(scene)
    assert valid.all()
    assert np.array_equal(got, held[:, : 2 * SIDE, : 2 * SIDE])
    assert scene.transform.almost_equals(place.transform, 1e-3)
    with pytest.raises(InputError, match="copy the file to disk, or make it PMTiles"):
        Scene.open(f"{web.address}/ortho.mbtiles")


@pytest.mark.full
def test_a_scene_of_tiles_can_be_sent_and_is_known_again(
    service: TileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scene = opened(service)
    sent = pickle.loads(pickle.dumps(scene.absolute()))
    assert np.array_equal(whole(sent)[0], whole(scene)[0])
    fresh()
    assert opened(service).describe() == scene.describe()
    # Other imagery at the same address is another scene.
    monkeypatch.setenv("GEOHR_CACHE", str(tmp_path / "other"))
    fresh()
    _, _, col = pixels()
    service.tile = lambda path: xyz(path.replace(f"/{col + 2}/", f"/{col + 6}/"))
    assert opened(service).describe() != scene.describe()
