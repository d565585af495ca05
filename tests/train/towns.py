"""Seeded towns: scenes with bright roofs, their labels as raster and as polygons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray

from tests.makers import ORIGIN, UTM, write_scene

GSD = 0.5
"""Side of the pixels that `write_scene` makes, in metres."""


@dataclass(frozen=True)
class Town:
    """A scene with its labels.

    Attributes:
        image: The scene's file.
        raster: Its labels as a raster.
        polygons: Its labels as polygons, in degrees.
        classes: Its labels, `(row, col)`.
    """

    image: Path
    raster: Path
    polygons: Path
    classes: NDArray[np.uint8]


def make_town(
    folder: Path, name: str, *, height: int = 128, width: int = 160, houses: int = 12, seed: int = 0
) -> Town:
    """Bright red rectangles on dark, noisy ground."""
    rng = np.random.default_rng(seed)
    classes = np.zeros((height, width), np.uint8)
    shapes = []
    for _ in range(houses):
        tall, wide = rng.integers(8, 20, 2)
        row, col = rng.integers(1, height - tall - 1), rng.integers(1, width - wide - 1)
        if classes[row - 1 : row + tall + 1, col - 1 : col + wide + 1].any():
            continue
        classes[row : row + tall, col : col + wide] = 1
        left, top = ORIGIN[0] + col * GSD, ORIGIN[1] - row * GSD
        shapes.append(shapely.box(left, top - tall * GSD, left + wide * GSD, top))
    image = rng.integers(20, 90, (3, height, width)).astype(np.uint8)
    image[0][classes == 1] += 150
    polygons = folder / f"{name}.gpkg"
    table = geopandas.GeoDataFrame(geometry=shapes, crs=UTM).to_crs("EPSG:4326")
    pyogrio.write_dataframe(table, polygons)
    return Town(
        write_scene(folder / f"{name}.tif", image),
        write_scene(folder / f"{name}_labels.tif", classes[None]),
        polygons,
        classes,
    )
