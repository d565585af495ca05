"""A small version of `benchmarks.resolutions`: one place, several CRSs and resolutions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.resolutions import SAMPLE, Truth, measure, read_truth, resample, summed
from geohr.models.model import resolve_model

CRSS = ("EPSG:3857", "EPSG:32636", "EPSG:4326")
# Where pixels begin moves the IoU of this small place by up to 3 points in one and the same CRS.
SHIFTS = ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5))


Shifts = tuple[tuple[float, float], ...]


@pytest.fixture(scope="module")
def truth() -> Truth:
    return read_truth(*SAMPLE)


def score(
    truth: Truth, crs: str, gsd: float, way: str, shifts: Shifts, folder: Path
) -> tuple[float, Any]:
    """IoU of the bundled model, and metres down and right by which it lies off the truth."""
    copies = (resample(truth, crs, gsd, folder / "copy.tif", shift) for shift in shifts)
    return summed([measure(copy, truth, resolve_model(None), way) for copy in copies], truth)


@pytest.fixture(scope="module")
def own_offset(truth: Truth) -> Any:
    """By how many metres the labels lie off the scene, which is not resampled here."""
    return summed([measure(Path(truth.scene.path), truth, resolve_model(None), "auto")], truth)[1]


@pytest.mark.parametrize(
    ("gsd", "crss", "shifts"),
    [
        (0.3, CRSS[2:], SHIFTS[:1]),
        pytest.param(0.15, CRSS, SHIFTS, marks=pytest.mark.full),
        pytest.param(0.3, CRSS, SHIFTS, marks=pytest.mark.full),
        pytest.param(0.6, CRSS, SHIFTS, marks=pytest.mark.full),
    ],
)
def test_the_bundled_model_finds_the_same_in_every_crs(
    truth: Truth,
    own_offset: Any,
    tmp_path: Path,
    gsd: float,
    crss: tuple[str, ...],
    shifts: Shifts,
) -> None:
    native, _ = score(truth, CRSS[0], gsd, "native", shifts, tmp_path)
    auto = [score(truth, crs, gsd, "auto", shifts, tmp_path) for crs in crss]
    ious = [iou for iou, _ in auto]
    assert max(ious) - min(ious) < 0.02
    assert min(ious) >= native - 0.005
    # The labels of this place lie a little off its image, in whatever CRS it is read.
    for _, offset in auto:
        assert np.hypot(*(offset - own_offset)) < gsd / 2
