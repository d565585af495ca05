"""What a training run is made of: networks on their device, samples by split."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from typing import Any, get_args

import torch
from torch import nn

from geohr.engines.torch import choose_device
from geohr.errors import InputError, UsageError
from geohr.models.card import Card
from geohr.models.encoder_weights import find_weights, load_encoder
from geohr.models.model import resolve_model
from geohr.models.networks import build
from geohr.tiling.normalize import Normalizer, check_range
from geohr.training.features import FeatureDistillation
from geohr.training.options import TrainOptions
from geohr.training.parallel import Team
from geohr.training.samples import Sample, Split
from geohr.training.store import Store

NETWORK_ENTRIES = (
    "architecture", "encoder", "stem_stride", "align_corners", "fusion", "mean", "std", "range",
    "dtype",
)  # fmt: skip
"""Entries of a card that describe the network: a model that is trained further keeps them."""
OBJECT_ENTRIES = (
    "tile", "min_area", "instances", "instance_area", "walls", "outline", "regularize", "licence",
    "notes",
)  # fmt: skip
"""Entries of a card that a model trained further keeps, unless its own card says otherwise."""
RANGE_REMEDY = 'train with a --card whose "range" is that of the scenes'


@dataclass(frozen=True)
class TrainingJob:
    """The parts of a training run that do not change.

    Attributes:
        network: Being trained, on the device.
        teacher: The teacher of distillation, or None.
        hints: Compare the features of network and teacher, on the device; None if not learnt.
        card: The card of the new model.
        options: The options of training.
        train: Samples learnt from.
        validation: Samples that choose the weights.
        test: Samples that the finished model is scored on.
        device: The device to train on.
        store: Reads the validation samples.
        team: Who else trains this network.
    """

    network: nn.Module
    teacher: nn.Module | None
    hints: FeatureDistillation | None
    card: Card
    options: TrainOptions
    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    test: tuple[Sample, ...]
    device: str
    store: Store
    team: Team

    @classmethod
    def prepare(
        cls, samples: Sequence[Sample], card: Card, options: TrainOptions, team: Team
    ) -> TrainingJob:
        """Networks on their device, samples by split."""
        if len(card.classes) > 1 and not card.background:
            raise InputError(
                f"the card of {card.name!r} has {len(card.classes)} classes and no background; "
                'training needs "background": true where there are several'
            )
        # A team has shared out the devices already.
        device = team.device or choose_device(options.device)
        network, card = start_network(card, options)
        splits: dict[str, tuple[Sample, ...]] = {
            split: tuple(as_segmented(each, card) for each in samples if each.split == split)
            for split in get_args(Split)
        }
        if not splits["train"]:
            raise InputError("there is no sample of split train to learn from")
        network = move(team.share_statistics(network), device)
        teacher = load_teacher(card, options, device)
        return cls(
            network=network,
            teacher=teacher,
            hints=start_hints(network, teacher, options, device),
            card=card,
            options=options,
            train=splits["train"],
            validation=splits["validation"],
            test=splits["test"],
            device=device,
            store=Store(),
            team=team,
        )

    @property
    def normalizer(self) -> Normalizer:
        """The map from scene values to network values."""
        return Normalizer.of(self.card, None)


def as_segmented(sample: Sample, card: Card) -> Sample:
    """A sample with the model's bands, as `segment` takes them from a scene.

    Raises:
        InputError: When the scene has fewer, or values that the model cannot mean.
    """
    scene = sample.scene.select(card.bands)
    check_range(scene, Normalizer.of(card, None), remedy=RANGE_REMEDY)
    return dataclasses.replace(sample, scene=scene)


def start_network(card: Card, options: TrainOptions) -> tuple[nn.Module, Card]:
    """The network before the first step, and the card with its architecture.

    A model that is trained further keeps what its card says of the network and of objects, its
    licence, and all its sources, whose licences may ask to be named.

    Raises:
        InputError: When the initial model cannot be read or expects other bands or classes.
        UsageError: When it has another architecture than the one asked for.
    """
    if options.init is None:
        card = dataclasses.replace(
            card,
            architecture=options.architecture or "hrnetv2",
            encoder=options.encoder or "hrnetv2_w18_small_v2",
            stem_stride=options.stem_stride or card.stem_stride,
        )
        network = build(card)
        if options.encoder_weights is not None:
            weights = find_weights(options.encoder_weights, card.encoder)
            card = load_encoder(network, card, weights)
        return network, card
    if options.encoder_weights is not None:
        raise UsageError("the model of --init has its encoder's weights; leave encoder_weights out")
    model = resolve_model(options.init)
    for name in ("architecture", "encoder"):
        asked, held = getattr(options, name), getattr(model.card, name)
        if asked not in (None, held):
            raise UsageError(f"{name} is {asked}, but {options.init} is a {held}; leave one out")
    check_same(model.card, card, ("channels", "bands"), options.init)
    kept = {name: getattr(model.card, name) for name in NETWORK_ENTRIES}
    kept |= {
        name: getattr(model.card, name)
        for name in OBJECT_ENTRIES
        if getattr(card, name) == default_of(name)
    }
    if kept.get("notes"):
        kept["notes"] = f"Trained further from {model.card.name}, which says: {kept['notes']}"
    sources = tuple(dict.fromkeys((*model.card.sources, *card.sources)))
    card = dataclasses.replace(card, **kept, sources=sources)
    if options.stem_stride in (None, card.stem_stride):
        return model.network, card
    card = dataclasses.replace(card, stem_stride=options.stem_stride)
    return at_stem_stride(model.network, card, options.init), card


def at_stem_stride(network: nn.Module, card: Card, path: str) -> nn.Module:
    """The same weights in a network whose finest stream has the stride of a card.

    Raises:
        InputError: When the encoder is no HRNet, or the decoder has other tensors at that stride.
    """
    made = build(card)
    held, wanted = network.state_dict(), made.state_dict()
    if {name: each.shape for name, each in held.items()} != {
        name: each.shape for name, each in wanted.items()
    }:
        raise InputError(
            f"{path}: at stem stride {card.stem_stride} the decoder {card.architecture} has other "
            "weights; start from the encoder's alone, with --encoder-weights instead of --init"
        )
    made.load_state_dict(held)
    return made


def default_of(name: str) -> Any:
    """The value of a card's entry that is not said."""
    (entry,) = (each for each in dataclasses.fields(Card) if each.name == name)
    return entry.default if entry.default is not MISSING else None


