"""A network that learns what its teacher sees."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from geohr.errors import InterruptedRunError, UsageError
from geohr.models.card import start_card
from geohr.models.model import Model
from geohr.models.networks import build
from geohr.training.features import FeatureDistillation, distance
from geohr.training.samples import Sample, pair
from geohr.training.train import train
from tests.makers import one_class_card
from tests.train.test_train import QUICK, same_weights, stop_after
from tests.train.towns import make_town


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    town = make_town(tmp_path_factory.mktemp("town"), "town")
    samples = pair([town.image], [town.raster], split="train")
    return [dataclasses.replace(each, label=None) for each in samples]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A network of another kind than the one that learns."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    card = dataclasses.replace(start_card(None, "t"), architecture="unet", encoder="resnet18")
    torch.manual_seed(1)
    Model(build(card).eval(), card).save(path)
    return str(path)


def network(encoder: str = "hrnetv2_w18_small_v1", architecture: str = "hrnetv2") -> nn.Module:
    card = start_card(None, "n")
    return build(dataclasses.replace(card, architecture=architecture, encoder=encoder)).eval()


def test_distance_knows_angles_only() -> None:
    features = torch.randn(2, 8, 5, 5)
    assert distance(features * 3, features).item() == pytest.approx(0, abs=1e-6)
    assert distance(-features, features).item() == pytest.approx(2, abs=1e-6)


def test_hints_compare_strides_4_to_32_of_any_encoder() -> None:
    learns, teaches = network(), network("resnet18", "unet")
    hints = FeatureDistillation(learns, teaches)
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        learns(pixels)
        teaches(pixels)
        assert 0 < hints().item() < 2
    shapes = [tuple(each.weight.shape[:2]) for each in hints.projections]
    assert shapes == [(64, 16), (128, 32), (256, 64), (512, 128)]


def test_a_network_sees_what_itself_sees() -> None:
    learns = network()
    hints = FeatureDistillation(learns, learns)
    for each in hints.projections:
        nn.init.dirac_(each.weight)
        nn.init.zeros_(each.bias)
    with torch.no_grad():
        learns(torch.randn(1, 3, 64, 64))
        assert hints().item() == pytest.approx(0, abs=1e-5)


def test_features_are_learnt_and_projections_thrown_away(
    unlabelled: list[Sample], teacher: str, tmp_path: Path
) -> None:
    """From images alone: features draw near those of the teacher where nothing else is asked."""
    options = dataclasses.replace(
        QUICK, teacher=teacher, teacher_weight=0.0, feature_weight=1.0, steps=30, batch=4, tile=64,
        learning_rate=3e-3, validate_every=15,
    )  # fmt: skip
    out = tmp_path / "m.safetensors"
    model = train(unlabelled, out, card=one_class_card(), options=options)
    assert model.network.state_dict().keys() == network().state_dict().keys()
    rows = (tmp_path / "m.run" / "log.csv").read_text().splitlines()
    column = rows[0].split(",").index("loss")
    early, late = (float(row.split(",")[column]) for row in rows[1:])
    assert late < early - 0.1


def test_an_interrupted_run_keeps_its_projections(
    unlabelled: list[Sample], teacher: str, tmp_path: Path
) -> None:
    options = dataclasses.replace(QUICK, teacher=teacher, feature_weight=1.0)
    whole = train(unlabelled, tmp_path / "a.safetensors", card=one_class_card(), options=options)
    out = tmp_path / "b.safetensors"
    with pytest.raises(InterruptedRunError):
        train(unlabelled, out, card=one_class_card(), options=options, progress=stop_after(2))
    parts = train(unlabelled, out, card=one_class_card(), options=options, resume=True)
    assert same_weights(whole, parts)


def test_features_need_a_teacher(unlabelled: list[Sample], tmp_path: Path) -> None:
    options = dataclasses.replace(QUICK, feature_weight=1.0)
    with pytest.raises(UsageError, match="feature_weight needs a teacher"):
        train(unlabelled, tmp_path / "m.safetensors", card=one_class_card(), options=options)
