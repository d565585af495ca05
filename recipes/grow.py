"""A trained HRNet on a wider and deeper trunk, which at first says just what the small one says.

    python -m recipes.grow BEFORE ENCODER OUT.safetensors

BEFORE is a bundled name or a model file with the V2 head, ENCODER the name of an encoder none of
whose counts is smaller. Training then goes on with `geohr train --init OUT.safetensors`.

Weights of the small network fill the first channels of the large one. Channels that are added are
drawn anew, and what reads them starts at zero; blocks and fusions that are added start as the
identity, their last normalisation scaled by zero (Chen et al., "Net2Net", 2016, section 2, where
units are copied instead).
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from geohr.hrnet.backbone import BasicBlock, Bottleneck, HighResolutionModule
from geohr.hrnet.heads import V2Decoder
from geohr.models.model import Model, resolve_model
from geohr.models.networks import build

CONCATENATED = "decoder.project.0.weight"
"""The one convolution that reads several streams, one behind the other."""


def grow(small: nn.Module, large: nn.Module) -> None:
    """Give a large network the function of a small one.

    Args:
        small: An `HRNetV2`.
        large: The same with a trunk that is as wide and deep, or more so.
    """
    blank_additions(set(dict(small.named_modules())), large)
    ours, theirs = small.state_dict(), large.state_dict()
    places = concatenated(small.get_submodule("decoder"), large.get_submodule("decoder"))
    grown = {
        name: widen(ours[name], tensor, places if name == CONCATENATED else None)
        for name, tensor in theirs.items()
        if name in ours
    }
    large.load_state_dict({**theirs, **grown})


def widen(weights: Tensor, drawn: Tensor, inputs: Tensor | None) -> Tensor:
    """Weights in the first places of a larger tensor; they do not see inputs that are added.

    Args:
        weights: `(out, in, row, col)` of a convolution, or `(channel,)`.
        drawn: The same, larger, of what is added.
        inputs: Where the small network's inputs lie among the large one's; None for the first.
    """
    wide = drawn.clone()
    if weights.ndim == 0:
        return weights.clone()
    wide[: len(weights)] = 0
    if weights.ndim == 1:
        wide[: len(weights)] = weights
        return wide
    where = torch.arange(weights.shape[1]) if inputs is None else inputs
    wide[: len(weights), where] = weights
    return wide


def concatenated(small: nn.Module, large: nn.Module) -> Tensor:
    """Where the channels of the small network's streams lie in the large one's concatenation."""
    assert isinstance(small, V2Decoder) and isinstance(large, V2Decoder)  # noqa: PT018
    starts = torch.tensor([0, *large.channels[:-1]]).cumsum(0)
    return torch.cat(
        [start + torch.arange(count) for start, count in zip(starts, small.channels, strict=True)]
    )


def blank_additions(known: set[str], large: nn.Module) -> None:
    """Let blocks and fusions whose names are not known start as the identity."""
    for name, module in large.named_modules():
        if name in known:
            continue
        for norm in last_norms(module):
            nn.init.zeros_(norm.weight)


def last_norms(module: nn.Module) -> Iterator[nn.BatchNorm2d]:
    """What scales a block's branch, or the paths of a fusion between different streams."""
    if isinstance(module, BasicBlock):
        yield module.bn2
    elif isinstance(module, Bottleneck):
        yield module.bn3
    elif isinstance(module, HighResolutionModule):
        for paths in module.fuse_layers:
            assert isinstance(paths, nn.ModuleList)
            for path in paths:
                norms = [each for each in path.modules() if isinstance(each, nn.BatchNorm2d)]
                yield from norms[-1:]


def main() -> None:
    """Write the grown model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before")
    parser.add_argument("encoder")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = resolve_model(arguments.before)
    card = dataclasses.replace(model.card, encoder=arguments.encoder)
    network = build(card)
    grow(model.network, network)
    Model(network, card).save(arguments.out)


if __name__ == "__main__":
    main()
