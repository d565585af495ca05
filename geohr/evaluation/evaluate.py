"""Scores of a prediction against the truth: pixels, boundaries and objects, with intervals."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyogrio
from numpy.typing import NDArray
from rasterio.crs import CRS

from geohr._runtime.files import written_whole
from geohr._runtime.html import lines
from geohr._runtime.progress import phase
from geohr.errors import UsageError
from geohr.evaluation import metrics
from geohr.evaluation.counts import PIXEL_COUNTS, Layers, WindowCounts, count_windows
from geohr.evaluation.layers import open_layers
from geohr.evaluation.options import EvaluateOptions

# Thresholds of intersection over union: SpaceNet's 0.5, and the ten that COCO averages over.
THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
# The percentage of replicates inside an interval.
LEVEL = 95.0

# Names of measures for a person, where they are not the words of their keys.
LABELS = {"object_f1_50_95": "object f1, IoU 0.50 to 0.95"}

Sums = Mapping[str, Any]
Scores = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Evaluation:
    """Scores and their intervals.

    Attributes:
        scores: The value of each measure; NaN where it is not defined, such as the relative error
            of a count where there is no true object.
        intervals: The bounds of the 95% interval of each measure; empty without a bootstrap.
    """

    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]

    def _repr_html_(self) -> str:
        """The scores in a notebook."""
        return lines(self.describe())

    def to_json(self) -> str:
        """The scores and intervals as JSON."""
        content = {
            "scores": {name: known(value) for name, value in self.scores.items()},
            "intervals_95": {
                name: [known(bound) for bound in bounds] for name, bounds in self.intervals.items()
            },
        }
        return json.dumps(content, indent=2, allow_nan=False)

    def describe(self) -> str:
        """The scores as text, a line a measure, with 95% intervals in brackets."""
        labels = {name: LABELS.get(name, name.replace("_", " ")) for name in self.scores}
        width = max(map(len, labels.values()))
        told = []
        for name, value in self.scores.items():
            text = f"{value:.4f}" if abs(value) < 10 else f"{value:,.0f}"
            if math.isnan(value):
                text = "not defined"
            if name in self.intervals:
                low, high = self.intervals[name]
                text += f"  [{low:.4f}, {high:.4f}]"
            told.append(f"{labels[name]:{width}}  {text}")
        if self.intervals:
            told.append("In brackets: 95% intervals. Errors are shares of the true count and area.")
        return "\n".join(told)


def evaluate(
    predicted: str | Path,
    truth: str | Path,
    *,
    options: EvaluateOptions | None = None,
    objects_out: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score predicted objects against the truth.

    Each layer may be polygons in any CRS or a raster of class ids. The objects of a raster are
    groups of pixels joined by their sides, and pixels where the truth is 255 are not scored. Pixels
    are compared on the grid of the truth if that is a raster, else on that of the area of interest
    or of the prediction, else on a new one.

    Args:
        predicted: The layer to score.
        truth: The layer to score it against.
        options: Which class and area to score, and how.
        objects_out: A GPKG to write the matched, false and missed objects to.
        progress: A function that is called with the number of windows done and of all windows.

    Returns:
        The scores, and their intervals if replicates were asked for.

    Raises:
        InputError: When an input cannot be read, or but one has a CRS.
        UsageError: When `objects_out` is no GPKG.
        OutputError: When `objects_out` cannot be written.
    """
    options = options or EvaluateOptions()
    if objects_out is not None and objects_out.suffix.lower() != ".gpkg":
        raise UsageError(f"{objects_out}: matched objects are written as .gpkg; name such a file")
    phase("reading")
    with ExitStack() as stack:
        opened = open_layers(str(predicted), str(truth), options)
        found, true, aoi, geobox, gsd = stack.enter_context(opened)
        layers = Layers(found, true, aoi, geobox, gsd, options.boundary / gsd)
        part = stack.enter_context(written_whole(objects_out)) if objects_out else None
        phase("comparing")
        parts = [
            shortened(counted, part, geobox.crs) for counted in count_windows(layers, progress)
        ]
    phase("resampling" if options.replicates else "scoring")
    sums = sum_by_block(parts, options)
    totals = {name: sums[name].sum() for name in sums.columns}
    scores = {name: float(value) for name, value in score(totals, options).items()}
    return Evaluation(scores, intervals(sums, options))


def shortened(counted: WindowCounts, part: Path | None, crs: CRS) -> WindowCounts:
    """Drop the geometries of a window, after writing them to the file `part` if there is one."""
    if part is not None:
        matched = counted.found["iou"] > 0
        missed = counted.truth[counted.truth["iou"] == 0]
        table = pd.concat(
            [
                counted.found.assign(outcome=np.where(matched, "matched", "false")),
                missed.assign(outcome="missed"),
            ]
        )
        shapes = geopandas.GeoDataFrame(
            table[["outcome", "iou", "area_m2"]], geometry=list(table["geometry"]), crs=crs
        )
        pyogrio.write_dataframe(
            shapes, part, layer="objects", append=part.exists(), promote_to_multi=True
        )
    return WindowCounts(
        counted.pixels,
        counted.truth.drop(columns="geometry"),
        counted.found.drop(columns="geometry"),
    )


