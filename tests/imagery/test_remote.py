"""Scenes behind addresses: how much is fetched, what happens when servers fail; object stores."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio

from geohr._runtime.stores import Delivery, deliver, open_store, state_of
from geohr.api.segment import segment_to_files
from geohr.errors import InputError, OutputError, UsageError
from geohr.scene import Scene, SceneReader
from geohr.scene.provenance import identify
from geohr.tiling.grid import Grid
from geohr.tiling.rows import RowBuffer
from tests.command import Geohr
from tests.imagery.servers import Server, put_object
from tests.makers import write_scene

SIDE = 2000


@pytest.fixture(scope="module")
def big(served: Path) -> Path:
    """A tiled JPEG of some size."""
    rng = np.random.default_rng(8)
    coarse = rng.integers(0, 256, (3, SIDE // 2, SIDE // 2), dtype=np.uint8)
    pixels = coarse.repeat(2, axis=1).repeat(2, axis=2)
    return write_scene(
        served / "big.tif", pixels, tiled=True, blockxsize=256, blockysize=256, compress="jpeg",
        photometric="ycbcr", interleave="pixel",
    )  # fmt: skip


def digest(name: str | Path) -> int:
    """Of all windows, read as a run reads them."""
    scene = Scene.open(name)
    grid = Grid(scene.height, scene.width, 512, 128)
    told = 0
    with SceneReader(scene) as reader:
        band = RowBuffer(reader, grid)
        for index in range(grid.shape[0]):
            for tile in band.tiles(index):
                told = hash((told, tile.pixels.tobytes()))
    return told


def test_over_http_a_scene_is_fetched_once(big: Path, web: Server) -> None:
    web.ask(latency=0.02)
    assert digest(f"{web.address}/big.tif") == digest(big)
    seen = web.ask()
    assert seen.sent <= 1.05 * big.stat().st_size
    # A row of blocks at a time, and little else.
    assert seen.requests <= -(-SIDE // 256) + 12


@pytest.mark.parametrize("fault", ["fail_every", "cut_every"])
@pytest.mark.parametrize("every", [3, 7])
def test_answers_that_fail_are_asked_for_again(
    big: Path, web: Server, fault: str, every: int
) -> None:
    web.ask(**{fault: every})
    assert digest(f"{web.address}/big.tif") == digest(big)
    seen = web.ask()
    assert seen.failed + seen.cut > 0


def test_from_s3_a_scene_is_the_same(big: Path, store: str) -> None:
    put_object(store, "scenes", big)
    assert digest("s3://scenes/big.tif") == digest(big)


def test_what_changes_at_an_address_is_another_input(
    big: Path, served: Path, web: Server, store: str
) -> None:
    shutil.copy(big, served / "copy.tif")
    web_name, store_name = f"/vsicurl/{web.address}/copy.tif", "/vsis3/changing/copy.tif"
    put_object(store, "changing", served / "copy.tif")
    before = json.dumps(identify([web_name, store_name]))
    assert json.dumps(identify([web_name, store_name])) == before
    with (served / "copy.tif").open("ab") as file:
        file.write(b"x")
    put_object(store, "changing", served / "copy.tif")
    (_, *web_now), (_, *store_now) = identify([web_name, store_name])
    (_, *web_then), (_, *store_then) = json.loads(before)
    assert web_now != web_then
    assert store_now != store_then
    assert state_of("s3://changing/none") != state_of("s3://changing/none")


def test_a_member_of_an_archive_is_read_and_an_archive_is_explained(
    big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tmp_path / "scenes.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(big, "deep/big.tif")
    monkeypatch.chdir(tmp_path)
    for name in (archive, archive.name, f"./{archive.name}"):
        assert digest(f"zip://{name}!deep/big.tif") == digest(big)
    with pytest.raises(InputError, match=r"is an archive; name one .* zip://.*!deep/big.tif"):
        Scene.open(archive)


@pytest.mark.usefixtures("local_predictor")
def test_outputs_appear_in_a_store_whole_and_together(
    big: Path, store: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put_object(store, "results", big)
    names = ["s3://results/out/b.gpkg", "s3://results/out/b.shp", "s3://results/out/b.tif"]
    small = tmp_path / "small.tif"
    with rasterio.open(big) as raster:
        write_scene(small, raster.read(window=((0, 300), (0, 300))))
    segment_to_files(small, names, model=model)
    plain = [tmp_path / Path(name).name for name in names]
    segment_to_files(small, plain, model=model)
    held, _ = open_store("s3://results/x")
    listed = {each["path"]: each for part in held.list("out") for each in part}
    expected = {f"out/b.{end}" for end in ("gpkg", "tif", "shp", "shx", "dbf", "prj", "cpg")}
    expected |= {"out/b.qml", "out/b.sld"}
    assert set(listed) == expected
    for path in plain[:1] + plain[2:]:
        assert bytes(held.get(f"out/{path.name}").bytes()) == path.read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir() if each.is_dir()) == []
    assert len(geopandas.read_file(plain[0], layer="b")) > 0
    with pytest.raises(UsageError, match="exists; choose another name or pass --overwrite"):
        segment_to_files(small, names, model=model)
    segment_to_files(small, names, model=model, overwrite=True)


def test_what_cannot_be_published_leaves_nothing_behind(
    big: Path, store: str, tmp_path: Path
) -> None:
    put_object(store, "torn", big)
    paths = {}
    for name in ("one.gpkg", "two.gpkg"):
        path = tmp_path / name / name
        path.parent.mkdir()
        path.write_bytes(name.encode())
        paths[f"s3://torn/out/{name}"] = path
    missing = {**paths, "s3://no-such-bucket/out/three.gpkg": tmp_path / "one.gpkg" / "one.gpkg"}
    with pytest.raises(OutputError, match=r"cannot be written .*; what was made is kept in .*"):
        deliver(missing)
    held, _ = open_store("s3://torn/x")
    assert [each["path"] for part in held.list() for each in part] == ["big.tif"]
    deliver(paths)
    assert bytes(held.get("out/two.gpkg").bytes()) == b"two.gpkg"


def test_outputs_of_which_one_gets_no_name_are_taken_back(
    big: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_object(store, "half", big)
    paths = {}
    for name in ("one[1].gpkg", "two.gpkg"):
        path = tmp_path / f"of {name}" / name
        path.parent.mkdir()
        path.write_bytes(name.encode())
        paths[f"s3://half/out/{name}"] = path
    publish = Delivery.publish

    def refuse_the_second(delivery: Delivery) -> None:
        if delivery.key.endswith("two.gpkg"):
            raise PermissionError("403")
        publish(delivery)

    held, _ = open_store("s3://half/x")
    with monkeypatch.context() as patch:
        patch.setattr(Delivery, "publish", refuse_the_second)
        with pytest.raises(OutputError, match=r"two\.gpkg: the store cannot be written"):
            deliver(paths)
    assert [each["path"] for part in held.list() for each in part] == ["big.tif"]
    deliver(paths)
    assert bytes(held.get("out/one[1].gpkg").bytes()) == b"one[1].gpkg"


def test_addresses_that_lead_nowhere_give_one_line(
    web: Server, store: str, model: Path, tmp_path: Path, geohr: Geohr
) -> None:
    scene = write_scene(tmp_path / "s.tif", np.ones((3, 64, 64), np.uint8))
    out = tmp_path / "o.gpkg"
    for given, target, code, line in (
        (f"{web.address}/none.tif", out, 3, "nothing is there"),
        ("http://127.0.0.1:9/x.tif", out, 3, "cannot be reached"),
        ("s3://no-such-bucket/x.tif", out, 3, "nothing is there"),
        (f"{web.address}/none.json", out, 3, "cannot be read as STAC"),
        (scene, "s3://no-such-bucket/o.xyz", 2, "unknown extension .xyz"),
        (scene, "s3://bucket-alone", 2, "name an object, such as s3://bucket/file.gpkg"),
    ):
        ended = geohr("segment", given, "--out", target, "--model", model)
        assert ended.code == code, ended.err
        assert line in ended.err
        assert "Traceback" not in ended.err
    assert list(tmp_path.iterdir()) == [scene]
