"""Models from the registry and models given away, through a hub on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import shapely
import torch
from pystac.stac_object import STACObjectType
from pystac.validation.stac_validator import JsonSchemaSTACValidator

from geohr.evaluation.objects import match
from geohr.models.card import Source, read_card
from geohr.models.metadata import mlm_item, read_item, to_deepness
from geohr.models.model import Model, resolve_model
from geohr.models.registry import remote_models
from geohr.scene import Scene
from tests.command import Geohr, command
from tests.makers import one_class_card, random_model
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


@pytest.mark.full
def test_pull_resumes_pins_and_refuses_another_file(
    hub: LocalHub, geohr_online: Geohr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOHR_CACHE", str(tmp_path / "geohr"))
    content = flair(hub, tmp_path / "flair.pth")
    hub.cut = len(content) // 2
    done = geohr_online("models", "pull", "flair-rgb-15", "--out", "f.safetensors")
    if done.code:
        # The client may leave going on to the next call.
        assert (done.code, done.err.count("\n")) == (3, 1), done.err
        assert not (tmp_path / "f.safetensors").exists()
        done = geohr_online("models", "pull", "flair-rgb-15", "--out", "f.safetensors")
    assert done.code == 0, done.err
    card = read_card(tmp_path / "f.safetensors")
    assert (len(card.classes), card.licence, card.gsd) == (19, "Etalab 2.0", (0.2, 0.2))
    assert "IGN" in card.sources[0].attribution
    row = remote_models()["flair-rgb-15"]
    hub.put(row.address.repo, str(row.address.file), content + b"changed")
    cache = next((tmp_path / "cache").rglob("snapshots"))
    subprocess.run(["rm", "-rf", str(cache.parent)], check=True)
    done = geohr_online("models", "pull", "flair-rgb-15", "--out", "g.safetensors")
    assert (done.code, done.err.count("\n")) == (3, 1), done.err
    assert "now has another file" in done.err
    assert not (tmp_path / "g.safetensors").exists()


def test_names_and_hubs_that_are_not_there(
    hub: LocalHub, geohr_online: Geohr, tmp_path: Path
) -> None:
    done = geohr_online("models", "pull", "nothing")
    assert done.code == 2
    assert "no model 'nothing' in the registry; known: flair-rgb-12" in done.err
    done = geohr_online("models", "pull", "ftw-fields")
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert "no such repository" in done.err
    hub.address = "http://127.0.0.1:9"
    done = geohr_online("models", "pull", "ftw-fields")
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert "the hub cannot be reached" in done.err


def test_push_gives_what_smp_opens_and_import_takes_back(
    hub: LocalHub, geohr_online: Geohr, tmp_path: Path
) -> None:
    card = one_class_card(licence="CC-BY-4.0", stem_stride=2, notes="A test.")
    random_model(tmp_path / "mine.safetensors", card=card)
    done = geohr_online("models", "push", "mine.safetensors", "hf://lab/mine")
    assert done.code == 0, done.err
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
    assert done.code == 0, done.err
    assert read_card(tmp_path / "b.safetensors").stem_stride == 2


def test_a_push_that_is_killed_shows_nothing_and_the_same_command_completes_it(
    hub: LocalHub, geohr_online: Geohr, tmp_path: Path
) -> None:
    random_model(tmp_path / "mine.safetensors", card=one_class_card(licence="CC-BY-4.0"))
    hub.held = threading.Event()
    running = subprocess.Popen(
        [sys.executable, "-m", "geohr_cli", "models", "push", "mine.safetensors", "hf://lab/mine"],
        env=os.environ | hub.environment(tmp_path / "cache"),
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert hub.arrived.wait(120)
    finally:
        running.kill()
        running.wait()
        hub.held.set()
    # The weights lie in the hub's store; no commit names them.
    assert hub.uploads
    assert not list((hub.folder / "lab" / "mine").iterdir())
    hub.held = None
    done = geohr_online("models", "push", "mine.safetensors", "hf://lab/mine")
    assert done.code == 0, done.err
    assert {each.name for each in (hub.folder / "lab" / "mine").iterdir()} == {
        "README.md", "config.json", "mlm.json", "model.safetensors",
    }  # fmt: skip


def test_a_card_names_a_source_whose_licence_is_not_known() -> None:
    card = one_class_card(sources=(Source("net.ckpt", "", "a lab"),))
    assert "source: net.ckpt; a lab\n" in card.describe() + "\n"


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


@pytest.mark.parametrize(
    ("gsd", "best", "resolution"),
    [((0.06, 0.4), (0.1, 0.15), 15.0), ((0.06, 0.4), None, 21.9), ((0.2, 0.2), None, 20.0)],
)
def test_geodeep_is_told_to_read_at_what_suits_the_model(
    gsd: tuple[float, float], best: tuple[float, float] | None, resolution: float
) -> None:
    told = to_deepness(one_class_card(gsd=gsd, gsd_best=best, min_area=12.0), 512)
    assert json.loads(told["resolution"]) == resolution
    least = (2 * json.loads(told["seg_small_segment"])) ** 2 * (resolution / 100) ** 2
    assert least == pytest.approx(12.0, rel=0.15)
    assert json.loads(to_deepness(one_class_card(), 512)["seg_small_segment"]) == 0


def environment_with(package: str, folder: Path) -> Path:
    """The interpreter of an environment in which a package is all by itself."""
    python = folder / "bin" / "python"
    made = subprocess.run([sys.executable, "-m", "venv", str(folder)], check=False)
    if made.returncode or subprocess.run(
        [str(python), "-m", "pip", "install", "-q", package], check=False, capture_output=True
    ).returncode:  # fmt: skip
        pytest.skip(f"pip cannot get {package} here")
    return python


STAC_MODEL = """
import json, sys
from stac_model.schema import MLModelProperties
said = json.load(open(sys.argv[1]))["properties"]
MLModelProperties.model_validate(
    {name.removeprefix("mlm:"): value for name, value in said.items() if name.startswith("mlm:")}
)
"""


@pytest.mark.full
def test_stac_model_finds_the_item_valid(tmp_path: Path) -> None:
    python = environment_with("stac-model", tmp_path / "venv")
    item = mlm_item(resolve_model("land_cover"), href="./land_cover.safetensors")
    (tmp_path / "item.json").write_text(json.dumps(item))
    command_line = [str(python), "-c", STAC_MODEL, str(tmp_path / "item.json")]
    subprocess.run(command_line, check=True)


GEODEEP = """
import sys, geodeep
from pathlib import Path
Path(sys.argv[3]).write_text(geodeep.segment(sys.argv[1], sys.argv[2], output_type="geojson"))
"""


@pytest.mark.full
def test_geodeep_finds_the_same_objects_with_the_exported_file(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    # AGPL, so nothing of geohr's imports it.
    geodeep = environment_with("geodeep", tmp_path / "venv")
    geohr = command(monkeypatch, capsys)
    scene = Path(__file__).parents[2] / "examples" / "data" / "kampala.tif"
    ended = geohr("export", "buildings", "--for", "deepness", "--out", tmp_path / "b.onnx")
    assert ended.code == 0, ended.err
    files = map(str, (scene, tmp_path / "b.onnx", tmp_path / "theirs.geojson"))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([str(geodeep), "-c", GEODEEP, *files], check=True, env=environment)
    # At the whole multiple of the scene's pixel that GeoDeep reads at, and as plain outlines.
    # The scene's pixel on the ground is 0.3% smaller than in its CRS.
    pixel = Scene.open(scene).gsd
    assert pixel is not None
    ended = geohr(
        "segment", scene, "--out", tmp_path / "ours.gpkg", "--gsd", 2 * pixel, "--instances", "1",
        "--outline", "pixel", "--no-regularize", "--simplify", "0",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    layers = [
        geopandas.read_file(tmp_path / "ours.gpkg", layer="ours"),
        geopandas.read_file(tmp_path / "theirs.geojson"),
    ]
    layers[1] = layers[1][layers[1]["class"] == "building"]
    ours, theirs = (np.array(layer.to_crs("EPSG:32636").geometry.make_valid()) for layer in layers)
    theirs = theirs[shapely.area(theirs) >= resolve_model("buildings").card.min_area]
    found = len(match(ours, theirs).truth)
    print(f"of {len(ours)} objects and GeoDeep's {len(theirs)}, {found} are the same")
    assert 2 * found / (len(ours) + len(theirs)) >= 0.95
