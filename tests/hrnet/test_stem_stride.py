"""The resolution that is kept, 1/8 to 1/1 of the input: a choice of every network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor

from geohr.hrnet import (
    HRNet,
    HRNetClassifier,
    HRNetEncoder,
    HRNetHeatmaps,
    HRNetOCR,
    HRNetV1,
    HRNetV2,
    HRNetV2p,
    fuse,
    load_trunk,
)

VARIANT = "w18_small_v1"
SMALL = f"hrnetv2_{VARIANT}"
STRIDES = (1, 2, 4, 8)
DECODERS = (
    "unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "upernet", "segformer",
)  # fmt: skip


def evaluate(network: torch.nn.Module, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        made: Tensor = network.eval()(pixels)
    return made


@pytest.mark.parametrize("stride", STRIDES)
def test_streams_have_the_stride_that_was_asked_for(stride: int) -> None:
    with torch.no_grad():
        streams = HRNet(VARIANT, stem_stride=stride).eval()(torch.rand(1, 3, 75, 64))
    sizes = [(-(-75 // (stride << level)), 64 // (stride << level)) for level in range(4)]
    assert [tuple(stream.shape[-2:]) for stream in streams] == sizes


@pytest.mark.parametrize("stride", STRIDES)
def test_an_encoder_gives_what_smp_decoders_read_at_any_stride(stride: int) -> None:
    pixels = torch.rand(1, 3, 64, 96)
    encoder = HRNetEncoder(VARIANT, stem_stride=stride).eval()
    with torch.no_grad():
        features = encoder(pixels)
    assert [feature.shape[1] for feature in features] == encoder.out_channels
    assert [feature.shape[-2] for feature in features] == [64 >> level for level in range(6)]
    name = SMALL if stride == 4 else f"{SMALL}_stride{stride}"
    for decoder in DECODERS:
        model = smp.create_model(decoder, name, encoder_weights=None, classes=2)
        assert evaluate(model, pixels).shape == (1, 2, 64, 96)


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("kind", [HRNetV1, HRNetV2, HRNetOCR])
def test_segmentation_fuses_and_is_saved_with_its_stride(
    kind: type[HRNetV2], stride: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = kind(SMALL, encoder_weights=None, classes=2, stem_stride=stride).eval().double()
    pixels = torch.rand(1, 3, 77, 64, dtype=torch.float64)
    logits = evaluate(network, pixels)
    assert logits.shape == (1, 2, 77, 64)
    fused = evaluate(fuse(network), pixels)
    assert float((fused - logits).norm() / logits.norm()) < 1e-12
    network.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["stem_stride"] == stride
    again = smp.from_pretrained(str(tmp_path)).double()
    torch.testing.assert_close(evaluate(again, pixels), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", STRIDES)
def test_published_weights_load_at_any_stride(stride: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    published = HRNet(VARIANT).state_dict()
    torch.save(published, tmp_path / "trunk.pth")
    networks = (
        HRNet(VARIANT, stem_stride=stride),
        HRNetV2(SMALL, encoder_weights=None, stem_stride=stride).encoder,
        HRNetV2p(VARIANT, stem_stride=stride).trunk,
        HRNetEncoder(VARIANT, stem_stride=stride),
        HRNetHeatmaps(VARIANT, stem_stride=stride),
        HRNetClassifier(VARIANT, stem_stride=stride),
    )
    for network in networks:
        load_trunk(network, tmp_path / "trunk.pth")
        assert torch.equal(
            network.state_dict()["stage4.0.fuse_layers.0.3.0.weight"],
            published["stage4.0.fuse_layers.0.3.0.weight"],
        )


@pytest.mark.parametrize("stride", STRIDES)
def test_a_pyramid_starts_at_the_stride(stride: int) -> None:
    pyramid = HRNetV2p(VARIANT, out_channels=8, stem_stride=stride).eval()
    with torch.no_grad():
        levels = pyramid(torch.rand(1, 3, 128, 128))
    assert [level.shape[-1] for level in levels.values()] == [
        128 // stride >> level for level in range(5)
    ]


@pytest.mark.parametrize("stride", [0, 3, 16])
def test_other_strides_are_refused(stride: int) -> None:
    for kind in (HRNet, HRNetEncoder, HRNetV2p):
        with pytest.raises(ValueError, match=f"stem_stride must be 1, 2, 4 or 8, got {stride}"):
            kind(VARIANT, stem_stride=stride)
