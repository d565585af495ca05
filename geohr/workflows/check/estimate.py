"""Precision, recall, counts and areas of a map out of a sample that was judged.

Estimates follow from the design of the sample alone, whatever the model thinks (Olofsson et al.,
"Good practices for estimating area and assessing accuracy of land change", Remote Sensing of
Environment 148, 2014). A missed object that covers a place that was drawn stands for the stratum's
area per place over its own area: over all places that adds up to one for each missed object.
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

from geohr.encoding import Floats
from geohr.errors import InputError
from geohr.geodesy import areas
from geohr.workflows.check.intervals import Interval, found_share, plus, scaled, share, total
from geohr.workflows.check.options import EstimateOptions

# Area taken for a missed object where nothing is known of any: a small house.
USUAL_M2 = 100.0


@dataclass(frozen=True)
class Judgements:
    """A sample that was judged, as columns; only what has an answer.

    Attributes:
        right: `(n,)` 1 where the object is right, else 0.
        stratum: `(n,)` of the objects.
        members: `(n,)` objects of that stratum.
        confidence: `(n,)` of the objects.
        area: `(n,)` square metres of the objects.
        names: `(n,)` class names of the objects.
        missed: `(m,)` 1 where an object was missed at the place, else 0.
        place_stratum: `(m,)` of the places.
        ground: `(m,)` square metres of that stratum.
        missed_area: `(m,)` square metres of the missed object; nan where it was not traced.
    """

    right: Floats
    stratum: Any
    members: Floats
    confidence: Floats
    area: Floats
    names: Any
    missed: Floats
    place_stratum: Any
    ground: Floats
    missed_area: Floats


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
                f"judged: {self.objects} objects and {self.places} places",
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
        traced = None
        if "traced" in {name for name, _ in pyogrio.list_layers(sample)}:
            traced = pyogrio.read_dataframe(sample, layer="traced")
        objects = objects[objects["answer"].notna()]
        places = places[places["answer"].notna()]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, KeyError) as error:
        raise InputError(
            f"{sample}: no sample of geohr ({error}); draw one with geohr check sample"
        ) from error
    if len(objects) == 0 or len(places) == 0:
        raise InputError(
            f"{sample}: {len(objects)} objects and {len(places)} places have an answer; judge some "
            "of both, 1 for yes and 0 for no in the column answer, or in geohr view"
        )
    area = places["object_m2"].to_numpy(np.float64, copy=True)
    if traced is not None and len(traced):
        size = areas(traced.geometry.to_numpy(), traced.crs.to_wkt())
        # An outline belongs to the places that lie in it.
        pairs = places.reset_index(drop=True).sindex.query(traced.geometry, predicate="covers")
        area[pairs[1]] = size[pairs[0]]
    return Judgements(
        right=objects["answer"].to_numpy(np.float64),
        stratum=objects["stratum"].to_numpy(),
        members=objects["members"].to_numpy(np.float64),
        confidence=objects["confidence"].to_numpy(np.float64),
        area=areas(objects.geometry.to_numpy(), objects.crs.to_wkt()),
        names=objects["class"].fillna("").to_numpy(),
        missed=places["answer"].to_numpy(np.float64),
        place_stratum=places["stratum"].to_numpy(),
        ground=places["members"].to_numpy(np.float64),
        missed_area=area,
    )


def estimate_from(judged: Judgements, options: EstimateOptions) -> Estimate:
    """The estimate out of answers; see `estimate`."""
    weight = weights(judged.stratum, judged.members)
    place = weights(judged.place_stratum, judged.ground)
    size = float(judged.members[unique(judged.stratum)].sum())
    precision = domain_share(judged, weight, np.ones(len(weight), bool))
    right = scaled(precision, size)
    usual = float(np.median(judged.area)) if len(judged.area) else USUAL_M2
    area = np.where(np.isfinite(judged.missed_area), judged.missed_area, usual)
    hits = judged.missed > 0
    missed = total(place[hits] / area[hits], float(place.max()) / usual)
    missed_m2 = total(place[hits], float(place.max()))
    found_m2 = total_of(judged, weight)
    curve = tuple(
        along_threshold(judged, weight, missed.value, options.cost, level)
        for level in np.unique(np.round(judged.confidence, 2))
    )
    best = min(curve, key=lambda each: each[3])[0]
    edges = np.quantile(judged.area, [0, 1 / 3, 2 / 3, 1])
    return Estimate(
        precision=precision,
        recall=found_share(right, missed),
        count=plus(right, missed),
        missed=missed,
        found_m2=found_m2,
        missed_m2=missed_m2,
        objects=len(judged.right),
        places=len(judged.missed),
        by_class={
            str(name): domain_share(judged, weight, judged.names == name)
            for name in np.unique(judged.names.astype(str))
        },
        by_size={
            f"{low:.0f} to {high:.0f} m2": domain_share(
                judged, weight, (judged.area >= low) & (judged.area <= high)
            )
            for low, high in pairwise(edges)
        },
        curve=curve,
        threshold=float(best),
    )


def unique(strata: Any) -> Any:
    """The place of one member of each stratum."""
    return np.unique(strata.astype(str), return_index=True)[1]


def weights(strata: Any, members: Floats) -> Floats:
    """`(n,)` how many members of its stratum each judgement stands for."""
    _, of, counts = np.unique(strata.astype(str), return_inverse=True, return_counts=True)
    return np.asarray(members / counts[of], np.float64)


def domain_share(judged: Judgements, weight: Floats, inside: Any) -> Interval:
    """The share of objects that are right, among those of a part of the map."""
    names, of = np.unique(judged.stratum.astype(str), return_inverse=True)
    count = len(names)
    right = np.bincount(of[inside], weights=judged.right[inside], minlength=count)
    number = np.bincount(of[inside], minlength=count).astype(np.float64)
    sizes = np.bincount(of[inside], weights=weight[inside], minlength=count)
    return share(np.asarray(right, np.float64), number, np.asarray(sizes, np.float64))


def total_of(judged: Judgements, weight: Floats) -> Interval:
    """Square metres of the objects that are right, with the interval of a stratified mean."""
    value = variance = 0.0
    for name in np.unique(judged.stratum.astype(str)):
        index = np.flatnonzero(judged.stratum == name)
        right = judged.right[index] * judged.area[index]
        value += float((weight[index] * right).sum())
        if len(index) > 1:
            members = float(judged.members[index[0]])
            left_out = max(1 - len(index) / members, 0.0)
            variance += members**2 * float(right.var(ddof=1)) / len(index) * left_out
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
