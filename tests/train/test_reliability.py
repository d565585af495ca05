"""Probabilities that mean what they say: against pixels drawn with a known temperature."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from geohr.errors import InputError
from geohr.models.card import Card
from geohr.models.networks import build
from geohr.options import SegmentOptions
from geohr.training.reliability import (
    cool,
    cool_threshold,
    divide_logits,
    fit_temperature,
    level_logits,
    reliability,
    sigmoid,
)
from geohr.training.validate import LEVELS
from tests.makers import one_class_card


def drawn(temperature: float, *, pixels: int = 400_000, seed: int = 0) -> np.ndarray:
    """Counts of pixels whose truth is right when the logits are divided by `temperature`."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, LEVELS + 1, pixels)
    likely = sigmoid(level_logits(LEVELS + 1) / temperature)[levels]
    truth = rng.random(pixels) < likely
    return np.bincount(truth * (LEVELS + 1) + levels, minlength=2 * (LEVELS + 1)).reshape(2, -1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7, 3.0])
def test_the_temperature_that_pixels_were_drawn_with_is_found(temperature: float) -> None:
    table = drawn(temperature)
    found = fit_temperature([table])
    assert found == pytest.approx(temperature, rel=0.03)
    assert reliability(table, found).error < 0.01
    if temperature != 1.0:
        assert reliability(table).error > 0.05


def test_places_count_the_same_whatever_their_size() -> None:
    large, small = drawn(3.0), drawn(0.5, pixels=4_000, seed=1)
    assert fit_temperature([large, small]) == pytest.approx(
        fit_temperature([large // 10, small]), rel=0.05
    )


def test_a_bin_holds_the_share_that_is_true() -> None:
    table = np.zeros((2, LEVELS + 1), np.int64)
    table[0, 25], table[1, 25] = 30, 10
    told = reliability(table)
    assert told.pixels.tolist() == [40, *[0] * 9]
    assert told.share[0] == 0.25
    assert told.error == pytest.approx(0.25 - 25 / 254, abs=1e-3)
    assert np.isnan(told.share[1:]).all()


@given(st.floats(0.01, 0.99), st.floats(0.2, 5))
def test_a_cooled_threshold_keeps_the_same_pixels(threshold: float, temperature: float) -> None:
    logits = level_logits(LEVELS + 1)
    kept = sigmoid(logits) >= threshold
    near = np.abs(sigmoid(logits) - threshold) < 1e-9
    after = sigmoid(logits / temperature) >= cool(threshold, temperature)
    assert (kept == after)[~near].all()


@pytest.mark.parametrize("temperature", [0.2, 0.5, 1.0, 5.0])
def test_a_cooled_threshold_is_one_that_a_run_accepts(temperature: float) -> None:
    for threshold in (0.004, 0.5, 1.0):
        SegmentOptions(threshold=cool_threshold(threshold, temperature))
    assert cool_threshold(0.5, temperature) == 0.5


@pytest.mark.parametrize(
    ("architecture", "encoder"),
    [
        ("hrnetv2", "hrnetv2_w18_small_v1"),
        ("hrnetocr", "hrnetv2_w18_small_v1"),
        ("unet", "hrnetv2_w18_small_v1"),
    ],
)
def test_logits_are_divided_whatever_the_head(architecture: str, encoder: str) -> None:
    card: Card = one_class_card(architecture=architecture, encoder=encoder)
    network = build(card).eval()
    pixels = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        before = network(pixels)
        divide_logits(network, 2.0)
        assert torch.allclose(network(pixels), before / 2, atol=1e-6)


def test_a_network_without_a_head_is_refused() -> None:
    with pytest.raises(InputError, match="Sequential: cannot be calibrated"):
        divide_logits(nn.Sequential(nn.Conv2d(3, 1, 1)), 2.0)
