"""Depthwise convolutions of a training pass are computed in float32, all others in bfloat16."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import geohr.training.train as training
from geohr.training.depthwise import ExactDepthwise
from geohr.training.options import TrainOptions
from geohr.training.samples import pair
from tests.makers import one_class_card
from tests.train.towns import make_town


def gradients(network: nn.Module, pixels: Tensor, *, exact: bool) -> list[Tensor]:
    """Gradients of a network's weights in a bfloat16 pass."""
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        if exact:
            with ExactDepthwise():
                out = network(pixels)
        else:
            out = network(pixels)
    assert out.dtype == torch.bfloat16
    out.float().square().sum().backward()
    return [weights.grad.clone() for weights in network.parameters() if weights.grad is not None]


@pytest.mark.parametrize(("groups", "differs"), [(8, True), (2, False), (1, False)])
def test_only_depthwise_convolutions_are_exact(groups: int, differs: bool) -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(8, 8, 5, padding=2, groups=groups, bias=False)
    pixels = torch.randn(2, 8, 32, 32)
    exact = network(pixels).square().sum()
    exact.backward()
    assert network.weight.grad is not None
    truth = network.weight.grad.clone()
    (ours,) = gradients(network, pixels, exact=True)
    (plain,) = gradients(network, pixels, exact=False)
    assert torch.equal(ours, plain) != differs
    if differs:
        # What is left is the rounding of the output.
        assert (ours - truth).abs().mean() < 0.5 * (plain - truth).abs().mean()


@pytest.mark.parametrize(("precision", "times"), [("bfloat16", 1), ("float32", 0)])
def test_training_on_a_cpu_enters_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, times: int
) -> None:
    entered = []

    class Counted(ExactDepthwise):
        def __enter__(self) -> ExactDepthwise:
            entered.append(self)
            return super().__enter__()  # type: ignore[no-untyped-call, no-any-return]

    monkeypatch.setattr(training, "ExactDepthwise", Counted)
    town = make_town(tmp_path, "town", height=40, width=40)
    options = TrainOptions(
        encoder="hrnetv2_w18_small_v1", steps=1, batch=2, tile=32, warmup=1, device="cpu"
    )
    training.train(
        pair([town.image], [town.raster], split="train"),
        tmp_path / "m.safetensors",
        card=one_class_card(),
        options=dataclasses.replace(options, precision=precision),  # type: ignore[arg-type]
    )
    assert len(entered) == times
