"""Architectures by name: a card in, a torch module out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import segmentation_models_pytorch as smp
from torch import nn

from geohr.errors import InputError
from geohr.hrnet import HRNetOCR, HRNetV1, HRNetV2
from geohr.hrnet.backbone import PUBLISHED_STRIDE
from geohr.hrnet.encoder import ENCODER_PREFIX, encoder_at
from geohr.models.card import Card
from geohr.models.foreign import FOREIGN

SMP_DECODERS = (
    "deeplabv3", "deeplabv3plus", "fpn", "linknet", "manet", "pan", "pspnet", "segformer", "unet",
    "unetplusplus", "upernet",
)  # fmt: skip
"""Decoders of segmentation-models-pytorch that a card may name."""


RESERVED = {
    "encoder_name", "encoder_weights", "in_channels", "classes", "activation", "aux_params",
    "kwargs",
}  # fmt: skip
"""Arguments of SMP's constructors that the card says elsewhere, or that no network here has."""

HRNETS = {"hrnetv1": HRNetV1, "hrnetv2": HRNetV2, "hrnetocr": HRNetOCR}
"""Heads of the paper by the architecture that a card names."""


def build_hrnet(card: Card) -> nn.Module:
    """HRNet with one of its heads."""
    network: nn.Module = HRNETS[card.architecture](
        card.encoder,
        encoder_weights=None,
        in_channels=len(card.bands),
        classes=card.channels,
        fusion=card.fusion,
        align_corners=card.align_corners,
        stem_stride=card.stem_stride,
    )
    return network


def build_smp(card: Card) -> nn.Module:
    """A model of segmentation-models-pytorch on any encoder it knows."""
    kind = smp.MODEL_ARCHITECTURES_MAPPING[card.architecture]
    if card.stem_stride != PUBLISHED_STRIDE and not card.encoder.startswith(ENCODER_PREFIX):
        raise ValueError(f"stem_stride is {card.stem_stride}, but only HRNets have one")
    known = set(inspect.signature(kind).parameters) - RESERVED
    if unknown := sorted(card.arguments.keys() - known):
        raise ValueError(f"{card.architecture} takes no {unknown[0]}")
    arguments: dict[str, Any] = dict(card.arguments)
    network: nn.Module = smp.create_model(
        card.architecture,
        encoder_name=encoder_at(card.encoder, card.stem_stride),
        encoder_weights=None,
        in_channels=len(card.bands),
        classes=card.channels,
        **arguments,
    )
    return network


ARCHITECTURES: dict[str, Callable[[Card], nn.Module]] = {
    **dict.fromkeys(HRNETS, build_hrnet),
    **dict.fromkeys(SMP_DECODERS, build_smp),
}


def build(card: Card) -> nn.Module:
    """The network that a card describes, with fresh weights.

    Returns:
        Normalised float `(n, band, row, col)` to logits `(n, channel, row, col)`.

    Raises:
        InputError: When the card names an architecture or encoder that is not known.
    """
    if card.architecture in FOREIGN:
        raise InputError(
            f"model {card.name!r}: a network of format {card.architecture} runs as it is; it "
            "cannot be trained, fused or exported"
        )
    if card.architecture not in ARCHITECTURES:
        raise InputError(
            f"model {card.name!r}: unknown architecture {card.architecture!r}; "
            f"known: {', '.join(sorted(ARCHITECTURES))}"
        )
    try:
        return ARCHITECTURES[card.architecture](card)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"model {card.name!r}: cannot be built on encoder {card.encoder!r} ({error})"
        ) from error


def load_weights(path: Path, card: Card) -> nn.Module:
    """The network of `card` with the weights in the safetensors file `path`, in evaluation mode.

    Raises:
        InputError: When the file is damaged or its tensors are not those of the network.
    """
    network = build(card)
    try:
        tensors = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(f"{path}: the model file is damaged ({error})") from error
    expected = network.state_dict()
    if tensors.keys() != expected.keys() or any(
        tensors[name].shape != tensor.shape for name, tensor in expected.items()
    ):
        raise InputError(
            f"{path}: its weights are not those of {card.architecture} on {card.encoder}, which "
            "its card names; save it again with the right card"
        )
    network.load_state_dict(
        {
            name: tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in tensors.items()
        }
    )
    return network.eval()


def serialise(network: nn.Module, metadata: dict[str, str], *, half: bool) -> bytes:
    """The network's weights as a safetensors file with `metadata`, in float16 if `half`."""
    tensors = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor)
        .detach()
        .cpu()
        .contiguous()
        .clone()
        for name, tensor in network.state_dict().items()
    }
    return safetensors.torch.save(tensors, metadata)
