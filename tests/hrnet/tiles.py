"""Real tiles of the bundled sample scene, with boxes and centres of its labelled buildings."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import rasterio
import torch
from affine import Affine
from rasterio.windows import Window
from torch import Tensor

DATA = Path(__file__).parents[2] / "examples" / "data"
SMALLEST = 8
"""Sides in pixels below which the clipped rest of a building is no object."""


SHRINK = 4
"""The sample scene has 7 cm a pixel; at a quarter of that a tile holds several buildings."""


def tile(*, row: int, col: int, size: int) -> tuple[Tensor, Tensor]:
    """A tile of the sample scene, shrunk, and the boxes of its buildings.

    Args:
        row: First row in the scene.
        col: First column in the scene.
        size: Rows and columns of the tile after shrinking.

    Returns:
        Pixels (band, row, col) in [0, 1] and boxes (building, 4) as left, top, right, bottom in
        pixels of the tile.
    """
    with rasterio.open(DATA / "kampala.tif") as scene:
        window = Window(col, row, size * SHRINK, size * SHRINK)
        values = scene.read(window=window, out_shape=(3, size, size))
        to_pixel = ~(scene.transform @ Affine.translation(col, row) @ Affine.scale(SHRINK))
        buildings = gpd.read_file(DATA / "kampala_buildings.gpkg").to_crs(scene.crs)
    boxes = []
    for west, south, east, north in buildings.bounds.itertuples(index=False):
        (left, top), (right, bottom) = to_pixel @ (west, north), to_pixel @ (east, south)
        boxes.append((left, top, right, bottom))
    clipped = torch.tensor(boxes).clamp(0, size)
    sides = clipped[:, 2:] - clipped[:, :2]
    return torch.from_numpy(values).float() / 255, clipped[(sides > SMALLEST).all(1)]
