"""A scene inside a wide border of nodata, as mosaics come, beside the same scene without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

from geohr.api.memory import predict

SCENE = Path(__file__).parents[2] / "examples" / "data" / "kampala.tif"
SIDE, BORDER = 640, 320
"""In pixels of the scene."""


def test_a_border_without_data_changes_little_of_what_is_found(tmp_path: Path) -> None:
    with rasterio.open(SCENE) as scene:
        window = Window(200, 200, SIDE, SIDE)
        pixels = scene.read([1, 2, 3], window=window)
        profile = {"driver": "GTiff", "count": 4, "dtype": "uint8", "crs": scene.crs,
                   "photometric": "RGB", "alpha": "YES"}  # fmt: skip
        transform = scene.window_transform(window)
    found = []
    for border in (0, BORDER):
        side = SIDE + 2 * border
        inside = slice(border, border + SIDE)
        shown = np.zeros((4, side, side), np.uint8)
        shown[:, inside, inside] = [*pixels, np.full((SIDE, SIDE), 255)]
        path = tmp_path / f"{border}.tif"
        corner = transform @ rasterio.Affine.translation(-border, -border)
        with rasterio.open(
            path, "w", height=side, width=side, transform=corner, **profile
        ) as raster:
            raster.write(shown)
        told = predict(path, gsd="native", progress=None).probabilities[0]
        found.append(told[inside, inside] >= 0.5)
    alone, framed = found
    assert alone.mean() > 0.3
    assert (alone & framed).sum() / (alone | framed).sum() > 0.93
