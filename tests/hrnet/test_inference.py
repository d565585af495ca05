from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from geohr.hrnet import HRNetClassifier, HRNetHeatmaps, HRNetOCR, HRNetV1, HRNetV2, HRNetV2p, fuse
from geohr.hrnet.heads import SplitV2Decoder, V2Decoder
from tests.hrnet import reference

SMALL = "hrnetv2_w18_small_v1"


def networks() -> dict[str, nn.Module]:
    return {
        "V1": HRNetV1(SMALL, encoder_weights=None, classes=2),
        "V2": HRNetV2(SMALL, encoder_weights=None, classes=2),
        "V2 aligned": HRNetV2(SMALL, encoder_weights=None, classes=2, align_corners=True),
        "OCR": HRNetOCR(SMALL, encoder_weights=None, classes=2),
        "classification": HRNetClassifier("w18_small_v1", classes=5),
        "heatmaps": HRNetHeatmaps("w18_small_v1", keypoints=2),
        "V2p": HRNetV2p("w18_small_v1", out_channels=32),
    }


def outputs(network: nn.Module, pixels: Tensor) -> list[Tensor]:
    with torch.no_grad():
        made = network(pixels)
    return list(made.values()) if isinstance(made, dict) else [made]


@pytest.mark.parametrize("name", networks())
def test_the_fused_form_is_the_same_function(name: str) -> None:
    torch.manual_seed(0)
    network = networks()[name]
    reference.settle(network, torch.randn(2, 3, 64, 64))
    exact = copy.deepcopy(network).double()
    pixels = torch.randn(1, 3, 77, 96, dtype=torch.float64)
    # In double precision rounding cannot hide a wrong fold.
    for one, other in zip(outputs(fuse(exact), pixels), outputs(exact, pixels), strict=True):
        assert float((one - other).norm() / other.norm()) < 1e-12
    pixels = pixels.float()
    for one, other in zip(outputs(fuse(network), pixels), outputs(network, pixels), strict=True):
        assert float((one - other).norm() / other.norm()) < 1e-5


@pytest.mark.full
@pytest.mark.parametrize("variant", ["w18_small_v2", *reference.FULL_DEPTH])
def test_the_fused_form_of_every_variant_is_the_same_function(variant: str) -> None:
    torch.manual_seed(0)
    network = HRNetV2(f"hrnetv2_{variant}", encoder_weights=None, classes=3)
    reference.settle(network, torch.randn(2, 3, 64, 64))
    exact = copy.deepcopy(network).double()
    pixels = torch.randn(1, 3, 64, 75, dtype=torch.float64)
    (one,), (other,) = outputs(exact.fuse(), pixels), outputs(exact, pixels)
    assert float((one - other).norm() / other.norm()) < 1e-11


def test_fusing_leaves_the_network_alone() -> None:
    network = HRNetV2(SMALL, encoder_weights=None).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fused = network.fuse()
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not fused.training
    assert not any(parameter.requires_grad for parameter in fused.parameters())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in fused.modules())


def test_fused_weights_are_channels_last() -> None:
    for layer in HRNetV2(SMALL, encoder_weights=None).fuse().modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("align_corners", [False, True])
def test_the_split_head_equals_the_whole_one(align_corners: bool) -> None:
    torch.manual_seed(0)
    channels = (8, 16, 32, 64)
    whole = V2Decoder(channels, align_corners=align_corners).eval()
    mix = whole.project[0]
    assert isinstance(mix, nn.Conv2d)
    split = SplitV2Decoder(mix, channels, align_corners=align_corners)
    streams = [torch.randn(1, c, -(-41 // 2**i), -(-30 // 2**i)) for i, c in enumerate(channels)]
    with torch.no_grad():
        # The whole head's norm is still the identity, up to its epsilon.
        expected = whole(streams) * (1 + 1e-5) ** 0.5
        torch.testing.assert_close(split(streams), expected, rtol=1e-5, atol=1e-5)
