"""Published checkpoints, read without pickle's risks and loaded by name."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from geohr.errors import InputError
from geohr.hrnet.backbone import HRNet
from geohr.hrnet.bands import RGB, adapt_bands, check_policy
from geohr.hrnet.formats import (
    Format,
    build_network,
    find_format,
    find_variant,
    rename,
    trunk_weights,
)

WRAPPERS = ("module.", "model.")
"""Prefixes that data parallelism and the released training code put before every name."""

CONTAINERS = ("state_dict", "model")
"""Keys under which training programs keep the parameters in a larger dictionary."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A published checkpoint and the network that it became."""

    network: nn.Module
    """The network, in evaluation mode, with the fusion and alignment of its training."""
    format: str
    """What the checkpoint was recognised as."""
    variant: str
    fusion: str
    align_corners: bool
    unused: tuple[str, ...]
    """Names in the file that the network has no place for."""


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the named tensors of a ``.safetensors`` file or of a torch file without running code.

    Wrapping prefixes are taken off the names, and a dictionary around the parameters is opened.

    Raises:
        InputError: The file is missing, damaged, or holds no named tensors or more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}")
    content: object
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds Python objects besides tensors, which are not loaded because they can "
            "run code: save its state_dict alone, or as .safetensors"
        ) from error
    except (SafetensorError, BadZipFile, EOFError, RuntimeError, OSError) as error:
        raise InputError(f"{path} is no readable checkpoint: {error}") from error
    for container in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            content = content[container]
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors")
    return {_unwrap(str(key)): value for key, value in content.items() if isinstance(value, Tensor)}


def _unwrap(name: str) -> str:
    while name.startswith(WRAPPERS):
        name = name.split(".", 1)[1]
    return name


def load_checkpoint(path: str | Path, *, align_corners: bool | None = None) -> Checkpoint:
    """Turn a published HRNet checkpoint into a network that gives its published outputs.

    Takes the official segmentation, OCR, classification and pose checkpoints, timm's
    classification and feature networks, and mmsegmentation's FCN and OCR networks. Format,
    variant, bands and classes are found out from names and shapes.

    Args:
        path: A ``.safetensors``, ``.pth`` or ``.bin`` file.
        align_corners: Overrides what the format is known for. The official segmentation weights
            need it: those of the OCR branch (hrnet_cs_8090 and later) were trained with True, the
            older ones with False, and nothing in the file tells which it is.

    Raises:
        InputError: The file cannot be read, is no HRNet, or lacks parameters.
    """
    weights = read_weights(path)
    layout = find_format(weights)
    aligned = layout.align_corners if align_corners is None else align_corners
    renamed = rename(weights, layout.names)
    ours = {key: value for key, (_, value) in renamed.items()}
    network = build_network(layout, ours, align_corners=aligned)
    used = _load(network, ours, layout=layout, path=path)
    return Checkpoint(
        network=network.eval(),
        format=layout.name,
        variant=find_variant(trunk_weights(weights)).name,
        fusion=layout.fusion,
        align_corners=aligned,
        unused=tuple(published for key, (published, _) in renamed.items() if key not in used),
    )


def load_trunk(trunk: HRNet, path: str | Path, *, extra_bands: str = "mean") -> tuple[str, ...]:
    """Load the trunk weights of any published checkpoint, for example to fine-tune from them.

    Args:
        trunk: ``HRNet``, or the ``encoder`` of a segmentation network, of the same variant.
        path: A checkpoint as ``load_checkpoint`` takes it.
        extra_bands: How weights for 3 bands serve another number, a key of ``EXTRA_BANDS``.

    Returns:
        The names in the file that were not used.

    Raises:
        InputError: The file cannot be read, or is of another variant or number of bands.
        UsageError: An unknown policy.
    """
    check_policy(extra_bands)
    weights = read_weights(path)
    layout = find_format(weights)
    found = trunk_weights(weights)
    variant = find_variant(found)
    if variant != trunk.variant:
        raise InputError(f"{path} is of {variant.name}, the network of {trunk.variant.name}")
    bands = trunk.conv1.in_channels
    given = found["conv1.weight"].shape[1]
    if given != bands and given != RGB:
        raise InputError(f"{path} was trained on {given} bands, the network takes {bands}")
    if given != bands:
        found["conv1.weight"] = adapt_bands(found["conv1.weight"], bands, policy=extra_bands)
    used = _load(trunk, found, layout=layout, path=path)
    return tuple(key for key in weights if key.removeprefix("backbone.") not in used)


def _load(
    network: nn.Module, weights: dict[str, Tensor], *, layout: Format, path: str | Path
) -> set[str]:
    """Load what the network has a place for and return those names; refuse what it lacks."""
    state: dict[str, Tensor] = {}
    lacking: list[str] = []
    for key, place in network.state_dict().items():
        if key in weights and weights[key].shape == place.shape:
            state[key] = weights[key]
        elif key.endswith("num_batches_tracked") or key in layout.zero_biases:
            # Old torch did not count batches; mmsegmentation has no bias before a batch norm.
            state[key] = torch.zeros_like(place)
        else:
            lacking.append(key)
    if lacking:
        raise InputError(
            f"{path} ({layout.name}) lacks {len(lacking)} parameters or has them in another "
            f"shape, first {lacking[0]}"
        )
    network.load_state_dict(state)
    return state.keys() & weights.keys()
