"""Precision, recall, counts and areas of a map out of a sample that was judged.

Estimates follow from the design of the sample alone, whatever the model thinks (Olofsson et al.,
"Good practices for estimating area and assessing accuracy of land change", Remote Sensing of
Environment 148, 2014). Every object there is lies with its middle in exactly one window.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyogrio.errors
import shapely

from geohr._runtime.messages import amount
from geohr.encoding import Floats, Ints
from geohr.errors import InputError
from geohr.geodesy import areas
from geohr.workflows.check.intervals import DRAWS, Interval, draw_missed, draw_right, share
from geohr.workflows.check.options import EstimateOptions

# Seed of the draws of what was not judged: the same answers give the same estimate.
SEED = 0


@dataclass(frozen=True)
class Strata:
    """The strata of a population, and where the judgements lie.

    Attributes:
        of: `(n,)` the stratum of each judgement.
        members: `(stratum,)` how many members there are.
        expected: `(stratum,)` what is expected of a member; zeros where nothing is.
    """

    of: Ints
    members: Ints
    expected: Floats

    @property
    def judged(self) -> Ints:
        """`(stratum,)` how many members were judged."""
        return np.bincount(self.of, minlength=len(self.members))

    @property
    def weight(self) -> Floats:
        """`(n,)` how many members each judgement stands for."""
        return np.asarray(self.members[self.of] / self.judged[self.of], np.float64)

    def sums(self, values: Floats) -> Floats:
        """`(stratum,)` sums of a value of each judgement."""
        summed: Floats = np.bincount(self.of, values, minlength=len(self.members)).astype(float)
        return summed


@dataclass(frozen=True)
class Judgements:
    """A sample that was judged, as columns; only what has an answer.

    Attributes:
        right: `(n,)` 1 where the object is right, else 0.
        objects: The strata of the objects.
        confidence: `(n,)` of the objects.
        area: `(n,)` square metres of the objects.
        names: `(n,)` class names of the objects.
        missed: `(m,)` missed objects in each window.
        windows: The strata of the windows.
        traced: `(k,)` square metres of missed objects that were traced.
    """

    right: Floats
    objects: Strata
    confidence: Floats
    area: Floats
    names: Any
    missed: Floats
    windows: Strata
    traced: Floats


@dataclass(frozen=True)
class Estimate:
    """The estimated quality of a map.

    Attributes:
        precision: Share of the map's objects that are right.
        recall: Share of the objects that are there that the map has.
        count: Objects that are there.
        missed: Objects that the map misses.
        found_m2: Square metres of objects that are right.
        missed_m2: Square metres of objects that are missed.
        objects: Judgements of objects.
        places: Judgements of places.
        by_class: Precision by class.
        by_size: Precision by size.
        curve: By confidence threshold: threshold, precision, recall, cost.
        threshold: The confidence from which objects are best kept at the cost that was stated.
    """

    precision: Interval
    recall: Interval
    count: Interval
    missed: Interval
    found_m2: Interval
    missed_m2: Interval
    objects: int
    places: int
    by_class: dict[str, Interval]
    by_size: dict[str, Interval]
    curve: tuple[tuple[float, float, float, float], ...]
    threshold: float

    def as_dict(self) -> dict[str, Any]:
        """The estimate as a dictionary for JSON; intervals as value, low, high."""
        return {
            "precision": self.precision.as_list(),
            "recall": self.recall.as_list(),
            "count": self.count.as_list(),
            "missed": self.missed.as_list(),
            "found_m2": self.found_m2.as_list(),
            "missed_m2": self.missed_m2.as_list(),
            "judged": {"objects": self.objects, "places": self.places},
            "precision_by_class": {name: each.as_list() for name, each in self.by_class.items()},
            "precision_by_size": {name: each.as_list() for name, each in self.by_size.items()},
            "curve": [list(each) for each in self.curve],
            "threshold": self.threshold,
        }

    def to_json(self) -> str:
        """The estimate as JSON."""
        return json.dumps(self.as_dict(), indent=1)

    def describe(self) -> str:
        """A description: estimates with their 95% intervals."""
        return "\n".join(
            [
                f"judged: {amount(self.objects, 'object')} and {amount(self.places, 'place')}",
                f"precision: {percent(self.precision)} of the map's objects are right",
                f"recall: {percent(self.recall)} of the objects that are there are in the map",
                f"objects there: {numbers(self.count)}, missed: {numbers(self.missed)}",
                f"area found: {numbers(self.found_m2)} m2, missed: {numbers(self.missed_m2)} m2",
                *(f"precision, {name}: {percent(each)}" for name, each in self.by_size.items()),
                f"best threshold of confidence: {self.threshold:.2f}",
            ]
        )


def percent(interval: Interval) -> str:
    """As a person reads it."""
    return f"{interval.value:.0%} ({interval.low:.0%} to {interval.high:.0%})"


def numbers(interval: Interval) -> str:
    """As a person reads it."""
    return f"{interval.value:,.0f} ({interval.low:,.0f} to {interval.high:,.0f})"


def estimate(sample: str | Path, *, options: EstimateOptions | None = None) -> Estimate:
    """Estimate how good a map is from a judged sample.

    Args:
        sample: A file of `geohr.workflows.check.sample.draw_sample`, with answers.
        options: The costs of false and missed objects.

    Raises:
        InputError: When it is no such sample, or nothing was judged.
    """
    return estimate_from(read_judgements(Path(sample)), options or EstimateOptions())


def read_judgements(sample: Path) -> Judgements:
    """Read the answers of a sample.

    Raises:
        InputError: When it is no sample, or nothing was judged.
    """
    try:
        objects = pyogrio.read_dataframe(sample, layer="objects")
        places = pyogrio.read_dataframe(sample, layer="places")
        traced = places.iloc[:0]
        if "traced" in {name for name, _ in pyogrio.list_layers(sample)}:
            traced = pyogrio.read_dataframe(sample, layer="traced")
        known, seen = objects["answer"].notna(), places["answer"].notna()
        strata = strata_of(objects, known), strata_of(places, seen, "expected")
        missed = missed_objects(places[seen], traced.to_crs(places.crs))
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, KeyError) as error:
        raise InputError(
            f"{sample}: no sample of geohr ({error}); draw one with geohr check sample"
        ) from error
    objects = objects[known]
    if len(objects) == 0 or not seen.any():
        raise InputError(
            f"{sample}: {amount(len(objects), 'object')} and {amount(int(seen.sum()), 'place')} "
            "with an answer; judge some of both, 1 for yes and 0 for no in the column answer, "
            "or in geohr view"
        )
    return Judgements(
        right=objects["answer"].to_numpy(np.float64),
        objects=strata[0],
        confidence=objects["confidence"].to_numpy(np.float64),
        area=areas(objects.geometry.to_numpy(), objects.crs.to_wkt()),
        names=objects["class"].fillna("").to_numpy(),
        missed=missed,
        windows=strata[1],
        traced=areas(traced.geometry.to_numpy(), traced.crs.to_wkt()),
    )


def strata_of(table: Any, known: Any, expected: str | None = None) -> Strata:
    """The strata of a layer, of which some rows are judged."""
    _, first, of = np.unique(table["stratum"].astype(str), return_index=True, return_inverse=True)
    hoped = np.zeros(len(first))
    if expected is not None:
        hoped = table[expected].to_numpy(np.float64)[first]
    return Strata(
        np.asarray(of)[known.to_numpy()],
        table["members"].to_numpy()[first].astype(np.int64),
        hoped,
    )


def missed_objects(places: Any, traced: Any) -> Floats:
    """`(m,)` missed objects in windows that were judged.

    They are those of the column `missed`, else the outlines with their middle in the window, and
    one at least where the answer is yes.
    """
    drawn = np.zeros(len(places))
    if len(traced):
        middles = shapely.centroid(traced.geometry.to_numpy())
        pairs = places.reset_index(drop=True).sindex.query(middles, predicate="intersects")
        # On a common edge the middle belongs to one of both.
        _, first = np.unique(pairs[0], return_index=True)
        np.add.at(drawn, pairs[1][first], 1)
    told = places["missed"].to_numpy(np.float64)
    least: Floats = np.maximum(drawn, places["answer"].to_numpy(np.float64))
    return np.where(np.isnan(told), least, told)


@dataclass(frozen=True)
class Quality:
    """The main numbers of a map.

    Attributes:
        precision: Share of the map's objects that are right.
        recall: Share of the objects that are there that the map has.
        count: Objects that are there.
        missed: Objects that the map misses.
        draws: `(draw,)` of the missed objects.
    """

    precision: Interval
    recall: Interval
    count: Interval
    missed: Interval
    draws: Floats


def quality(judged: Judgements, random: np.random.Generator) -> Quality:
    """Precision, recall and counts out of answers."""
    objects, windows = judged.objects, judged.windows
    size = int(objects.members.sum())
    right = draw_right(objects.sums(judged.right), objects.judged, objects.members, random)
    counts = windows.sums(judged.missed), windows.sums(judged.missed**2)
    missed = draw_missed(counts, windows.judged, windows.members, windows.expected, random)
    found_all = float((objects.weight * judged.right).sum())
    missed_all = float((windows.weight * judged.missed).sum())
    # Where objects or windows of a stratum were not reached, the rest stands for them.
    if (objects.judged == 0).any():
        found_all = float(np.median(right))
    if (windows.judged == 0).any():
        missed_all = float(np.median(missed))
    recall = found_all / (found_all + missed_all) if found_all + missed_all else float("nan")
    return Quality(
        precision=Interval.of(found_all / size, right / size),
        recall=Interval.of(recall, right / np.maximum(right + missed, 1e-9)),
        count=Interval.of(found_all + missed_all, right + missed),
        missed=Interval.of(missed_all, missed),
        draws=missed,
    )


def estimate_from(judged: Judgements, options: EstimateOptions) -> Estimate:
    """The estimate out of answers; see `estimate`."""
    random = np.random.default_rng(SEED)
    told = quality(judged, random)
    one = judged.traced if len(judged.traced) else judged.area
    missed_m2 = told.draws * draw_mean(one, random)
    curve = tuple(
        along_threshold(judged, judged.objects.weight, told.missed.value, options.cost, level)
        for level in np.unique(np.round(judged.confidence, 2))
    )
    edges = np.quantile(judged.area, [0, 1 / 3, 2 / 3, 1])
    return Estimate(
        precision=told.precision,
        recall=told.recall,
        count=told.count,
        missed=told.missed,
        found_m2=total_of(judged),
        missed_m2=Interval.of(told.missed.value * float(one.mean()), missed_m2),
        objects=len(judged.right),
        places=len(judged.missed),
        by_class={
            str(name): domain_share(judged, judged.names == name)
            for name in np.unique(judged.names.astype(str))
        },
        by_size={
            f"{low:.0f} to {high:.0f} m2": domain_share(
                judged, (judged.area >= low) & (judged.area <= high)
            )
            for low, high in pairwise(edges)
        },
        curve=curve,
        threshold=float(min(curve, key=lambda each: each[3])[0]),
    )


def draw_mean(values: Floats, random: np.random.Generator) -> Floats:
    """`(draw,)` means that a few values are consistent with (Rubin's Bayesian bootstrap, 1981)."""
    drawn: Floats = random.dirichlet(np.ones(len(values)), DRAWS) @ values
    return drawn


def domain_share(judged: Judgements, inside: Any) -> Interval:
    """The share of objects that are right, among those of a part of the map."""
    strata = judged.objects
    return share(
        strata.sums(judged.right * inside),
        strata.sums(inside.astype(np.float64)),
        strata.sums(strata.weight * inside),
    )


def total_of(judged: Judgements) -> Interval:
    """Square metres of the objects that are right, with the interval of a stratified mean."""
    strata, value, variance = judged.objects, 0.0, 0.0
    right = judged.right * judged.area
    for place, members in enumerate(strata.members):
        of = right[strata.of == place]
        if len(of):
            value += members * float(of.mean())
        if len(of) > 1:
            left_out = max(1 - len(of) / members, 0.0)
            variance += members**2 * float(of.var(ddof=1)) / len(of) * left_out
    half = 1.96 * variance**0.5
    return Interval(value, max(value - half, 0.0), value + half)


def along_threshold(
    judged: Judgements, weight: Floats, missed: float, cost: float, level: float
) -> tuple[float, float, float, float]:
    """Threshold, precision, recall and cost of the map without objects below a confidence."""
    kept = judged.confidence >= level
    right = float((weight * judged.right)[kept].sum())
    wrong = float((weight * (1 - judged.right))[kept].sum())
    lost = missed + float((weight * judged.right)[~kept].sum())
    precision = right / (right + wrong) if right + wrong else float("nan")
    recall = right / (right + lost) if right + lost else float("nan")
    return float(level), precision, recall, wrong * cost + lost
