"""Models from the registry and models given away, through a hub on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import segmentation_models_pytorch as smp
import torch
from affine import Affine
from pystac.stac_object import STACObjectType
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from rasterio.enums import Resampling

from geohr.models.card import read_card
from geohr.models.metadata import mlm_item, read_item
from geohr.models.model import Model, resolve_model
from geohr.models.registry import remote_models
from tests.command import command
from tests.makers import one_class_card, random_model
from tests.models.conftest import Run
from tests.models.local_hub import LocalHub


def flair(hub: LocalHub, path: Path) -> bytes:
    """The row's file as IGN names it: two modules deep, with the loss's weights beside it."""
    torch.manual_seed(0)
    network = smp.Unet("resnet34", encoder_weights=None, classes=19)
    state = {f"model.seg_model.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state | {"criterion.weight": torch.ones(19)}}, path)
    row = remote_models()["flair-rgb-15"]
    assert row.address.file is not None
    hub.put(row.address.repo, row.address.file, path.read_bytes())
    return path.read_bytes()


def test_pull_resumes_pins_and_refuses_another_file(
    hub: LocalHub, geohr_online: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOHR_CACHE", str(tmp_path / "geohr"))
    content = flair(hub, tmp_path / "flair.pth")
    hub.cut = len(content) // 2
    done = geohr_online("models", "pull", "flair-rgb-15", "--out", "f.safetensors")
    if done.returncode:
        # The client may leave going on to the next call.
        assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
        assert not (tmp_path / "f.safetensors").exists()
        done = geohr_online("models", "pull", "flair-rgb-15", "--out", "f.safetensors")
    assert done.returncode == 0, done.stderr
    card = read_card(tmp_path / "f.safetensors")
    assert (len(card.classes), card.licence, card.gsd) == (19, "Etalab 2.0", (0.2, 0.2))
    assert "IGN" in card.sources[0].attribution
    row = remote_models()["flair-rgb-15"]
    hub.put(row.address.repo, str(row.address.file), content + b"changed")
    cache = next((tmp_path / "cache").rglob("snapshots"))
    subprocess.run(["rm", "-rf", str(cache.parent)], check=True)
    done = geohr_online("models", "pull", "flair-rgb-15", "--out", "g.safetensors")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr
    assert "now has another file" in done.stderr
    assert not (tmp_path / "g.safetensors").exists()


def test_names_and_hubs_that_are_not_there(
    hub: LocalHub, geohr_online: Run, tmp_path: Path
) -> None:
    done = geohr_online("models", "pull", "nothing")
    assert done.returncode == 2
    assert "no model 'nothing' in the registry; known: flair-rgb-12" in done.stderr
    done = geohr_online("models", "pull", "ftw-fields")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "no such repository" in done.stderr
    hub.address = "http://127.0.0.1:9"
    done = geohr_online("models", "pull", "ftw-fields")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "the hub cannot be reached" in done.stderr


def test_push_gives_what_smp_opens_and_import_takes_back(
    hub: LocalHub, geohr_online: Run, tmp_path: Path
) -> None:
    card = one_class_card(licence="CC-BY-4.0", stem_stride=2, notes="A test.")
    random_model(tmp_path / "mine.safetensors", card=card)
    done = geohr_online("models", "push", "mine.safetensors", "hf://lab/mine")
    assert done.returncode == 0, done.stderr
    pushed = hub.folder / "lab" / "mine"
    assert {each.name for each in pushed.iterdir()} == {
        "README.md", "config.json", "mlm.json", "model.safetensors",
    }  # fmt: skip
    assert "license: cc-by-4.0" in (pushed / "README.md").read_text()
    network = smp.from_pretrained(str(pushed)).eval()
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        mine = Model.load(tmp_path / "mine.safetensors").network(pixels)
        np.testing.assert_allclose(network(pixels).numpy(), mine.numpy(), atol=1e-5)
    done = geohr_online(
        "models", "import", "hf://lab/mine", "--gsd", "0.1,0.5", "--out", "b.safetensors"
    )
    assert done.returncode == 0, done.stderr
    assert read_card(tmp_path / "b.safetensors").stem_stride == 2


def test_an_item_of_mlm_is_valid_and_read_back(tmp_path: Path) -> None:
    model = resolve_model("buildings")
    item: dict[str, Any] = mlm_item(model, href="./buildings.safetensors")
    JsonSchemaSTACValidator().validate_core(item, STACObjectType.ITEM, "1.1.0")
    (tmp_path / "item.json").write_text(json.dumps(item))
    entries = read_item(tmp_path / "item.json")
    assert entries["bands"] == model.card.bands
    assert entries["licence"] == model.card.licence
    assert [each.name for each in entries["classes"]] == ["building"]


def test_the_registry_is_open_and_says_what_it_brings() -> None:
    for row in remote_models().values():
        assert "NC" not in row.licence
        assert "AGPL" not in row.licence
        assert row.attribution
        assert len(row.mean) == len(row.std) == len(row.bands)
        assert row.name in row.describe()


def test_lists_and_cards_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    geohr = command(monkeypatch, capsys)
    assert "flair-rgb-15: 19 classes" in geohr("models", "list", "--remote").out
    ended = geohr("models", "card", "buildings", "--format", "mlm", "--out", tmp_path / "b.json")
    assert ended.code == 0
    assert json.loads((tmp_path / "b.json").read_text())["properties"]["mlm:name"]


@pytest.fixture(scope="session")
def geodeep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment in which geodeep, which is AGPL, is all by itself."""
    folder = tmp_path_factory.mktemp("geodeep")
    python = folder / "bin" / "python"
    made = subprocess.run([sys.executable, "-m", "venv", str(folder)], check=False)
    if made.returncode or subprocess.run(
        [str(python), "-m", "pip", "install", "-q", "geodeep"], check=False, capture_output=True
    ).returncode:  # fmt: skip
        pytest.skip("pip cannot get geodeep here")
    return python


