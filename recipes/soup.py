"""The weights of a model and of its fine-tuned form averaged, as far as validation likes best.

    python -m recipes.soup DATA.json BEFORE AFTER OUT.safetensors [--shares 0.4,0.6]

BEFORE and AFTER are bundled names or model files of one architecture, the second trained on from
the first. What fine-tuning gains in one place it may lose in others, and an average of the weights
often keeps both (Wortsman et al., "Robust fine-tuning of zero-shot models", 2022). The share of
AFTER is the one whose mean intersection over union on the manifest's validation places is best; the
average is calibrated there, too.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from geohr.models.model import Model, resolve_model
from geohr.training.finish import with_threshold
from geohr.training.reliability import cool_threshold, divide_logits, fit_temperature
from geohr.training.samples import read_manifest
from geohr.training.store import Store
from geohr.training.validate import count_pixels, scores

SHARES = (0.4, 0.6, 0.8, 1.0)
"""Shares of the fine-tuned weights that are tried."""

Weights = Mapping[str, Tensor]


def average(before: Weights, after: Weights, share: float) -> dict[str, Tensor]:
    """Both weights, the second ones counting `share`; what is no floating point is the second's."""
    return {
        name: before[name].lerp(late, share) if late.is_floating_point() else late.clone()
        for name, late in after.items()
    }


def main() -> None:
    """Try the shares and write the best average."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("out", type=Path)
    parser.add_argument("--shares", default=",".join(f"{each:g}" for each in SHARES))
    arguments = parser.parse_args()
    model = resolve_model(arguments.after)
    network, store = model.network, Store()
    before, after = (
        {name: each.clone() for name, each in weights.items()}
        for weights in (resolve_model(arguments.before).network.state_dict(), network.state_dict())
    )
    places = [each for each in read_manifest(arguments.data) if each.split == "validation"]
    told = {}
    for share in map(float, arguments.shares.split(",")):
        network.load_state_dict(average(before, after, share))
        counts = count_pixels(network, model.card, places, store=store, device="cpu")
        card = with_threshold(model.card, counts)
        found = scores(counts, card)
        told[sum(found.values()) / len(found)] = share, counts, card
        print(share, {place: round(score, 4) for place, score in found.items()}, flush=True)
    share, counts, card = told[max(told)]
    network.load_state_dict(average(before, after, share))
    temperature = fit_temperature(list(counts.values()))
    divide_logits(network, temperature)
    threshold = cool_threshold(card.threshold or 0.5, temperature)
    Model(network, dataclasses.replace(card, threshold=threshold)).save(arguments.out)
    print(f"{arguments.out}: {share:g} of {arguments.after}, temperature {temperature:.3f}")


if __name__ == "__main__":
    main()