def sum_by_block(parts: list[WindowCounts], options: EvaluateOptions) -> pd.DataFrame:
    """All counts, one row per block, with columns named as `score` reads them."""
    pixels = pd.concat([part.pixels for part in parts]).groupby("block").sum()
    truth = pd.concat([part.truth for part in parts])
    found = pd.concat([part.found for part in parts])
    columns: dict[str, pd.Series[Any]] = {name: pixels[name] for name in PIXEL_COUNTS}
    for kind, table in (("truth", truth), ("found", found)):
        for name, counts in object_counts(table, options):
            columns[f"{kind}_{name}"] = counts.groupby(table["block"]).sum()
    return pd.DataFrame(columns).fillna(0.0)


def object_counts(
    table: pd.DataFrame, options: EvaluateOptions
) -> Iterator[tuple[str, pd.Series[Any]]]:
    """Columns with one number per object: count, area, matches by threshold and by size class."""
    yield "count", pd.Series(1.0, table.index)
    yield "area", table["area_m2"]
    yield "overlap", table["iou"]
    for threshold in THRESHOLDS:
        yield f"match_{threshold}", (table["iou"] >= threshold).astype(float)
    limits = (0.0, *options.sizes, np.inf)
    for name, low, high in zip(size_names(options), limits, limits[1:], strict=False):
        inside = (table["area_m2"] >= low) & (table["area_m2"] < high)
        yield f"count_{name}", inside.astype(float)
        yield f"match_{name}", (inside & (table["iou"] >= THRESHOLDS[0])).astype(float)


def known(value: float) -> float | None:
    """The value for JSON, which has no NaN: None where it is not defined."""
    return None if math.isnan(value) else value


def size_names(options: EvaluateOptions) -> list[str]:
    """A name for each size class."""
    limits = options.sizes
    if not limits:
        return ["all"]
    between = [f"{low:g}_to_{high:g}_m2" for low, high in pairwise(limits)]
    return [f"under_{limits[0]:g}_m2", *between, f"from_{limits[-1]:g}_m2"]


def score(sums: Sums, options: EvaluateOptions) -> Scores:
    """All measures, from sums of counts, which may be arrays with a value for each replicate."""
    true, false, missed = sums["true"], sums["false"], sums["missed"]
    there, found = sums["truth_count"], sums["found_count"]
    overlap = (sums["truth_overlap"] + sums["found_overlap"]) / 2
    least = THRESHOLDS[0]
    scores = {
        "iou": metrics.iou(true, false, missed),
        "precision": metrics.precision(true, false),
        "recall": metrics.recall(true, missed),
        "f1": metrics.f1(true, false, missed),
        "boundary_iou": metrics.ratio(sums["edge_shared"], sums["edge_either"]),
        "object_precision": metrics.ratio(sums[f"found_match_{least}"], found),
        "object_recall": metrics.ratio(sums[f"truth_match_{least}"], there),
        "object_f1": object_f1(sums, f"match_{least}", "count"),
        "object_f1_50_95": np.mean(
            [object_f1(sums, f"match_{threshold}", "count") for threshold in THRESHOLDS], axis=0
        ),
        "panoptic_quality": metrics.ratio(2 * overlap, there + found),
        "count_truth": np.asarray(there, float),
        "count_found": np.asarray(found, float),
        "count_error": metrics.ratio(found, there) - 1,
        "area_error": metrics.ratio(sums["found_area"], sums["truth_area"]) - 1,
    }
    for name in size_names(options) if options.by_size else []:
        scores |= {
            f"object_precision_{name}": metrics.ratio(
                sums[f"found_match_{name}"], sums[f"found_count_{name}"]
            ),
            f"object_recall_{name}": metrics.ratio(
                sums[f"truth_match_{name}"], sums[f"truth_count_{name}"]
            ),
            f"object_f1_{name}": object_f1(sums, f"match_{name}", f"count_{name}"),
            f"count_truth_{name}": np.asarray(sums[f"truth_count_{name}"], float),
            f"count_found_{name}": np.asarray(sums[f"found_count_{name}"], float),
        }
    return scores


def object_f1(sums: Sums, match: str, count: str) -> NDArray[np.float64]:
    """F1 of objects, as in SpaceNet: the share of all objects, true and found, with a partner."""
    partnered = sums[f"truth_{match}"] + sums[f"found_{match}"]
    return metrics.ratio(partnered, sums[f"truth_{count}"] + sums[f"found_{count}"])


def intervals(sums: pd.DataFrame, options: EvaluateOptions) -> dict[str, tuple[float, float]]:
    """The 95% interval of each measure but the counts, by a bootstrap over blocks of ground."""
    if not options.replicates:
        return {}
    # Neighbouring pixels are not independent, so blocks of ground are drawn instead of pixels.
    drawn = metrics.bootstrap(sums.to_numpy(), options.replicates, seed=options.seed)
    replicates = score(dict(zip(sums.columns, drawn.T, strict=True)), options)
    tail = (100 - LEVEL) / 2
    bounds = {}
    for name, values in replicates.items():
        if not name.startswith(("count_truth", "count_found")):
            defined = values[~np.isnan(values)]
            if len(defined):
                low, high = np.percentile(defined, [tail, 100 - tail])
                bounds[name] = (float(low), float(high))
    return bounds
