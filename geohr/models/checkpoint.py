"""Checkpoints of segmentation-models-pytorch (SMP), made by whatever program."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from geohr._runtime.messages import amount
from geohr.errors import InputError, UsageError
from geohr.hrnet.bands import RGB
from geohr.hrnet.checkpoints import read_tensors
from geohr.models.card import Card
from geohr.models.networks import ARCHITECTURES, HRNETS, RESERVED, build

HEAD = "segmentation_head."
WORST = 3
"""Parameters that are named where a checkpoint does not fit."""
OUTPUT_OF = {"sigmoid": "multilabel"}
"""What a network's activation says of its logits, where it is not the softmax or sigmoid that the
number of channels implies."""


def read_config(path: Path) -> dict[str, Any]:
    """What `config.json` beside a checkpoint says of its network, as entries of a card.

    `save_pretrained` of SMP writes its constructor's arguments there.

    Raises:
        InputError: When it cannot be read.
    """
    file = path.parent / "config.json"
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{file}: not a JSON file ({error})") from error
    if not isinstance(config, dict) or "_model_class" not in config:
        return {}
    entries: dict[str, Any] = {
        "architecture": str(config["_model_class"]).lower(),
        "encoder": config.get("encoder_name", ""),
    }
    entries |= {
        name: config[name] for name in ("fusion", "align_corners", "stem_stride") if name in config
    }
    if config.get("activation") in OUTPUT_OF and config.get("classes", 1) > 1:
        entries["output"] = OUTPUT_OF[config["activation"]]
    entries["arguments"] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in config.items()
        if not name.startswith("_")
        and name not in RESERVED | entries.keys() | {"extra_bands"}
        and isinstance(value, (str, int, float, list, type(None)))
    }
    if entries["architecture"] in HRNETS:
        entries["arguments"] = {}
    return entries


def load_network(path: Path, card: Card) -> nn.Module:
    """The network of a card with the weights of a checkpoint, in evaluation mode.

    Args:
        path: A safetensors or torch file. The parameters may lie under a prefix, such as
            Lightning's `model.`, and in a container.
        card: Architecture, encoder and classes.

    Raises:
        InputError: When the weights do not fit; the three parameters that differ most are named.
    """
    weights = without_prefix(read_tensors(path))
    network = build(card)
    expected = network.state_dict()
    found = {name: weights[name] for name in expected if name in weights}
    for name in expected:
        if name.endswith("num_batches_tracked"):
            found.setdefault(name, expected[name])
    lacking = [name for name in expected if name not in found]
    misfits = [name for name in found if found[name].shape != expected[name].shape]
    beyond = [name for name in weights if name not in expected]
    if lacking or misfits or len(beyond) > len(expected):
        raise InputError(misfit_message(path, card, expected, weights, misfits, lacking, beyond))
    network.load_state_dict({name: each.float() for name, each in found.items()})
    return network.eval()


def without_prefix(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of an SMP network, whatever wraps it."""
    prefixes = {key.split(HEAD, 1)[0] for key in weights if HEAD in key}
    prefix = min(prefixes, key=lambda each: (len(each), each)) if prefixes else ""
    return {key[len(prefix) :]: each for key, each in weights.items() if key.startswith(prefix)}


def misfit_message(
    path: Path,
    card: Card,
    expected: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    misfits: list[str],
    lacking: list[str],
    beyond: list[str],
) -> str:
    """What differs most, by name, in one line."""

    def size(name: str) -> int:
        theirs = weights[name].numel() if name in weights else 0
        ours = expected[name].numel() if name in expected else 0
        return abs(theirs - ours)

    named = []
    for name in sorted([*misfits, *lacking, *beyond], key=size, reverse=True)[:WORST]:
        theirs = tuple(weights[name].shape) if name in weights else "missing"
        ours = tuple(expected[name].shape) if name in expected else "unknown"
        named.append(f"{name} is {theirs}, not {ours}")
    return (
        f"{path}: not a {card.architecture} on {card.encoder} with "
        f"{amount(len(card.bands), 'band')} and {amount(card.channels, 'channel')}; parameters: "
        f"{len(misfits)} differ, {len(lacking)} missing, {len(beyond)} unknown: {'; '.join(named)}"
    )


def channels_of(path: Path) -> int:
    """How many channels of logits a checkpoint's network gives.

    Raises:
        InputError: When it has no segmentation head of SMP's.
    """
    weights = without_prefix(read_tensors(path))
    heads = [each for key, each in weights.items() if key.startswith(HEAD) and each.ndim == 4]
    if not heads:
        some = ", ".join(list(weights)[:3])
        raise InputError(
            f"{path}: no checkpoint of segmentation-models-pytorch, which has a segmentation_head; "
            f"it holds {some}, ..."
        )
    return len(heads[-1])


def bands_of(path: Path, card: Card) -> int:
    """How many bands a checkpoint's network reads, by its first convolution.

    Raises:
        InputError: When architecture or encoder are not known.
        UsageError: When they are not said.
    """
    if not card.encoder or card.architecture not in ARCHITECTURES:
        raise UsageError(
            f"{path}: state the network with --architecture ({', '.join(sorted(ARCHITECTURES))}) "
            "and --encoder, as in SMP"
        )
    three = ("red", "green", "blue")
    plain = dataclasses.replace(card, bands=three, mean=(0.0,) * RGB, std=(1.0,) * RGB)
    encoder = build(plain).get_submodule("encoder")
    names = (
        f"encoder.{name}.weight"
        for name, each in encoder.named_modules()
        if isinstance(each, nn.Conv2d) and each.in_channels == RGB
    )
    first = next(names, "")
    weights = without_prefix(read_tensors(path))
    return weights[first].shape[1] if first in weights else RGB
