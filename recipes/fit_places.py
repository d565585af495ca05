"""The places on which `geohr adapt` is measured, as scenes with labels.

    python -m recipes.fit_places DATA FOLDER
    python -m benchmarks.adapt --place FOLDER/geneva.tif FOLDER/geneva_labels.tif ...

DATA is a folder with the data sets' `manifest.json`. Kampala and Lyon are whole. The fourteen tiles
of Geneva lie nearer together than for `recipes.buildings`. Accra and Banepa are parts of scenes.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

from recipes.buildings import (
    OUTSIDE,
    Bytes,
    accra,
    geneva_tiles,
    kampala,
    lyon,
    scattered,
    write_place,
)

ACCRA = Window(1680, 2480, 1920, 1104)
"""The part of the nine images of Accra, in pixels of the scene that joins them."""
BANEPA = Window(0, 2304, 1792, 1536)
"""The part of `banepa_centre.tif`, in pixels."""
GENEVA_SIDE = 314
"""Pixels from one tile of Geneva to the next: 64 more than a tile has."""


def write_part(folder: Path, name: str, scene: Path, labels: Path, window: Window) -> None:
    """Write a part of a scene and of its labels."""
    with rasterio.open(scene) as image, rasterio.open(labels) as classes:
        known: Bytes = classes.read(1, window=window)
        here = image.dataset_mask(window=window) > 0
        write_place(
            folder,
            name,
            image.read([1, 2, 3], window=window),
            np.where(here, known, np.uint8(OUTSIDE)),
            crs=image.crs,
            transform=image.window_transform(window),
        )


def main() -> None:
    """Write the six places."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    data, folder = arguments.data, arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("a", "b"):
        kampala(data, folder, part)
    lyon(data, folder)
    transform = Affine(0.25, 0, 2_500_000, 0, -0.25, 1_120_000)
    scattered(
        data, folder, "geneva", geneva_tiles(data), side=GENEVA_SIDE, across=4, crs="EPSG:2056",
        transform=transform,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as whole:
        place = accra(data, Path(whole))
        write_part(folder, "accra", place.scene, place.labels, ACCRA)
    root = data / "fair_banepa"
    name = "banepa_centre.tif"
    write_part(folder, "banepa", root / "images" / name, root / "labels" / name, BANEPA)


if __name__ == "__main__":
    main()
