"""Draw the pictures of the README and the documentation: `python examples/make_picture.py`.

Everything comes from the bundled model and the sample scene, so that the pictures show what the
version at hand does.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import geohr
from geohr.stitching.weights import weights

HERE = Path(__file__).parent
SCENE = HERE / "data" / "kampala.tif"
IMAGES = HERE.parent / "docs" / "images"
COLOURS = 96
"""The number of colours in a picture, which keeps its file small."""
PIECE = (slice(400, 1300), slice(300, 1500))
"""Rows and columns of the scene whose probabilities are shown."""


def main() -> None:
    """Draw all pictures."""
    mpl.use("agg")
    IMAGES.mkdir(exist_ok=True)
    draw_buildings()
    draw_weights()
    draw_seams()


def draw_buildings() -> None:
    """Draw the buildings that are found over the image."""
    axes = geohr.plot(SCENE, geohr.segment(SCENE, progress=None))
    save("kampala.png", dpi=80)
    axes.figure.clear()


def draw_weights() -> None:
    """Draw the weights of the windows of one row, and their sum."""
    card = geohr.Model.bundled().card
    grid = geohr.Grid(card.tile, 4 * card.tile, card.tile, card.tile // 4)
    profile = weights("hann", card.tile).astype(float)
    profile /= profile.max()
    total = np.zeros(4 * card.tile)
    _, axes = plt.subplots(figsize=(9, 2.6))
    for window in grid.row(0):
        axes.plot(np.arange(window.col, window.col_stop), profile, color="#2166ac", linewidth=1)
        start, stop = max(window.col, 0), min(window.col_stop, len(total))
        total[start:stop] += profile[start - window.col : stop - window.col]
    axes.plot(total, color="#b2182b", linewidth=2, label="sum")
    for edge in (0, len(total)):
        axes.axvline(edge, color="black", linewidth=1)
    axes.set(xlabel="column of the scene", ylabel="weight")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper right", frameon=False)
    save("weights.png", dpi=90)


def draw_seams() -> None:
    """Draw probabilities without overlap beside blended ones."""
    _, places = plt.subplots(1, 2, figsize=(11, 4.4))
    for axes, overlap, blend, title in (
        (places[0], 0.0, "flat", "windows side by side"),
        (places[1], 0.25, "hann", "overlapping by a quarter, blended"),
    ):
        options = geohr.SegmentOptions(overlap=overlap, blend=blend)
        seen = geohr.predict(SCENE, options=options, progress=None).probabilities[0]
        axes.imshow(seen[PIECE], vmin=0, vmax=1, cmap="magma")
        axes.set_title(title, fontsize="medium")
        axes.set_axis_off()
    save("seams.png", dpi=70)


def save(name: str, *, dpi: int) -> None:
    """Write the current figure with few colours, which keeps its file small."""
    plt.savefig(IMAGES / name, dpi=dpi, bbox_inches="tight")
    plt.close()
    with Image.open(IMAGES / name) as picture:
        few = picture.convert("RGB").quantize(COLOURS)
    few.save(IMAGES / name, optimize=True)


if __name__ == "__main__":
    main()
