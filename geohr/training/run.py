"""What a training run is made of: networks on their device, samples by split."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from geohr.engines.torch import choose_device
from geohr.errors import InputError, UsageError
from geohr.models.card import Card
from geohr.models.model import resolve_model
from geohr.models.networks import build
from geohr.tiling.normalize import Normalizer, check_range
from geohr.training.features import FeatureDistillation
from geohr.training.options import TrainOptions
from geohr.training.parallel import Team
from geohr.training.samples import Sample
from geohr.training.store import Store

RANGE_REMEDY = 'train with a --card whose "range" is that of the scenes'


@dataclass(frozen=True)
class TrainingJob:
    """What does not change during a run.

    Attributes:
        network: Being trained, on the device.
        teacher: What is learnt from besides the labels, or None.
        hints: Compare the features of network and teacher, on the device; None if not learnt.
        card: Of the new model.
        options: How to train.
        train: Samples learnt from.
        validation: Samples that choose the weights.
        device: Where it runs.
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
        device = team.device or choose_device(options.device)
        network, card = start_network(card, options)
        samples = [as_segmented(each, card) for each in samples if each.split != "test"]
        learnt = tuple(each for each in samples if each.split == "train")
        if not learnt:
            raise InputError("there is no sample of split train to learn from")
        network = move(team.share_statistics(network), device)
        teacher = load_teacher(card, options, device)
        return cls(
            network=network,
            teacher=teacher,
            hints=start_hints(network, teacher, options, device),
            card=card,
            options=options,
            train=learnt,
            validation=tuple(each for each in samples if each.split == "validation"),
            device=device,
            store=Store(),
            team=team,
        )

    @property
    def normalizer(self) -> Normalizer:
        """From scene values to the network's."""
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

    Raises:
        InputError: When the initial model cannot be read or expects other bands or classes.
        UsageError: When it has another architecture than the one asked for.
    """
    if options.init is None:
        card = dataclasses.replace(
            card,
            architecture=options.architecture or "hrnetv2",
            encoder=options.encoder or "hrnetv2_w18_small_v2",
        )
        return build(card), card
    model = resolve_model(options.init)
    for name in ("architecture", "encoder"):
        asked, held = getattr(options, name), getattr(model.card, name)
        if asked not in (None, held):
            raise UsageError(f"{name} is {asked}, but {options.init} is a {held}; leave one out")
    check_same(model.card, card, ("channels", "bands"), options.init)
    kept = ("architecture", "encoder", "align_corners", "fusion", "mean", "std", "range", "dtype")
    card = dataclasses.replace(card, **{name: getattr(model.card, name) for name in kept})
    return model.network, card


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
    """What compares features, on the device, or None where none are learnt.

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
