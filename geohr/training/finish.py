"""The end of a run: the best weights, calibrated, with their card, in a model file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from geohr.encoding import Ints
from geohr.evaluation.metrics import iou
from geohr.models.card import Card
from geohr.models.model import Model
from geohr.training.reliability import cool_threshold, divide_logits, fit_temperature, reliability
from geohr.training.run import TrainingJob
from geohr.training.showcase import Showcase
from geohr.training.state import State
from geohr.training.validate import best_threshold, count_pixels, scores
from geohr.training.windows import gsd_span

EVEN = 0.5
"""The threshold of a card that names none."""


@dataclass(frozen=True)
class TrainResult:
    """What a run ends with.

    Attributes:
        model: As it was written.
        counts: Of the validation pixels by place, before calibration; see `count_pixels`.
        threshold: The probability that suited these counts; None with several classes.
        temperature: That the logits were divided by; 1 with several classes or no validation.
        showcase: The best and the worst validation windows.
    """

    model: Model
    counts: Mapping[str, Ints]
    threshold: float | None
    temperature: float
    showcase: Showcase


def finish(run: TrainingJob, state: State, out: Path) -> TrainResult:
    """Write the best weights; threshold and temperature are chosen on the validation samples."""
    network = state.average
    network.load_state_dict(state.best_weights or network.state_dict())
    spans = [gsd_span(each.gsd, run.options.gsd_range) for each in run.train]
    gsd = (min(low for low, _ in spans), max(high for _, high in spans))
    native = [each.gsd for each in run.train]
    best = run.card.gsd_best or (None if run.options.gsd_range else (min(native), max(native)))
    showcase = Showcase(run.store, run.card)
    counts = count_pixels(
        network, run.card, run.validation, store=run.store, device=run.device, watch=showcase.see
    )
    card = with_threshold(dataclasses.replace(run.card, gsd=gsd, gsd_best=best), counts)
    metrics = {place: {"iou": round(score, 4)} for place, score in scores(counts, card).items()}
    if card.background:
        for place, table in counts.items():
            names = [each.name for each in card.classes]
            metrics[place] |= dict(zip(names, class_ious(table), strict=True))
    threshold, temperature = card.threshold, 1.0
    if counts and not card.background:
        temperature = fit_temperature(list(counts.values()))
        divide_logits(network, temperature)
        for place, table in counts.items():
            error = reliability(table, temperature).error
            metrics[place]["calibration_error"] = round(error, 4)
        cooled = cool_threshold(threshold or EVEN, temperature)
        card = dataclasses.replace(card, threshold=cooled)
    card = dataclasses.replace(card, metrics=metrics)
    model = Model(network.to("cpu").to(memory_format=torch.contiguous_format), card)
    model.save(out)
    return TrainResult(model, counts, threshold, temperature, showcase)


def class_ious(table: Ints) -> list[float]:
    """Intersection over union of each foreground class, from a table (truth, found)."""
    both = np.diag(table)[1:]
    return [
        round(float(each), 4)
        for each in iou(both, table.sum(0)[1:] - both, table.sum(1)[1:] - both)
    ]


def with_threshold(card: Card, counts: Mapping[str, Ints]) -> Card:
    """The card of one class with the threshold that validates best; other cards as they are."""
    if card.background or not counts:
        return card
    return dataclasses.replace(card, threshold=best_threshold(counts))
