"""Published weights for the encoder of a network that is about to be trained."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
from torch import Tensor, nn

from geohr.errors import InputError, UsageError
from geohr.hrnet import HRNetEncoder, load_trunk
from geohr.hrnet.bands import RGB, adapt_bands
from geohr.hrnet.checkpoints import read_tensors
from geohr.hrnet.encoder import IMAGENET_MEAN, IMAGENET_STD, TIMM_REPOSITORIES
from geohr.models.card import Card, Source
from geohr.models.hub import SCHEME, HubAddress, digest_of

UNSTATED = "not stated"
TIMM_PREFIX = "tu-"


@dataclass(frozen=True)
class EncoderWeights:
    """A file of weights and what is known of it.

    Attributes:
        path: The file on this machine.
        name: The name or URL that the weights came from.
        licence: The licence that the publisher states.
        mean: By band, in [0, 1], that it was trained with; None where that is not known.
        std: By band.
    """

    path: Path
    name: str
    licence: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def source(self) -> Source:
        """The entry in the card of a model that starts from these weights."""
        return Source(
            f"encoder weights {self.name} (sha256 {digest_of(self.path)})",
            self.licence or UNSTATED,
            self.name,
        )


def find_weights(name: str, encoder: str) -> EncoderWeights:
    """The weights for a registered encoder: a tag such as `imagenet`, a file or `hf://owner/name`.

    Raises:
        UsageError: When the encoder has no weights under that tag.
        InputError: When they cannot be fetched.
    """
    if name.startswith(SCHEME):
        address = HubAddress.parse(name)
        return EncoderWeights(address.fetch(), name, address.licence())
    if Path(name).exists():
        return EncoderWeights(Path(name), Path(name).name, "")
    if encoder.startswith(TIMM_PREFIX):
        return timm_weights(name, encoder)
    settings = smp.encoders.encoders[encoder]["pretrained_settings"]
    if name not in settings:
        known = ", ".join([*settings, "FILE", "hf://owner/name"])
        raise UsageError(f"encoder_weights of {encoder} must be one of {known}; got {name!r}")
    address = HubAddress(settings[name]["repo_id"], settings[name]["revision"])
    path = address.fetch("model.safetensors")
    ours = any(address.repo in each.values() for each in TIMM_REPOSITORIES.values())
    params = (
        {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
        if ours
        else smp.encoders.get_preprocessing_params(encoder, name)
    )
    mean, std = tuple(params["mean"]), tuple(params["std"])
    return EncoderWeights(path, f"{SCHEME}{address.repo}", address.licence(), mean, std)


def timm_weights(name: str, encoder: str) -> EncoderWeights:
    """The weights that timm gives to one of its networks; a tag is part of the network's name.

    Raises:
        UsageError: For another tag, or a network without weights.
        InputError: When they cannot be fetched.
    """
    config = timm.models.get_pretrained_cfg(encoder.removeprefix(TIMM_PREFIX))
    if name != "imagenet" or config is None or not config.hf_hub_id:
        raise UsageError(
            f"encoder_weights of {encoder} must be imagenet, FILE or hf://owner/name; got "
            f"{name!r}, and timm's tags are part of the encoder's name, as in tu-resnet18.a1_in1k"
        )
    address = HubAddress(config.hf_hub_id)
    path = address.fetch(config.hf_hub_filename or "model.safetensors")
    return EncoderWeights(
        path,
        f"{SCHEME}{address.repo}",
        address.licence() or config.license or "",
        tuple(config.mean),
        tuple(config.std),
    )


def load_encoder(network: nn.Module, card: Card, weights: EncoderWeights) -> Card:
    """Put weights into a network's encoder.

    Args:
        network: Whose `encoder` is filled.
        card: The card of the network.
        weights: Made for red, green and blue, or for the network's bands. A first convolution for
            three bands serves others as the policy `mean` says (`geohr.hrnet.bands`).

    Returns:
        The card with the source of the weights and, where it names no others, their mean and
        standard deviation.

    Raises:
        InputError: When they are of another encoder or number of bands.
    """
    encoder = network.get_submodule("encoder")
    if isinstance(encoder, HRNetEncoder):
        load_trunk(encoder, weights.path)
    else:
        fill(encoder, card, weights)
    changes: dict[str, Any] = {"sources": (*card.sources, weights.source)}
    defaults = (card.mean, card.std) == (IMAGENET_MEAN, IMAGENET_STD)
    if weights.mean is not None and defaults and len(card.bands) == RGB:
        changes |= {"mean": weights.mean, "std": weights.std}
    return dataclasses.replace(card, **changes)


def fill(encoder: nn.Module, card: Card, weights: EncoderWeights) -> None:
    """Load an encoder that is not ours from a file of its own names or of timm's.

    Raises:
        InputError: When the file does not have all that it needs, in its shapes.
    """
    tensors = under_prefix(read_tensors(weights.path), encoder)
    if card.encoder.startswith(TIMM_PREFIX) and tensors is None:
        tensors = through_timm(card, weights)
    if tensors is None:
        raise InputError(
            f"{weights.path}: not the weights of {card.encoder}; its parameters have other names"
        )
    first = first_convolution(encoder)
    key, bands = f"{first}.weight", len(card.bands)
    if tensors[key].shape[1] == RGB != bands:
        tensors[key] = adapt_bands(tensors[key], bands, policy="mean")
    expected = encoder.state_dict()
    misfits = [name for name in expected if tensors[name].shape != expected[name].shape]
    if misfits:
        name = misfits[0]
        raise InputError(
            f"{weights.path}: {len(misfits)} parameters are not of {card.encoder} for {bands} "
            f"bands; {name} is {tuple(tensors[name].shape)}, not {tuple(expected[name].shape)}"
        )
    nn.Module.load_state_dict(encoder, {name: tensors[name] for name in expected})


def under_prefix(tensors: dict[str, Tensor], encoder: nn.Module) -> dict[str, Tensor] | None:
    """The encoder's parameters out of a file, where they lie under one prefix; else None."""
    expected = encoder.state_dict()
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    sample = next(iter(expected))
    for key in tensors:
        prefix = key.removesuffix(sample)
        if prefix == key and key != sample:
            continue
        found = {name: tensors.get(f"{prefix}{name}") for name in expected}
        found |= {name: expected[name] for name in counters if found[name] is None}
        complete = {name: each for name, each in found.items() if each is not None}
        if len(complete) == len(expected):
            return complete
    return None


def through_timm(card: Card, weights: EncoderWeights) -> dict[str, Tensor] | None:
    """The parameters as timm itself reads them, which renames some for features."""
    name = card.encoder.removeprefix(TIMM_PREFIX)
    held = read_tensors(weights.path)
    whole: nn.Module = timm.create_model(name)
    config = timm.models.get_pretrained_cfg(name)
    classifiers = (config.classifier if config else None) or ()
    skipped = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    # timm itself passes over what a file lacks.
    for key, each in whole.state_dict().items():
        fits = key in held and held[key].shape == each.shape
        if not fits and not key.startswith(skipped):
            return None
    made = smp.encoders.get_encoder(
        card.encoder, weights=True, pretrained_cfg_overlay={"file": str(weights.path)}
    )
    return dict(made.state_dict())


def first_convolution(encoder: nn.Module) -> str:
    """The name of the convolution that reads the bands."""
    names = (name for name, each in encoder.named_modules() if isinstance(each, nn.Conv2d))
    return str(next(names))
