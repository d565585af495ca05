"""What several training processes are worth on the cores of one machine.

    python -m benchmarks.train_processes --processes 1 2 --rounds 3

One process of as many threads as there are cores against N processes that share them, in turns:
the same network, windows, batch and number format. Prints windows a second, without the start.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from geohr.models.card import start_card
from geohr.training.options import TrainOptions
from geohr.training.samples import Sample, pair
from geohr.training.train import train
from tests.train.towns import make_town

WARM = 2
"""Steps before the clock starts."""


def rate(samples: tuple[Sample, ...], folder: Path, options: TrainOptions) -> float:
    """Windows a second."""
    ends: list[float] = []
    train(
        samples,
        folder / "m.safetensors",
        card=start_card(None, "m"),
        options=options,
        progress=lambda _, __: ends.append(time.monotonic()),
    )
    steps = ends[WARM - 1 : -1]  # the last one also writes the log
    return (len(steps) - 1) * options.batch / (steps[-1] - steps[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        town = make_town(folder, "town", height=1500, width=1500, houses=600)
        samples = pair([town.image], [town.raster], split="train")
        rates: dict[int, list[float]] = {count: [] for count in asked.processes}
        for _ in range(asked.rounds):
            for count in asked.processes:
                options = TrainOptions(
                    encoder="hrnetv2_w18_small_v1", precision="bfloat16", device="cpu",
                    steps=asked.steps, validate_every=10**6, checkpoint_every=10**6,
                    processes=count,
                )  # fmt: skip
                rates[count].append(rate(samples, folder, options))
    first = statistics.median(rates[asked.processes[0]])
    print(f"load {os.getloadavg()[0]:.1f}; windows of 256 x 256, batch 8, bfloat16")
    print(f"{'processes':>9}{'windows/s':>11}{'ratio':>7}  rounds")
    for count, found in rates.items():
        rounds = " ".join(f"{each:.2f}" for each in np.round(found, 2))
        print(f"{count:>9}{statistics.median(found):>11.2f}", end="")
        print(f"{statistics.median(found) / first:>7.2f}  {rounds}")


if __name__ == "__main__":
    main()
