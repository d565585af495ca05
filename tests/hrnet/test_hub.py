"""ImageNet weights through the Hugging Face hub's own protocol, from a hub on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import load, save

import geohr.hrnet
from geohr.errors import InputError
from geohr.hrnet import HRNetV1, HRNetV2
from tests.models.local_hub import local_hub

REPOSITORY = "timm/hrnet_w18_small.ms_in1k"
NAME = "hrnetv2_w18_small_v1"


def test_imagenet_weights_come_from_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    content = save(timm.create_model("hrnet_w18_small").state_dict())
    with local_hub(tmp_path / "hub") as hub:
        hub.put(REPOSITORY, "model.safetensors", content)
        hub.put(REPOSITORY, "config.json", json.dumps({"architecture": "hrnet_w18_small"}))
        hub.lead_here(monkeypatch, tmp_path / "cache")
        network = HRNetV2(NAME, encoder_weights="imagenet", in_channels=4)
        fpn = smp.FPN(NAME, encoder_weights="imagenet", encoder_depth=4)
        single = HRNetV1(NAME, encoder_weights="imagenet").encoder.state_dict()
    assert f"GET /{REPOSITORY}/resolve/main/model.safetensors" in hub.requested
    assert network.encoder.interpolation.fusion == "bilinear"
    published, encoder = load(content), network.encoder.state_dict()
    for key, value in encoder.items():
        if key == "conv1.weight":
            torch.testing.assert_close(value[:, :3], published[key] * 0.75)
            torch.testing.assert_close(value[:, 3], published[key].mean(1) * 0.75)
        else:
            assert torch.equal(value, published[key])
    shallow = fpn.encoder.state_dict()
    assert not any(key.startswith("stage4") for key in shallow)
    assert all(torch.equal(value, published[key]) for key, value in shallow.items())
    assert all(torch.equal(single[key], encoder[key]) for key in single if key != "conv1.weight")
    network.save_pretrained(tmp_path / "saved")
    # A saved model holds its weights: it must not go back to the hub for others.
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["encoder_weights"] is None


def test_without_a_hub_the_error_names_load_trunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"cannot be fetched .* load_trunk\(model.encoder, FILE\)"):
        geohr.hrnet.HRNetV2("hrnetv2_w18_small_v1", encoder_weights="imagenet")
