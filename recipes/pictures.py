"""What a model finds, beside the labels, in squares that are drawn before anyone looks at them.

    python -m recipes.pictures DATA MODEL OUT.jpg [--work FOLDER] [--side METRES] [--seed NUMBER]

DATA is a folder with the data sets' `manifest.json`, MODEL a bundled name or a model file. Of each
place that is not trained on as a whole there are two squares, at random among those that are
annotated. Labels are yellow, what the model finds with all defaults is cyan; above each
square stands the intersection over union of both in it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import rasterio
from rasterio.features import rasterize
from rasterio.windows import Window

from geohr.api.memory import segment
from geohr.models.model import resolve_model
from geohr.scene import Scene
from recipes.buildings import Place, accra, geneva, kampala, lyon

SQUARES = 2
TRIES = 10_000
UNKNOWN = 255
"""Where labels are not annotated."""
UNKNOWN_MOST = 0.05
"""The share of a square that may not be annotated, such as slits between houses."""


def places(data: Path, folder: Path) -> dict[str, Place]:
    """The places that validate the bundled model, each at its own resolution."""
    return {
        "Kampala a": kampala(data, folder, "a"),
        "Kampala b": kampala(data, folder, "b"),
        "Lyon": lyon(data, folder),
        "Geneva": geneva(data, folder),
        "Accra": accra(data, folder),
    }


def draw_squares(place: Place, side: float, rng: np.random.Generator) -> list[Window]:
    """Squares of a place that are annotated and hold some building.

    Args:
        place: The scene and its labels.
        side: In metres.
        rng: Draws them.

    Raises:
        SystemExit: When there are not enough.
    """
    with rasterio.open(place.labels) as labels:
        classes = labels.read(1)
    pixels = round(side / (Scene.open(place.scene).gsd or 1.0))
    last = np.subtract(classes.shape, pixels).clip(0)
    for _ in range(TRIES):
        corners = rng.integers(0, last + 1, (SQUARES, 2))
        parts = [classes[row : row + pixels, col : col + pixels] for row, col in corners]
        apart = (np.abs(corners[:, None] - corners).max(axis=2) >= pixels).sum()
        if apart == SQUARES * (SQUARES - 1) and all(
            part.any() and (part == UNKNOWN).mean() <= UNKNOWN_MOST for part in parts
        ):
            return [Window(col, row, pixels, pixels) for row, col in corners.tolist()]
    raise SystemExit(f"{place.scene}: no {SQUARES} squares of {side:g} m; try a smaller --side")


def main() -> None:
    """Segment the places, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/validation"))
    parser.add_argument("--side", type=float, default=30.0, help="of a square, in metres")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    model = resolve_model(arguments.model)
    rng = np.random.default_rng(arguments.seed)
    shown = places(arguments.data, arguments.work)
    figure, axes = plt.subplots(
        SQUARES, len(shown), figsize=(3 * len(shown), 3.3 * SQUARES), layout="constrained"
    )
    for column, (name, place) in zip(axes.T, shown.items(), strict=True):
        objects = segment(str(place.scene), model=model)
        for axis, window in zip(column, draw_squares(place, arguments.side, rng), strict=True):
            with rasterio.open(place.scene) as scene, rasterio.open(place.labels) as labels:
                pixels = scene.read([1, 2, 3], window=window)
                truth = labels.read(1, window=window) == 1
                found = rasterize(
                    [*objects.geometry],
                    truth.shape,
                    transform=scene.window_transform(window),
                    dtype="uint8",
                ).astype(bool)
            axis.imshow(np.moveaxis(pixels, 0, -1))
            for mask, colour in ((truth, "#ffeb3b"), (found, "#00e5ff")):
                if mask.any() and not mask.all():
                    axis.contour(mask, levels=[0.5], colors=colour, linewidths=1.4)
            overlap = (truth & found).sum() / max((truth | found).sum(), 1)
            axis.set_title(f"{name}: {overlap:.2f}")
            axis.axis("off")
    figure.savefig(arguments.out, dpi=80, pil_kwargs={"quality": 85})


if __name__ == "__main__":
    main()
