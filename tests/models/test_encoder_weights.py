"""Training starts from published encoder weights: tags, files, the hub; and the card says so."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn

from geohr.errors import InputError, UsageError
from geohr.models.card import Card, read_card
from geohr.models.encoder_weights import find_weights, load_encoder
from geohr.models.networks import build
from tests.command import Geohr
from tests.makers import one_class_card
from tests.models.local_hub import LocalHub
from tests.train.towns import make_town

QUICK = ("--steps", "1", "--batch", "2", "--tile", "32", "--device", "cpu")


def started(card: Card, path: Path) -> tuple[nn.Module, Card]:
    network = build(card)
    return network, load_encoder(network, card, find_weights(str(path), card.encoder))


def timm_file(name: str, path: Path) -> dict[str, Tensor]:
    torch.manual_seed(0)
    tensors = dict(timm.create_model(name).state_dict())
    save_file(tensors, path)
    return tensors


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("architecture", ["hrnetv1", "hrnetv2", "hrnetocr", "unet"])
def test_hrnets_start_from_timms_file(architecture: str, stride: int, tmp_path: Path) -> None:
    theirs = timm_file("hrnet_w18_small", tmp_path / "w18.safetensors")
    card = one_class_card(
        architecture=architecture, stem_stride=stride, bands=("red", "green", "blue", "nir"),
        mean=(0.5,) * 4, std=(0.2,) * 4,
    )  # fmt: skip
    network, card = started(card, tmp_path / "w18.safetensors")
    ours = network.get_submodule("encoder").state_dict()
    assert torch.equal(ours["layer1.0.conv1.weight"], theirs["layer1.0.conv1.weight"])
    torch.testing.assert_close(ours["conv1.weight"][:, 3], theirs["conv1.weight"].mean(1) * 0.75)
    (source,) = card.sources
    assert source.name.startswith("encoder weights w18.safetensors (sha256 ")
    assert source.licence == "not stated"
    assert card.mean == (0.5,) * 4


@pytest.mark.parametrize(
    ("encoder", "theirs", "key", "inside"),
    [
        ("resnet18", "resnet18", "layer4.1.conv2.weight", "layer4.1.conv2.weight"),
        ("tu-resnet18", "resnet18", "layer4.1.conv2.weight", "model.layer4.1.conv2.weight"),
        # timm flattens the names of these when it gives features.
        (
            "tu-convnext_atto", "convnext_atto",
            "stages.3.blocks.0.conv_dw.weight", "model.stages_3.blocks.0.conv_dw.weight",
        ),
        (
            "tu-mobilenetv3_small_050", "mobilenetv3_small_050",
            "blocks.1.0.conv_dw.weight", "model.blocks.1.0.conv_dw.weight",
        ),
    ],
)  # fmt: skip
def test_other_encoders_start_from_timms_file(
    encoder: str, theirs: str, key: str, inside: str, tmp_path: Path
) -> None:
    published = timm_file(theirs, tmp_path / "any.safetensors")
    card = one_class_card(
        architecture="unet", encoder=encoder, bands=("a", "b"), mean=(0.5, 0.5), std=(0.2, 0.2)
    )
    network, _ = started(card, tmp_path / "any.safetensors")
    assert torch.equal(network.get_submodule("encoder").state_dict()[inside], published[key])


def test_a_whole_model_of_smp_starts_another_by_its_encoder(tmp_path: Path) -> None:
    card = one_class_card(architecture="fpn", encoder="resnet18")
    torch.manual_seed(0)
    whole = build(card)
    wrapped = {f"model.{key}": value for key, value in whole.state_dict().items()}
    torch.save({"state_dict": wrapped}, tmp_path / "last.ckpt")
    network, _ = started(
        one_class_card(architecture="unet", encoder="resnet18"), tmp_path / "last.ckpt"
    )
    assert torch.equal(network.encoder.conv1.weight, whole.encoder.conv1.weight)  # type: ignore[union-attr]


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    timm_file("resnet18", tmp_path / "r18.safetensors")
    for encoder, message in (
        ("hrnetv2_w18_small_v1", "no name has stage4. in it"),
        ("resnet34", "not the weights of resnet34"),
        ("tu-resnet34", "not the weights of tu-resnet34"),
    ):
        card = one_class_card(architecture="unet", encoder=encoder)
        with pytest.raises(InputError, match=message):
            started(card, tmp_path / "r18.safetensors")
    with pytest.raises(UsageError, match="must be one of imagenet, FILE, hf://owner/name; got 'x'"):
        find_weights("x", "hrnetv2_w30")
    with pytest.raises(UsageError, match="must be imagenet, FILE or hf://owner/name"):
        find_weights("ssld", "tu-resnet18")


@pytest.mark.full
def test_train_fetches_records_and_does_without_a_hub_the_second_time(
    hub: LocalHub, geohr_online: Geohr, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("hrnet_w18_small").state_dict()
    hub.put("timm/hrnet_w18_small.ms_in1k", "model.safetensors", save(theirs))
    hub.put("timm/hrnet_w18_small.ms_in1k", "config.json", "{}")
    hub.put("timm/hrnet_w18_small.ms_in1k", "README.md", "---\nlicense: mit\n---\n")
    hub.put("lab/trunk", "model.safetensors", save(theirs))
    town = make_town(tmp_path, "town")
    data = ("--scene", town.image, "--labels", town.raster, *QUICK)
    encoder = ("--encoder", "hrnetv2_w18_small_v1")
    start = ("train", "--encoder-weights", "imagenet", "--stem-stride", 8, *encoder, *data)
    done = geohr_online(*start, "--out", "a.safetensors")
    assert done.code == 0, done.err
    card = read_card(tmp_path / "a.safetensors")
    (source,) = card.sources
    assert source.licence == "mit"
    assert source.attribution == "hf://timm/hrnet_w18_small.ms_in1k"
    assert card.stem_stride == 8
    # One step with a warming learning rate: the weights are still near where they began.
    trained = load_file(tmp_path / "a.safetensors")
    before = theirs["stage4.0.branches.0.0.conv1.weight"]
    assert (
        float((trained["encoder.stage4.0.branches.0.0.conv1.weight"] - before).abs().max()) < 1e-3
    )
    for address, line in (
        ("hf://lab/trunk@main", ""),
        ("hf://lab/nowhere", "hf://lab/nowhere: no such repository"),
        ("hf://lab/trunk/other.bin", "has no file other.bin"),
    ):
        command = ("train", "--encoder-weights", address, *encoder, *data)
        done = geohr_online(*command, "--out", "b.safetensors", "--overwrite")
        assert done.code == (3 if line else 0), done.err
        assert line in done.err
    hub.address = "http://127.0.0.1:9"
    again = geohr_online(*start, "--out", "c.safetensors")
    assert again.code == 0, again.err
    never = ("train", "--encoder-weights", "hf://lab/never", *encoder, *data)
    done = geohr_online(*never, "--out", "d.safetensors")
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert "the hub cannot be reached" in done.err
    assert not (tmp_path / "d.safetensors").exists()
