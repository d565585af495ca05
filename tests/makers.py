"""Seeded makers of scenes and models for the tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from numpy.typing import NDArray

from geohr.models.card import Card, ClassLabel
from geohr.models.model import Model
from geohr.models.networks import build

UTM = "EPSG:32636"
ORIGIN = (450_000.0, 40_000.0)


def write_scene(path: Path, pixels: NDArray[Any], *, crs: str | None = UTM, **profile: Any) -> Path:
    """A GeoTIFF of `(band, row, col)` at 0.5 m."""
    bands, height, width = pixels.shape
    settings: dict[str, Any] = {
        "driver": "GTiff",
        "dtype": pixels.dtype,
        "count": bands,
        "height": height,
        "width": width,
        "crs": crs,
        "transform": Affine(0.5, 0, ORIGIN[0], 0, -0.5, ORIGIN[1]),
    }
    with rasterio.open(path, "w", **{**settings, **profile}) as raster:
        raster.write(pixels)
    return path


def noise(height: int, width: int, *, bands: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Random uint8 pixels `(band, row, col)`, from 1 so that 0 can be nodata."""
    return np.random.default_rng(seed).integers(1, 256, (bands, height, width), dtype=np.uint8)


def one_class_card(**changes: Any) -> Card:
    """The card of a small model with one class."""
    settings: dict[str, Any] = {
        "name": "tiny",
        "architecture": "hrnetv2",
        "encoder": "hrnetv2_w18_small_v1",
        "classes": (ClassLabel("building", "#e6550d"),),
        "tile": 64,
    }
    return Card(**{**settings, **changes})


def random_model(path: Path, *, seed: int = 0, card: Card | None = None) -> Path:
    """A model file with random weights."""
    torch.manual_seed(seed)
    card = card or one_class_card()
    Model(build(card).eval(), card).save(path)
    return path


@contextmanager
def shared_cache(factory: pytest.TempPathFactory) -> Iterator[None]:
    """Networks are compiled once for all processes of the tests, which then need no torch."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOHR_CACHE", str(base / "cache"))
        yield


class Constant:
    """A predictor that says the same of every pixel.

    Args:
        scores: By class.
        batch: Windows at once.
    """

    workers = 1
    engine = "constant"

    def __init__(self, *scores: float, batch: int = 1) -> None:
        self._scores = np.array(scores, np.float32)
        self.batch = batch

    def predict(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        shape = (len(pixels), len(self._scores), *pixels.shape[2:])
        return np.broadcast_to(self._scores[None, :, None, None], shape)


class Local:
    """A predictor whose score of a pixel depends on the pixels within `radius` of it.

    Args:
        radius: Half a side of the square looked at.
        batch: Windows at once.
    """

    workers = 1
    engine = "local"

    def __init__(self, radius: int, *, batch: int = 1) -> None:
        self.radius = radius
        self.batch = batch

    def predict(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        side = 2 * self.radius + 1
        mean = torch.nn.functional.avg_pool2d(
            torch.from_numpy(pixels).mean(dim=1, keepdim=True),
            side,
            stride=1,
            padding=self.radius,
            count_include_pad=False,
        )
        return mean.sigmoid().numpy()
