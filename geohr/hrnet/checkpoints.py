"""Published checkpoints, read without pickle's risks and loaded by name."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from geohr._runtime.messages import amount, first_line
from geohr.errors import InputError, UsageError
from geohr.hrnet.backbone import PUBLISHED_STRIDE, HRNet
from geohr.hrnet.bands import RGB, adapt_bands, check_policy
from geohr.hrnet.formats import (
    TRUNK,
    Format,
    bare,
    build_network,
    find_format,
    find_variant,
    heads,
    out_streams,
    rename,
    trunk_weights,
)

CONTAINERS = ("state_dict", "model", "model_state_dict", "net", "state_dict_ema", "model_ema")
"""Keys under which training programs keep the parameters in a larger dictionary; where several
are there the first is meant, and where none is, the one that holds most tensors."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A published checkpoint and the network that it became."""

    network: nn.Module
    """The network, in evaluation mode, with the fusion and alignment of its training."""
    format: str
    """The format that the checkpoint was recognised as."""
    variant: str
    fusion: str
    align_corners: bool
    unused: tuple[str, ...]
    """The names of parameters in the file that the network does not have."""
    unknown_head: str
    """The parts of the published network that are not known here, where only its trunk is."""


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read the named tensors of a ``.safetensors`` file or of a torch file without running code.

    A dictionary around the parameters is opened, whatever it is called.

    Raises:
        InputError: The file is missing, damaged, or holds no named tensors or more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}")
    with path.open("rb") as file:
        if file.read(64).lstrip().lower().startswith((b"<!doctype html", b"<html")):
            raise InputError(
                f"{path} is an HTML page, not a checkpoint: the address gave a page to look at; "
                "download the file that it shows"
            )
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
    except (SafetensorError, BadZipFile, EOFError, RuntimeError, OSError, ValueError) as error:
        raise InputError(f"{path} is no readable checkpoint: {first_line(error)}") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors")
    tensors = _open_containers(content)
    if not tensors:
        raise InputError(f"{path} holds no named tensors")
    return tensors


def _open_containers(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors of a dictionary, or of the one inside it that holds the parameters."""
    here = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    inside = {
        str(key): _open_containers(value)
        for key, value in content.items()
        if isinstance(value, Mapping)
    }
    for name in CONTAINERS:
        if len(inside.get(name, ())) > len(here):
            return inside[name]
    return max([here, *inside.values()], key=len)


def read_settings(path: Path) -> dict[str, Any]:
    """Fusion, alignment and stem stride where the file, or the config.json beside it, says them.

    That is a geohr model file, or a file of ``save_pretrained``.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                card = (file.metadata() or {}).get("geohr")
            if card is not None:
                return dict(json.loads(card))
        return dict(json.loads((path.parent / "config.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def load_checkpoint(path: str | Path, *, align_corners: bool | None = None) -> Checkpoint:
    """Turn a published HRNet checkpoint into a network that gives its published outputs.

    Takes the official segmentation, OCR, classification, pose and detection checkpoints, timm's
    classification and feature networks, mmsegmentation's FCN and OCR networks, mmpose's,
    mmdetection's and mmpretrain's, and the networks of this package, under any prefix and in any
    one container. Format, variant, bands and classes are found out from names and shapes. Of a
    network whose head is not known, the trunk is loaded and the head is named.

    Args:
        path: A ``.safetensors``, ``.pth`` or ``.bin`` file.
        align_corners: Overrides what the format is known for. The official segmentation weights
            need it: those of the OCR branch (hrnet_cs_8090 and later) were trained with True, the
            older ones with False, and nothing in the file tells which it is.

    Raises:
        InputError: The file cannot be read, is no HRNet, or lacks parameters.
    """
    path = Path(path)
    names = bare(read_tensors(path))
    layout = find_format(names)
    said = read_settings(path) if layout.name.startswith("geohr") else {}
    fusion = said.get("fusion", layout.fusion)
    aligned = said.get("align_corners", layout.align_corners)
    aligned = aligned if align_corners is None else align_corners
    renamed = rename(names, layout)
    ours = {key: value for key, (_, value) in renamed.items()}
    network = build_network(
        layout,
        ours,
        fusion=fusion,
        align_corners=aligned,
        stem_stride=said.get("stem_stride", PUBLISHED_STRIDE),
    )
    used = _load(network, ours, layout=layout, path=path)
    return Checkpoint(
        network=network.eval(),
        format=layout.name,
        variant=find_variant(trunk_weights(names)).name,
        fusion=fusion,
        align_corners=aligned,
        unused=tuple(published for key, (published, _) in renamed.items() if key not in used),
        unknown_head=heads(names) if layout.network == "trunk" else "",
    )


def load_trunk(trunk: nn.Module, path: str | Path, *, extra_bands: str = "mean") -> tuple[str, ...]:
    """Load the trunk weights of any published checkpoint, for example to fine-tune from them.

    Args:
        trunk: ``HRNet``, ``HRNetHeatmaps``, ``HRNetClassifier``, or the ``encoder`` of a
            segmentation network, of the same variant and at any stem stride.
        path: A checkpoint as ``load_checkpoint`` takes it, of any head.
        extra_bands: The policy for other than 3 bands, a key of ``EXTRA_BANDS``.

    Returns:
        The names in the file that were not used.

    Raises:
        InputError: The file cannot be read, or is of another variant or number of bands.
        UsageError: An unknown policy, or a network that is no trunk.
    """
    check_policy(extra_bands)
    if not isinstance(trunk, HRNet):
        within = [name for name in ("encoder", "trunk") if hasattr(trunk, name)]
        kind = type(trunk).__name__
        raise UsageError(
            f"load_trunk needs an HRNet, got {kind}"
            + (f": pass the model's {within[0]}" if within else "")
        )
    names = bare(read_tensors(path))
    found = trunk_weights(names)
    variant = find_variant(found)
    if variant != trunk.variant:
        raise InputError(f"{path} is of {variant.name}, the network of {trunk.variant.name}")
    if out_streams(found, variant) < trunk.out_streams and trunk.stages == len(variant.channels):
        raise InputError(
            f"{path} ends in the finest stream alone, as pose networks do (V1), and lacks the "
            "last fusion into the others: HRNetV1's encoder and HRNetHeatmaps can start from it, "
            f"{type(trunk).__name__} with {trunk.out_streams} streams cannot"
        )
    bands = trunk.conv1.in_channels
    given = found["conv1.weight"].shape[1]
    if given != bands and given != RGB:
        raise InputError(
            f"{path} was trained on {amount(given, 'band')}, the network takes {bands}"
        )
    if given != bands:
        found["conv1.weight"] = adapt_bands(found["conv1.weight"], bands, policy=extra_bands)
    used = _load(trunk, found, layout=find_format(names), path=path, trunk_only=True)
    return tuple(published for key, (published, _) in names.items() if key not in used)


def _load(
    network: nn.Module,
    weights: dict[str, Tensor],
    *,
    layout: Format,
    path: str | Path,
    trunk_only: bool = False,
) -> set[str]:
    """Load what the network has a place for and return those names; refuse what it lacks.

    With ``trunk_only`` a head that the network carries stays as it is.
    """
    state: dict[str, Tensor] = {}
    lacking: list[str] = []
    for key, place in network.state_dict().items():
        if trunk_only and not key.startswith(TRUNK):
            continue
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
    network.load_state_dict(state, strict=not trunk_only)
    return state.keys() & weights.keys()
