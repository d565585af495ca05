"""A model fitted to one place with a few labels, kept only where it is shown to be better there."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from geohr._runtime.progress import phase
from geohr._runtime.stop import Stop
from geohr.encoding import IGNORE, PROBABILITY_MAX, Bytes, Ints
from geohr.engines.cores import cores
from geohr.errors import InputError, UsageError
from geohr.models.model import Model, resolve_model
from geohr.scene.prepare import ResolutionRange, SceneLike, open_view
from geohr.tiling.normalize import Normalizer, check_range
from geohr.training.fit import (
    LabelledWindows,
    Weights,
    blend,
    fit,
    levels,
    mean_weights,
    plot_counts,
)
from geohr.training.gain import Gain, core, judge
from geohr.training.ground import NO_PLOT, Piece, read_labelled
from geohr.training.options import AdaptOptions

FOLDS = 3
"""Parts of the labelled ground, each left out once: so many fits share the minutes."""
SHARE = 0.7
"""Share of the fitted weights in the mean of old and fitted ones: alone they forget too much."""
# Square metres of labelled ground: what is fitted to less can be worse without being seen to be.
GROUND_MIN = 1000.0
# The threshold of a card that names none.
EVEN = 0.5
# Of the minutes, for reading and for judging the candidates.
JUDGE_SHARE = 0.15


@dataclass(frozen=True)
class Adaptation:
    """What came of fitting a model to a place.

    Attributes:
        model: The model, as it was written.
        gain: Scores on labelled ground that was left out, before and after.
        objects: Labelled objects.
        hectares: Labelled ground.
        steps: Steps of each fit.
        seconds: From start to end.
    """

    model: Model
    gain: Gain
    objects: int
    hectares: float
    steps: int
    seconds: float

    def describe(self) -> str:
        """The result in one sentence."""
        return f"{self.gain.describe()} ({self.seconds / 60:.1f} minutes)"


def adapt(
    scene: SceneLike,
    labels: str | Path,
    out: str | Path,
    *,
    model: str | Path | Model | None = None,
    options: AdaptOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Adaptation:
    """Fit a model to a place with a few labels.

    All weights are fitted at a low rate, several times, with a part of the labelled ground left out
    each time; where nothing is labelled, the former model's probabilities guide them. The mean of
    these and the old weights is taken, unless the ground left out shows a loss: then the model
    stays as it was. The threshold stays in any case.

    Args:
        scene: The scene, or several that are one mosaic.
        labels: Polygons of objects in the layer `labels`, else the first, of a file; and the ground
            that is completely labelled in its layer `labelled`, or in `options.areas`.
        out: The model file, `*.safetensors`.
        model: What to start from: a bundled name, a file or a `Model`; by default the bundled
            building model. Of one class.
        options: The options of fitting.
        progress: Called with the work done and the work in all.

    Raises:
        UsageError: For a model of several classes, and an `out` of another name.
        InputError: When scene, labels or model cannot be used.
        OutputError: When `out` cannot be written.
    """
    began = time.monotonic()
    options, resolved = options or AdaptOptions(), resolve_model(model)
    card, out = resolved.card, Path(out)
    if out.suffix != ".safetensors":
        raise UsageError(f"a model file is named *.safetensors; got {out}")
    trial = try_fits(scene, labels, resolved, options, progress)
    gain = judge(
        trial.counts, card.threshold or EVEN, certainty=options.certainty, seed=options.seed
    )
    made = trial.mixed(resolved, gain, out.stem)
    made.save(out)
    return Adaptation(
        made, gain, trial.objects, trial.hectares, trial.steps, time.monotonic() - began
    )


@dataclass(frozen=True)
class Trial:
    """Fits of a model to a place, before one is chosen.

    Attributes:
        place: The name of the scene.
        fitted: Weights, each fitted without a part of the labelled ground.
        counts: `(2, plot, truth, level)` pixels; see `count_all`.
        objects: Labelled objects.
        hectares: Labelled ground.
        steps: Steps of the fit with the fewest.
    """

    place: str
    fitted: list[Weights]
    counts: Ints
    objects: int
    hectares: float
    steps: int

    def mixed(self, model: Model, gain: Gain, name: str) -> Model:
        """The model with new weights if they are taken, and its card: sources and licence carry on.

        Args:
            model: That the fits began from.
            gain: What the fits gain, which is noted.
            name: Of the new model.
        """
        network, card = copy.deepcopy(model.network), model.card
        made = dataclasses.replace(
            card,
            name=name,
            notes=(
                f"{card.notes} Fitted by geohr adapt to {self.objects} labelled objects of "
                f"{self.place}: {gain.describe()}."
            ).strip(),
        )
        if gain.taken:
            network.load_state_dict(blend(network.state_dict(), mean_weights(self.fitted), SHARE))
            old, new = self.counts.sum(axis=(1, 2))
            made = dataclasses.replace(
                made,
                instances=core(old, new, card.threshold or EVEN, card.instances),
                metrics={**card.metrics, f"{self.place} (left out in turn)": gain.as_dict()},
            )
        return Model(network, made)


def try_fits(
    scene: SceneLike,
    labels: str | Path,
    model: Model,
    options: AdaptOptions,
    progress: Callable[[int, int], None] | None = None,
) -> Trial:
    """Fit a model to labelled ground, and count what each fit finds where it has not looked.

    The arguments and errors are those of `adapt`.
    """
    began, card = time.monotonic(), model.card
    if card.channels > 1 or card.output != "logits":
        raise UsageError(
            f"{card.name} has {card.channels} channels; adapt is for models of one class whose "
            "output is logits: use geohr train --init"
        )
    phase("reading")
    suits = ResolutionRange(card.gsd, card.gsd_best or card.gsd)
    view = open_view(scene, options, bands=card.bands, suits=suits)
    normalizer = Normalizer.of(card, options.scale)
    check_range(view, normalizer)
    pieces, objects = read_labelled(view, str(labels), options.areas)
    ground = sum(int((each.plots != NO_PLOT).sum()) for each in pieces) * (view.gsd or 0.0) ** 2
    if ground < GROUND_MIN:
        raise InputError(
            f"{labels}: {ground:.0f} square metres of labelled ground say too little of a place; "
            f"label {GROUND_MIN:.0f} or more, in several places"
        )
    folds = share_out(pieces)
    phase("fitting")
    seconds = options.minutes * 60 * (1 - JUDGE_SHARE) - (time.monotonic() - began)
    clock = Clock(seconds, options.steps, progress)
    former = [levels(model.network, each, normalizer) for each in pieces]
    fitted = fit_all(model.network, pieces, former, folds, normalizer, options, clock)
    phase("judging")
    return Trial(
        Path(view.path).stem,
        fitted,
        count_all(model.network, fitted, pieces, former, folds, normalizer),
        objects,
        ground / 1e4,
        min(clock.taken.values()),
    )


def share_out(pieces: Sequence[Piece]) -> list[list[int]]:
    """Plots by fold, each fold with about as many pixels of objects.

    Plots of one piece stay together where there are enough pieces: ground beside what was learnt
    from is too easy.
    """
    groups = []
    for each in pieces:
        plots = np.unique(each.plots[each.plots != NO_PLOT]).tolist()
        groups += [plots] if len(pieces) >= FOLDS else [[plot] for plot in plots]
    weight = dict.fromkeys((plot for group in groups for plot in group), 1)
    for each in pieces:
        inside = (each.classes != IGNORE) & (each.classes > 0)
        for plot, count in zip(*np.unique(each.plots[inside], return_counts=True), strict=True):
            weight[int(plot)] += int(count)
    folds: list[list[int]] = [[] for _ in range(min(FOLDS, len(groups)))]
    totals = np.zeros(len(folds))
    for group in sorted(groups, key=lambda plots: -sum(weight[plot] for plot in plots)):
        least = int(totals.argmin())
        folds[least] += group
        totals[least] += sum(weight[plot] for plot in group)
    if len(folds) < 2:
        raise InputError(
            "the labelled ground is too small to leave a part of it out; label a second area, or a "
            "larger one"
        )
    return folds


class Clock:
    """How much of several fits that run side by side is done.

    Args:
        seconds: For all of them.
        steps: Of each; fewer where the seconds end before.
        progress: Called with the work done and the work in all.

    Attributes:
        stop: Ends the fits before their time.
        taken: Steps by the number of a fit.
    """

    def __init__(
        self, seconds: float, steps: int, progress: Callable[[int, int], None] | None
    ) -> None:
        self.stop = Stop()
        self.taken: dict[int, int] = {}
        self._began, self._seconds = time.monotonic(), max(seconds, 1.0)
        self._steps, self._progress = steps, progress

    def done(self, number: int, step: int) -> float:
        """The share of a fit that is done, given its number and the steps that it has taken."""
        self.taken[number] = step
        if self.stop.requested:
            return 1.0
        share = max(step / self._steps, (time.monotonic() - self._began) / self._seconds)
        if self._progress and number == 0:
            self._progress(min(round(share * 100), 100), 100)
        return share


def fit_all(
    network: nn.Module,
    pieces: Sequence[Piece],
    former: Sequence[Bytes],
    folds: Sequence[Sequence[int]],
    normalizer: Normalizer,
    options: AdaptOptions,
    clock: Clock,
) -> list[Weights]:
    """The weights of each fold, fitted without its plots; all at the same time."""
    # Two threads in one pass wait for each other; a thread for each fit does not.
    threads = max(cores() // len(folds), 1)

    def one(number: int) -> Weights:
        torch.set_num_threads(threads)
        known = [each.without(folds[number]) for each in pieces]
        return fit(
            network,
            LabelledWindows(pieces, known, former, normalizer, options.tile),
            options,
            seed=options.seed * FOLDS + number,
            done=partial(clock.done, number),
        )

    with ThreadPoolExecutor(len(folds)) as pool:
        try:
            return list(pool.map(one, range(len(folds))))
        except BaseException:
            clock.stop.request()
            raise


def count_all(
    network: nn.Module,
    fitted: Sequence[Weights],
    pieces: Sequence[Piece],
    former: Sequence[Bytes],
    folds: Sequence[Sequence[int]],
    normalizer: Normalizer,
) -> Ints:
    """`(2, plot, truth, level)` pixels of every plot, by the old weights and by new ones.

    The new ones are the mean of the old and of those that were fitted without the plot.
    """
    plots = 1 + max(int(each.plots.max()) for each in pieces)
    counts = np.zeros((2, plots, 2, PROBABILITY_MAX + 1), np.int64)
    old = network.state_dict()
    candidate = copy.deepcopy(network).eval()
    every = [plot for fold in folds for plot in fold]
    for piece, found in zip(pieces, former, strict=True):
        plot_counts(found, piece, every, counts[0])
    for weights, fold in zip(fitted, folds, strict=True):
        candidate.load_state_dict(blend(old, weights, SHARE))
        for piece in pieces:
            if np.isin(piece.plots, fold).any():
                plot_counts(levels(candidate, piece, normalizer), piece, fold, counts[1])
    return counts
