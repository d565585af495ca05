"""How far a building model's probabilities can be taken at their word, as a picture.

    python -m recipes.reliability_figure DATA MODEL.safetensors FIGURE.png --work DIR

For each place, at the resolution that scenes are read at, the share of pixels that are building
among those of a probability; on the dotted line 0.8 means 0.8. The temperature was fitted on
Kampala a and Lyon; Kampala b is only shown.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt

from geohr.models.model import Model
from geohr.training.reliability import reliability
from geohr.training.samples import pair
from geohr.training.store import Store
from geohr.training.validate import count_pixels
from recipes.buildings import as_read


def main() -> None:
    """Predict the three places, print each one's calibration error, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/validation"))
    arguments = parser.parse_args()
    data, folder = arguments.data, arguments.work
    folder.mkdir(parents=True, exist_ok=True)
    places = as_read(data, folder)
    model = Model.load(arguments.model)
    figure, axes = plt.subplots(figsize=(5, 5), layout="constrained")
    axes.plot([0, 1], [0, 1], color="#888888", linestyle=":", label="0.8 means 0.8")
    for name, place in places.items():
        sample = pair([place.scene], [place.labels], split="test")
        (counts,) = count_pixels(
            model.network, model.card, sample, store=Store(), device="cpu"
        ).values()
        told = reliability(counts)
        print(f"{name}: expected calibration error {told.error:.4f}")
        axes.plot(told.probability, told.share, marker="o", label=f"{name}, error {told.error:.3f}")
    axes.set(xlabel="probability", ylabel="share that is building", xlim=(0, 1), ylim=(0, 1))
    axes.legend(loc="upper left")
    figure.savefig(arguments.out, dpi=110)


if __name__ == "__main__":
    main()
