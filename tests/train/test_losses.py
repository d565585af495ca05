"""Losses against other implementations and closed forms."""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.nn import functional as F

from geohr.encoding import IGNORE
from geohr.errors import UsageError
from geohr.training.losses import (
    LOSSES,
    check_losses,
    check_weights,
    cross_entropy,
    dice,
    distillation,
    focal,
    lovasz,
    total_loss,
)
from geohr.training.options import TrainOptions


def example(channels: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and class ids, a few ignored."""
    made = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, channels, 12, 15, generator=made)
    target = torch.randint(0, max(channels, 2), (2, 12, 15), generator=made).to(torch.uint8)
    target[:, :3, :4] = IGNORE
    return logits, target


def sure(target: Tensor, channels: int) -> Tensor:
    """Logits that are right beyond doubt; background where the target is ignored."""
    ids = target.masked_fill(target == IGNORE, 0).long()
    if channels == 1:
        return (ids[:, None].float() * 2 - 1) * 50
    return F.one_hot(ids, channels).movedim(-1, 1).float() * 100


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("channels", [1, 4])
def test_right_and_sure_costs_nothing_and_ignored_pixels_count_for_nothing(
    name: str, channels: int
) -> None:
    logits, target = example(channels)
    assert LOSSES[name](sure(target, channels), target, None).item() == pytest.approx(0, abs=1e-3)
    logits.requires_grad_(True)
    loss = LOSSES[name](logits, target, None)
    assert loss.item() > 0.01
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert (logits.grad[:, :, :3, :4] == 0).all()
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("channels", [1, 4])
def test_nothing_annotated_costs_nothing(name: str, channels: int) -> None:
    logits, target = example(channels)
    target.fill_(IGNORE)
    assert LOSSES[name](logits, target, None).item() == pytest.approx(0, abs=1e-6)


def test_cross_entropy_is_that_of_torch() -> None:
    logits, target = example(4)
    theirs = F.cross_entropy(logits, target.long(), ignore_index=IGNORE)
    assert cross_entropy(logits, target).item() == pytest.approx(theirs.item(), rel=1e-5)
    logits, target = example(1)
    kept = target != IGNORE
    theirs = F.binary_cross_entropy_with_logits(logits[:, 0][kept], target[kept].float())
    assert cross_entropy(logits, target).item() == pytest.approx(theirs.item(), rel=1e-5)


def test_dice_is_that_of_smp() -> None:
    logits, target = example(1)
    theirs = smp.losses.DiceLoss("binary", ignore_index=IGNORE, smooth=0.5)
    # Theirs is halved above and below, its smoothing with it.
    assert dice(logits, target).item() == pytest.approx(
        theirs(logits, target[:, None].float()).item(), rel=1e-5
    )


def test_focal_is_that_of_smp() -> None:
    logits, target = example(1)
    theirs = smp.losses.FocalLoss("binary", gamma=2.0, ignore_index=IGNORE)
    assert focal(logits, target).item() == pytest.approx(
        theirs(logits, target[:, None].float()).item(), rel=1e-4
    )


def test_lovasz_is_that_of_smp() -> None:
    logits, target = example(1)
    kept = target != IGNORE
    # Theirs takes the images one by one, so all pixels are given as one image.
    theirs = smp.losses.LovaszLoss("binary")(
        logits[:, 0][kept].view(1, 1, 1, -1), target[kept].view(1, 1, -1)
    )
    assert lovasz(logits, target).item() == pytest.approx(theirs.item(), rel=1e-4)


def test_lovasz_of_a_hard_mask_is_its_jaccard_loss() -> None:
    truth = torch.zeros(1, 10, 10, dtype=torch.uint8)
    truth[:, 2:7, 2:7] = 1
    found = torch.zeros(1, 10, 10)
    found[:, 4:8, 3:8] = 1
    # Hinge errors of logits at -1 and 1 are 0 and 2.
    loss = lovasz((found * 2 - 1)[:, None], truth).item()
    inside = (found * truth).sum().item()
    iou = inside / (found.sum().item() + truth.sum().item() - inside)
    assert loss == pytest.approx(2 * (1 - iou), rel=1e-6)


def test_boundary_looks_at_outlines_only() -> None:
    target = torch.zeros(1, 32, 32, dtype=torch.uint8)
    target[:, 8:24, 8:24] = 1
    logits = sure(target, 1)
    inside, outline = logits.clone(), logits.clone()
    inside[:, :, 15, 15] *= -1
    outline[:, :, 8, 15] *= -1
    assert LOSSES["boundary"](inside, target, None).item() == pytest.approx(0, abs=1e-6)
    assert LOSSES["boundary"](outline, target, None).item() > 0.1


@pytest.mark.parametrize("channels", [1, 4])
def test_distillation_is_least_where_both_agree(channels: int) -> None:
    teacher, _ = example(channels)
    other, _ = example(channels, seed=1)
    assert distillation(teacher, teacher).item() == pytest.approx(0, abs=1e-6)
    assert distillation(other, teacher).item() > 0.05


def test_weighted_cross_entropy_is_that_of_torch() -> None:
    logits, target = example(4)
    weights = torch.tensor([0.1, 1.0, 3.0, 0.0])
    theirs = F.cross_entropy(logits, target.long(), weights, ignore_index=IGNORE)
    assert cross_entropy(logits, target, weights).item() == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("channels", [1, 4])
def test_equal_weights_change_nothing_and_others_do(name: str, channels: int) -> None:
    logits, target = example(channels)
    alike = torch.ones(max(channels, 2))
    plain = LOSSES[name](logits, target, None).item()
    assert LOSSES[name](logits, target, alike).item() == pytest.approx(plain, rel=1e-6)
    alike[1] = 5
    weighted = LOSSES[name](logits, target, alike).item()
    assert (abs(weighted - plain) > 1e-4) == ((name, channels) != ("lovasz", 1))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("channels", [1, 4])
def test_a_class_that_weighs_nothing_is_as_if_not_annotated(name: str, channels: int) -> None:
    logits, target = example(channels)
    weights = torch.ones(max(channels, 2))
    weights[1] = 0
    loss = LOSSES[name](logits, target, weights).item()
    if (name, channels) != ("lovasz", 4):
        logits[(target == 1)[:, None].expand_as(logits)] = 7.0
    assert LOSSES[name](logits, target, weights).item() == pytest.approx(loss, abs=1e-5)


def test_weights_are_one_for_each_class_and_the_background() -> None:
    check_weights(None, 3)
    check_weights((1.0, 2.0), 1)
    with pytest.raises(UsageError, match=r"class_weights must be 4 numbers.*got 2"):
        check_weights((1.0, 2.0), 3)
    for weights in ((-1.0, 1.0), (0.0, 0.0), (float("nan"), 1.0), ()):
        with pytest.raises(UsageError, match="class_weights must be numbers from 0"):
            TrainOptions(class_weights=weights)


def test_losses_add_up_and_unknown_ones_are_refused() -> None:
    logits, target = example(1)
    apart = cross_entropy(logits, target) + dice(logits, target)
    assert total_loss(logits, target, ("ce", "dice")).item() == pytest.approx(apart.item())
    with pytest.raises(UsageError, match=r"ce, dice.*got 'mse'"):
        check_losses(("ce", "mse"))
