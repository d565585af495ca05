"""The page on models: every command of it, as written, beside a hub on this machine."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save, save_file

from geohr.models.model import resolve_model
from geohr.models.registry import remote_models
from tests.command import Geohr
from tests.models.local_hub import LocalHub
from tests.train.towns import make_town

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "models.md"
# What a page need not say: training for a moment only.
SHORT = ("--steps", "1", "--batch", "2", "--tile", "64", "--device", "cpu")


def commands() -> list[list[str]]:
    """The arguments of every `geohr` command of the page."""
    blocks = re.findall(r"```text\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("geohr ")]


def test_the_page_has_each_way_in_and_out() -> None:
    verbs = [" ".join(each[:2]) if each[0] == "models" else each[0] for each in commands()]
    ways = ("import", "list", "pull", "push", "card")
    assert {*(f"models {way}" for way in ways), "train", "export"} <= set(verbs)


# A reader is warned of what is odd about a scene, and the command goes on.
@pytest.mark.filterwarnings("default")
@pytest.mark.full
def test_the_commands_of_the_page_as_written(
    hub: LocalHub, geohr_online: Geohr, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    unet = smp.Unet("resnet34", encoder_weights=None, classes=3)
    state = {f"model.{key}": each for key, each in unet.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "net.ckpt")
    for name in ("scene", "orthophoto", "a"):
        town = make_town(tmp_path, name)
    town.polygons.rename(tmp_path / "a.gpkg")
    save_file(timm.create_model("convnext_tiny").state_dict(), tmp_path / "convnext.safetensors")
    repository = "timm/hrnet_w18.ms_aug_in1k"
    hub.put(repository, "model.safetensors", save(timm.create_model("hrnet_w18").state_dict()))
    hub.put(repository, "README.md", "---\nlicense: mit\n---\n")
    row = remote_models()["flair-rgb-15"]
    flair = smp.Unet("resnet34", encoder_weights=None, classes=len(row.classes))
    torch.save(flair.state_dict(), tmp_path / "flair.pth")
    hub.put(row.address.repo, str(row.address.file), (tmp_path / "flair.pth").read_bytes())
    for words in commands():
        extra = SHORT if words[0] == "train" else ()
        if words[:2] == ["models", "push"]:
            # Weights of one step blow roundings up beyond what `export` allows.
            resolve_model("buildings").save(tmp_path / "mine.safetensors")
        done = geohr_online(*words, *extra)
        assert done.code == 0, (words, done.err)
        for index, word in enumerate(words):
            if word == "--out":
                assert (tmp_path / words[index + 1]).is_file(), words
