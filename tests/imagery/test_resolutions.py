"""A small version of `benchmarks.resolutions`: one place, several CRSs and resolutions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.resolutions import SAMPLE, Truth, measure, read_truth, resample, summed
from geohr.models.model import resolve_model

CRSS = ("EPSG:3857", "EPSG:32636", "EPSG:4326")


@pytest.fixture(scope="module")
def truth() -> Truth:
    return read_truth(*SAMPLE)


def score(truth: Truth, crs: str, gsd: float, way: str, folder: Path) -> tuple[float, Any]:
    """IoU of the bundled model, and metres down and right by which it lies off the truth."""
    copy = resample(truth, crs, gsd, folder / "copy.tif")
    return summed([measure(copy, truth, resolve_model(None), way)], truth)


@pytest.mark.parametrize(
    ("gsd", "crss"),
    [
        (0.3, CRSS[2:]),
        pytest.param(0.15, CRSS, marks=pytest.mark.full),
        pytest.param(0.3, CRSS, marks=pytest.mark.full),
        pytest.param(0.6, CRSS, marks=pytest.mark.full),
    ],
)
def test_the_bundled_model_finds_the_same_in_every_crs(
    truth: Truth, tmp_path: Path, gsd: float, crss: tuple[str, ...]
) -> None:
    native, native_offset = score(truth, CRSS[0], gsd, "native", tmp_path)
    auto = [score(truth, crs, gsd, "auto", tmp_path) for crs in crss]
    ious = [iou for iou, _ in auto]
    assert max(ious) - min(ious) < 0.02
    assert min(ious) >= native - 0.005
    # The labels of this place lie a little off its image, in whatever CRS it is read.
    for _, offset in auto:
        assert np.hypot(*(offset - native_offset)) < gsd / 2
