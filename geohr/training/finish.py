"""The end of a run: the best weights, calibrated, with their card, in a model file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from geohr.encoding import Ints
from geohr.engines.torch import choose_device
from geohr.errors import InputError
from geohr.evaluation.metrics import iou
from geohr.models.card import Card
from geohr.models.model import Model, resolve_model
from geohr.scene.labels import Legend
from geohr.training.reliability import cool_threshold, divide_logits, fit_temperature, reliability
from geohr.training.run import TrainingJob, as_segmented, move
from geohr.training.samples import read_manifest
from geohr.training.showcase import Showcase
from geohr.training.state import State
from geohr.training.store import Store
from geohr.training.validate import best_threshold, count_pixels, scores
from geohr.training.windows import gsd_span

# The threshold of a card that names none.
EVEN = 0.5


@dataclass(frozen=True)
class TrainResult:
    """The result of a training run.

    Attributes:
        model: The model, as it was written.
        counts: Counts of validation pixels by place, before calibration; see `count_pixels`.
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
    gsd = trained_gsd(run)
    showcase = Showcase(run.store, run.card)
    counts = count_pixels(
        network, run.card, run.validation, store=run.store, device=run.device, watch=showcase.see
    )
    card = with_threshold(dataclasses.replace(run.card, gsd=gsd), counts)
    metrics = {place: {"iou": round(score, 4)} for place, score in scores(counts, card).items()}
    if card.background:
        for place, table in counts.items():
            names = [each.name for each in card.classes]
            metrics[place] |= dict(zip(names, class_ious(table), strict=True))
    threshold, temperature = card.threshold, 1.0
    # A softmax has no single threshold to go with a temperature.
    if counts and not card.background:
        temperature = fit_temperature(list(counts.values()))
        # Into the weights, so that exported models are calibrated too.
        divide_logits(network, temperature)
        for place, table in counts.items():
            error = reliability(table, temperature).error
            metrics[place]["calibration_error"] = round(error, 4)
        cooled = cool_threshold(threshold or EVEN, temperature)
        card = dataclasses.replace(card, threshold=cooled)
    tested = count_pixels(network, card, run.test, store=run.store, device=run.device)
    for place, each in scores(tested, card).items():
        metrics.setdefault(place, {})["test_iou"] = round(each, 4)
    card = dataclasses.replace(card, metrics=metrics)
    model = Model(network.to("cpu").to(memory_format=torch.contiguous_format), card)
    model.save(out)
    return TrainResult(model, counts, threshold, temperature, showcase)


def trained_gsd(run: TrainingJob) -> tuple[float, float]:
    """The smallest and the largest ground sampling distance, in metres, of a model's card.

    Where a range was asked for, it is what windows were drawn at. Where none was, windows are drawn
    coarser and finer too, to learn from, but no scene showed the ground so: the images' own count.
    """
    native = [each.gsd for each in run.train]
    if run.options.gsd_range is None:
        return min(native), max(native)
    spans = [gsd_span(gsd, run.options.gsd_range) for gsd in native]
    return min(low for low, _ in spans), max(high for _, high in spans)


def score_manifest(
    data: Path,
    model: str | Path | None,
    split: str,
    *,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Intersection over union by place of a model on the chips that a manifest lists.

    Chips are predicted at their own resolution; the classes are those of the card, at its
    threshold.

    Args:
        data: The manifest; see `geohr.training.samples.read_manifest`.
        model: A bundled name or a model file; None for the bundled building model.
        split: Which of its chips.
        device: The device to predict on.
        progress: Called with the chips done and the chips in all.

    Raises:
        InputError: When manifest or model cannot be used, or no labelled chip is of that split.
    """
    resolved, device = resolve_model(model), choose_device(device)
    card, network = resolved.card, move(resolved.network, device).eval()
    legend = Legend(None, tuple(each.name for each in card.classes))
    samples = [
        as_segmented(dataclasses.replace(each, legend=legend), card)
        for each in read_manifest(data)
        if each.split == split and each.label is not None
    ]
    store, counts = Store(), dict[str, Ints]()
    for number, sample in enumerate(samples, start=1):
        found = count_pixels(network, card, [sample], store=store, device=device)
        counts |= {place: counts.get(place, 0) + table for place, table in found.items()}
        if progress:
            progress(number, len(samples))
    if not counts:
        raise InputError(f"{data}: no labelled chip of split {split}; choose another with --split")
    return scores(counts, card)


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
