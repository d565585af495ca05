"""A network that is grown says what it said before."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from geohr.hrnet import HRNetV2
from recipes.grow import grow


@pytest.mark.parametrize("encoder", ["hrnetv2_w18_small_v2", "hrnetv2_w18"])
def test_a_larger_network_starts_with_the_function_of_the_small_one(encoder: str) -> None:
    torch.manual_seed(0)
    small, large = (
        HRNetV2("hrnetv2_w18_small_v1", encoder_weights=None).eval(),
        HRNetV2(encoder, encoder_weights=None).eval(),
    )
    for layer in small.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.0)
            nn.init.normal_(layer.bias, std=0.2)
            nn.init.normal_(layer.running_mean, std=0.2)
    pixels = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        before = small(pixels)
        assert not torch.allclose(large(pixels), before, atol=before.std().item())
        grow(small, large)
        assert torch.allclose(large(pixels), before, atol=1e-4 * before.abs().max().item())


def test_what_is_added_learns_from_the_first_step_on() -> None:
    torch.manual_seed(0)
    small, large = (
        HRNetV2("hrnetv2_w18_small_v1", encoder_weights=None),
        HRNetV2("hrnetv2_w18_small_v2", encoder_weights=None),
    )
    grow(small, large)
    large(torch.randn(2, 3, 64, 64)).square().mean().backward()
    added = large.get_parameter("encoder.stage3.2.branches.0.0.bn2.weight")
    widened = large.get_parameter("segmentation_head.weight")
    assert added.grad is not None
    assert added.grad.abs().max() > 0
    assert widened.grad is not None
    assert widened.grad[:, 240:].abs().min() > 0
