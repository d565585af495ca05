"""Which head for small objects: V1, V2 and OCR against a U-Net, same data, same budget.

    python -m recipes.heads DATA FOLDER

DATA is a folder with the data sets' `manifest.json`. Each finished network stays in FOLDER, and an
interrupted one goes on; the same command goes on until all are there, then prints the table.

Every network sees the same windows in the same order: 8,000 of 256 pixels at 0.1 to 0.3 m, and
for the coarser inputs the same ground in half and a quarter as many pixels a side. Scores are
those of Kampala b, read at 0.15 m and at twice and four times that; the threshold is the one that
suits Kampala a, read likewise.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from geohr.engines import open_predictor
from geohr.evaluation.evaluate import evaluate
from geohr.evaluation.options import EvaluateOptions
from geohr.models.card import start_card
from geohr.models.model import Model
from geohr.options import EngineOptions, SegmentOptions
from geohr.training.options import TrainOptions
from geohr.training.samples import read_manifest
from geohr.training.train import train
from recipes.buildings import Place, kampala, segment, write_manifest
from recipes.buildings import score as pixels

TILE, BATCH, STEPS = 256, 8, 1000
THRESHOLDS = (0.25, 0.35, 0.45, 0.55, 0.65, 0.75)
"""Probabilities tried."""
SPAN = (0.1, 0.3)
"""Metres a pixel of the training windows at full resolution."""
SCORED_AT = 0.15
"""Metres a pixel at which Kampala b is read at full resolution."""
SEEDS = (0, 1)
HEADS = {
    "V1": ("hrnetv1", "hrnetv2_w18_small_v1"),
    "V2": ("hrnetv2", "hrnetv2_w18_small_v1"),
    "V2 + OCR": ("hrnetocr", "hrnetv2_w18_small_v1"),
    "U-Net, ResNet-18": ("unet", "resnet18"),
}
"""Architecture and encoder."""
SHRUNK = ("V2", "U-Net, ResNet-18")
"""Whose input is made coarser too."""
MEASURES = (
    "iou", "boundary_iou", "object_recall_under_50_m2", "object_recall_50_to_200_m2",
    "object_recall_from_200_m2",
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One network.

    Attributes:
        head: A key of `HEADS`.
        factor: How many times fewer pixels a side the input has.
        seed: Of weights and windows.
    """

    head: str
    factor: int
    seed: int

    @property
    def name(self) -> str:
        """Of its file."""
        architecture, _ = HEADS[self.head]
        return f"{architecture}-{self.factor}-{self.seed}"

    @property
    def options(self) -> TrainOptions:
        """How it is trained."""
        architecture, encoder = HEADS[self.head]
        return TrainOptions(
            architecture=architecture,
            encoder=encoder,
            tile=TILE // self.factor,
            gsd_range=(SPAN[0] * self.factor, SPAN[1] * self.factor),
            steps=STEPS,
            batch=BATCH,
            learning_rate=2e-3,
            warmup=100,
            ema=0.99,
            precision="bfloat16",
            validate_every=STEPS,
            checkpoint_every=50,
            seed=self.seed,
        )


def trials() -> list[Trial]:
    """All networks: every head at full resolution with two seeds, some coarser with one."""
    full = [Trial(head, 1, seed) for seed in SEEDS for head in HEADS]
    return full + [Trial(head, factor, SEEDS[0]) for head in SHRUNK for factor in (2, 4)]


def fit(trial: Trial, manifest: Path, folder: Path) -> Model:
    """The trained network, from its file where it is there."""
    out = folder / f"{trial.name}.safetensors"
    if out.exists():
        return Model.load(out)
    return train(
        read_manifest(manifest),
        out,
        card=start_card(None, trial.name),
        options=trial.options,
        resume=(out.with_suffix(".run") / "checkpoint.pt").exists(),
    )


def reading(trial: Trial) -> SegmentOptions:
    """How a place is read for a network."""
    return SegmentOptions(
        backend="torch", gsd=str(SCORED_AT * trial.factor), tile=2 * TILE // trial.factor
    )


def with_threshold(trial: Trial, model: Model, place: Place) -> Model:
    """The model with the threshold whose objects overlap those of a place best."""
    found = {}
    for threshold in THRESHOLDS:
        tried = Model(model.network, dataclasses.replace(model.card, threshold=threshold))
        found[pixels(tried, place, reading(trial))] = tried
    return found[max(found)]


def score(trial: Trial, model: Model, place: Place) -> dict[str, float]:
    """Scores of Kampala b."""
    segment(model, place, reading(trial))
    evaluated = EvaluateOptions(aoi=str(place.labels), by_size=True, replicates=0)
    return dict(evaluate(place.found, place.truth, options=evaluated).scores)


def speed(model: Model) -> float:
    """Megapixels a second of one engine call after another, torch in one thread."""
    predictor = open_predictor(model, 2 * TILE, EngineOptions(backend="torch", batch=1))
    pixels = torch.zeros(1, 3, 2 * TILE, 2 * TILE).numpy()
    predictor.predict(pixels)
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        predictor.predict(pixels)
        taken.append(time.perf_counter() - began)
    return (2 * TILE) ** 2 / statistics.median(taken) / 1e6


def main() -> None:
    """Train what is missing, then print a row for each head and resolution."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(exist_ok=True)
    manifest = folder / "data.json"
    write_manifest(arguments.data, manifest)
    chosen_on, place = (kampala(arguments.data, folder, part) for part in "ab")
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    models: dict[tuple[str, int], Model] = {}
    for trial in trials():
        model = with_threshold(trial, fit(trial, manifest, folder), chosen_on)
        models[trial.head, trial.factor] = model
        found.setdefault((trial.head, trial.factor), []).append(score(trial, model, place))
        told = {each: round(found[trial.head, trial.factor][-1][each], 3) for each in MEASURES}
        print(trial.name, model.card.threshold, told, flush=True)
    print(f"| head | input | {' | '.join(MEASURES)} | parameters | Mpx/s |")
    print("|---" * (len(MEASURES) + 4) + "|")
    for (head, factor), scores in found.items():
        model = models[head, factor]
        cells = [" and ".join(f"{each[name]:.3f}" for each in scores) for name in MEASURES]
        parameters = sum(each.numel() for each in model.network.parameters()) / 1e6
        print(
            f"| {head} | 1/{factor} | {' | '.join(cells)} | {parameters:.1f} M "
            f"| {speed(model):.2f} |"
        )


if __name__ == "__main__":
    main()