GEODEEP = """
import sys, rasterio, numpy
from geodeep import segment
mask = segment(sys.argv[1], sys.argv[2])
numpy.save(sys.argv[3], mask)
"""


@pytest.mark.full
def test_geodeep_finds_the_same_with_the_exported_file(
    geodeep: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    geohr = command(monkeypatch, capsys)
    scene = tmp_path / "scene.tif"
    original = Path(__file__).parents[2] / "examples" / "data" / "kampala.tif"
    metres = (0.1 * 0.15) ** 0.5
    # GeoDeep reads scenes at whole multiples of a model's resolution only.
    with rasterio.open(original) as source:
        factor = source.transform.a / metres
        shape = (3, round(source.height * factor), round(source.width * factor))
        pixels = source.read(out_shape=shape, resampling=Resampling.average)
        profile = source.profile | {
            "driver": "GTiff", "height": shape[1], "width": shape[2], "compress": "deflate",
            "transform": source.transform * Affine.scale(1 / factor), "photometric": "rgb",
        }  # fmt: skip
    with rasterio.open(scene, "w", **profile) as target:
        target.write(pixels)
    ended = geohr("export", "buildings", "--for", "deepness", "--out", tmp_path / "b.onnx")
    assert ended.code == 0, ended.err
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(
        [
            str(geodeep),
            "-c",
            GEODEEP,
            str(scene),
            str(tmp_path / "b.onnx"),
            str(tmp_path / "m.npy"),
        ],
        check=True,
        env=environment,
    )
    ended = geohr(
        "segment", scene, "--out", tmp_path / "c.tif", "--min-area", "0", "--backend", "onnx"
    )
    assert ended.code == 0, ended.err
    with rasterio.open(tmp_path / "c.tif") as classes:
        ours = classes.read(1) == 1
    theirs = np.load(tmp_path / "m.npy") == 1
    rows, cols = (min(one, other) for one, other in zip(ours.shape, theirs.shape, strict=True))
    ours, theirs = ours[:rows, :cols], theirs[:rows, :cols]
    overlap = (ours & theirs).sum() / (ours | theirs).sum()
    print(f"IoU of geodeep's mask and ours: {overlap:.3f}")
    assert overlap > 0.9