def load_teacher(card: Card, options: TrainOptions, device: str) -> nn.Module | None:
    """The teacher on its device, or None.

    Raises:
        InputError: When it cannot be read or expects other values than the network does.
    """
    if options.teacher is None:
        return None
    model = resolve_model(options.teacher)
    check_same(model.card, card, ("channels", "bands", "range", "mean", "std"), options.teacher)
    return move(model.network, device).requires_grad_(False)


def start_hints(
    network: nn.Module, teacher: nn.Module | None, options: TrainOptions, device: str
) -> FeatureDistillation | None:
    """The loss of features, on the device, or None if features are not learnt.

    Raises:
        UsageError: When there is no teacher, or a network without an encoder.
    """
    if not options.feature_weight:
        return None
    if teacher is None:
        raise UsageError("feature_weight needs a teacher; name one, or leave it at 0")
    return FeatureDistillation(network, teacher).to(device)


def move(network: nn.Module, device: str) -> nn.Module:
    """The network on its device, bands last in memory: convolutions are quicker so."""
    return network.to(device).to(memory_format=torch.channels_last)


def check_same(held: Card, wanted: Card, names: Sequence[str], path: str) -> None:
    """Refuse a model whose card differs where it must not.

    Raises:
        InputError: Naming the first difference.
    """
    for name in names:
        if getattr(held, name) != getattr(wanted, name):
            raise InputError(
                f"{path}: has {name} {getattr(held, name)}, but the new model has "
                f"{getattr(wanted, name)}; they must be the same"
            )
