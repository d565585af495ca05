"""What was found against what is there: pixels, outlines, objects, with intervals."""

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
from geohr._runtime.progress import phase
from geohr.errors import UsageError
from geohr.evaluation import metrics
from geohr.evaluation.counts import PIXEL_COUNTS, Layers, WindowCounts, count_windows
from geohr.evaluation.layers import open_layers
from geohr.evaluation.options import EvaluateOptions

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""Of intersection over union, from SpaceNet's to the mean of COCO."""
LEVEL = 95.0
"""Per cent of replicates inside an interval."""

Sums = Mapping[str, Any]
Scores = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Evaluation:
    """Scores and their intervals.

    Attributes:
        scores: By measure; NaN for what is not defined, such as an error in a count of none.
        intervals: By measure, the bounds of the 95% interval; empty without a bootstrap.
    """

    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]

    def to_json(self) -> str:
        """Both as JSON."""
        content = {
            "scores": {name: known(value) for name, value in self.scores.items()},
            "intervals_95": {
                name: [known(bound) for bound in bounds] for name, bounds in self.intervals.items()
            },
        }
        return json.dumps(content, indent=2, allow_nan=False)

    def describe(self) -> str:
        """A line a measure."""
        width = max(len(name) for name in self.scores)
        lines = []
        for name, value in self.scores.items():
            text = f"{value:.4f}" if abs(value) < 10 else f"{value:,.0f}"
            if math.isnan(value):
                text = "not defined"
            if name in self.intervals:
                low, high = self.intervals[name]
                text += f"  [{low:.4f}, {high:.4f}]"
            lines.append(f"{name.replace('_', ' '):{width}}  {text}")
        return "\n".join(lines)


def evaluate(
    predicted: str | Path,
    truth: str | Path,
    *,
    options: EvaluateOptions | None = None,
    objects_out: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score what was found against what is there.

    Either may be polygons in any CRS or a raster of class ids; a raster's objects are groups of
    pixels joined by their sides, and where the truth is 255 nothing counts. Pixels are compared
    on the truth's grid where it is a raster, else on the area of interest's or the prediction's,
    else on a new one.

    Args:
        predicted: What was found.
        truth: What is there.
        options: What to score.
        objects_out: A GPKG for the objects: matched, false (as found) and missed (as they are).
        progress: Called with the windows done and the windows in all.

    Raises:
        InputError: When an input cannot be read or has no CRS.
        UsageError: When `objects_out` is no GPKG.
        OutputError: When it cannot be written.
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
    """The same without geometries, which go to the file `part` where there is one."""
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
    """All counts, one row a block; the names are those that `score` reads."""
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
    """Names and one number an object: count, area, matches by threshold and by size class."""
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
    """The value for JSON, which has no NaN: None for what is not defined."""
    return None if math.isnan(value) else value


def size_names(options: EvaluateOptions) -> list[str]:
    """A name for each size class."""
    limits = options.sizes
    if not limits:
        return ["all"]
    between = [f"{low:g}_to_{high:g}_m2" for low, high in pairwise(limits)]
    return [f"under_{limits[0]:g}_m2", *between, f"from_{limits[-1]:g}_m2"]


def score(sums: Sums, options: EvaluateOptions) -> Scores:
    """All measures from sums of counts, which may be arrays of replicates."""
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
    """Share of all objects, true and found, that have a partner: F1, and SpaceNet's score."""
    partnered = sums[f"truth_{match}"] + sums[f"found_{match}"]
    return metrics.ratio(partnered, sums[f"truth_{count}"] + sums[f"found_{count}"])


def intervals(sums: pd.DataFrame, options: EvaluateOptions) -> dict[str, tuple[float, float]]:
    """The 95% bootstrap interval of each measure that is no count, over blocks of ground."""
    if not options.replicates:
        return {}
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
