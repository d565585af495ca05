"""Google's and Microsoft's object stores, emulated: scenes come from there, outputs go there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import rasterio

from geohr._runtime.stores import gdal_options, open_store, store_options
from geohr.scene.provenance import identify
from tests.command import Geohr
from tests.imagery.emulators import make_bucket, make_container
from tests.makers import noise, write_scene

OUTPUTS = ("b.gpkg", "b.tif")
STYLES = ("b.qml", "b.sld")


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene with several rows of blocks."""
    folder = tmp_path_factory.mktemp("emulated")
    tiles = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}
    return write_scene(folder / "scene.tif", noise(400, 300), **tiles)


def segmented_there(geohr: Geohr, scene: Path, model: Path, root: str, folder: Path) -> None:
    """Read a scene from a store and write outputs there: the same as on disk."""
    given = f"{root}/in/{scene.name}"
    store, key = open_store(given)
    store.put(key, scene)
    before = identify([given])
    assert identify([given]) == before
    for source, out in (
        (str(scene), str(folder / "disk")),
        (given, str(folder / "read")),
        (given, f"{root}/out"),
    ):
        if "://" not in out:
            Path(out).mkdir()
        outputs = [option for name in OUTPUTS for option in ("--out", f"{out}/{name}")]
        ended = geohr("segment", source, *outputs, "--model", model)
        assert ended.code == 0, ended.err
    listed = sorted(each["path"] for part in store.list("out") for each in part)
    assert listed == sorted(f"out/{name}" for name in (*OUTPUTS, *STYLES))
    for name in (*OUTPUTS, *STYLES):
        found = bytes(store.get(f"out/{name}").bytes())
        assert found == (folder / "read" / name).read_bytes()
    with (
        rasterio.open(folder / "disk" / "b.tif") as local,
        rasterio.open(folder / "read" / "b.tif") as there,
    ):
        assert (local.read() == there.read()).all()
    again = geohr("segment", given, "--out", f"{root}/out/b.gpkg", "--model", model)
    assert again.code == 2
    assert "exists; choose another name or pass --overwrite" in again.err
    missing = geohr("segment", f"{root}/none.tif", "--out", folder / "o.gpkg", "--model", model)
    assert missing.code == 3
    assert "Traceback" not in missing.err


@pytest.mark.usefixtures("local_predictor")
def test_googles_store(
    google: str, scene: Path, model: Path, tmp_path: Path, geohr: Geohr,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    make_bucket(google, "bucket")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google.removeprefix("http://"))
    monkeypatch.chdir(tmp_path)
    segmented_there(geohr, scene, model, "gs://bucket", tmp_path)


@pytest.mark.usefixtures("local_predictor")
def test_azures_store(
    azure: str, scene: Path, model: Path, tmp_path: Path, geohr: Geohr,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    make_container(azure, "container")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azure)
    monkeypatch.chdir(tmp_path)
    segmented_there(geohr, scene, model, "az://container", tmp_path)


def test_what_one_library_understands_is_told_to_the_other() -> None:
    plain = {"client_options": {"allow_http": True}, "retry_config": {"max_retries": 10}}
    theirs = {"AZURE_STORAGE_ACCOUNT": "name", "AZURE_STORAGE_ACCESS_KEY": "key"}
    ours = {"AZURE_STORAGE_ACCOUNT_NAME": "name", "AZURE_STORAGE_ACCOUNT_KEY": "key"}
    assert gdal_options(ours) == theirs
    assert gdal_options(theirs) == gdal_options({}) == gdal_options(theirs | ours) == {}
    connection = "AccountName=name;AccountKey=a+b==;BlobEndpoint=http://127.0.0.1:1/name/"
    assert store_options("az", {"AZURE_STORAGE_CONNECTION_STRING": connection}) == {
        "account_name": "name",
        "account_key": "a+b==",
        "endpoint": "http://127.0.0.1:1/name",
        **plain,
    }
    emulator = {"STORAGE_EMULATOR_HOST": "127.0.0.1:1"}
    assert gdal_options(emulator)["CPL_GS_ENDPOINT"] == "http://127.0.0.1:1/"
    told = store_options("gs", emulator)
    assert json.loads(told["service_account_key"])["gcs_base_url"] == "http://127.0.0.1:1"
    assert store_options("gs", {"GS_NO_SIGN_REQUEST": "yes"}) == {"skip_signature": True, **plain}
    assert all(store_options(kind, {}) == plain for kind in ("s3", "gs", "az"))
    assert gdal_options({"AWS_ENDPOINT_URL": "https://store"})["AWS_S3_ENDPOINT"] == "store"
