"""How well changes are told whose truth is known: `python -m benchmarks.change DATA`.

`geohr change` is compared with the plain difference of both masks on the pairs of dates of
`benchmarks.change_pairs`, once on what the bundled model finds and once on good masks: the labels
themselves, drawn with careless outlines. Numbers of objects over 20 m2.

With `--perfect` the labels alone are moved and drawn carelessly, and nothing is changed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import geopandas
import numpy as np
import rasterio
import shapely
from rasterio.features import rasterize, shapes

from benchmarks.change_pairs import (
    CARELESS,
    LEAST_M2,
    Pair,
    careless,
    make_pair,
    metres_of,
    read_labels,
)
from geohr.options import SegmentOptions
from geohr.workflows.change.compare import Date, compare
from geohr.workflows.change.dates import change
from geohr.workflows.change.options import ChangeOptions

SCENES = (
    "fair_kampala/kampala_a", "fair_kampala/kampala_b", "fair_banepa/banepa_centre",
    "fair_banepa/banepa_se_b", "fair_zanzibar/zanzibar_a", "fair_zanzibar/zanzibar_b",
)  # fmt: skip
SHIFTS = (0.0, 1.0, 2.0, 3.0)
SIZES = (20, 50, 100, 400)
"""Square metres that part small, middling and large buildings."""
OPTIONS = ChangeOptions(shift=max(SHIFTS) + 1)
"""The largest shift is allowed with room for its estimate."""
TURNS = 2
"""Directions in which perfect masks are moved."""
ADDED = ("new", "grown")
REMOVED = ("gone", "shrunk")


def difference(old: Path, new: Path, image: Path) -> geopandas.GeoDataFrame:
    """What a plain difference of two masks reports."""
    with rasterio.open(image) as raster:
        shape, transform, crs = raster.shape, raster.transform, raster.crs
    drawn = [
        rasterize(
            [(each, 1) for each in geopandas.read_file(path, layer=0).to_crs(crs).geometry],
            out_shape=shape,
            transform=transform,
            dtype="uint8",
        )
        for path in (old, new)
    ]
    differs = drawn[0] != drawn[1]
    found = shapes(differs.astype(np.uint8), mask=differs, transform=transform)
    outlines = [shapely.geometry.shape(each) for each, _ in found]
    made = geopandas.GeoDataFrame(geometry=outlines, crs=crs)
    if len(made):
        made["m2"] = metres_of(made).area
        later = shapely.union_all(geopandas.read_file(new, layer=0).to_crs(crs).make_valid())
        there = shapely.intersects(later, shapely.point_on_surface(outlines))
        made["change"] = np.where(there, "new", "gone")
        made = made[made["m2"] >= LEAST_M2]
    return made


def changes_of(path: Path) -> geopandas.GeoDataFrame:
    """What `geohr change` reports with certainty."""
    found = geopandas.read_file(path, layer="changes")
    found = found[~found["change"].isin(["same", "unsure"])]
    found["m2"] = np.maximum(found["area_before_m2"], found["area_after_m2"])
    return found[found["m2"] >= LEAST_M2]


def score(reported: geopandas.GeoDataFrame, pair: Pair) -> Counter[tuple[str, str, str]]:
    """Counts by what was counted, kind and size.

    A report is true, and a change is told, where both share 30% of the smaller one, on either
    date, and the report's kind is on the right side: more is built, or less.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    truth = pair.changed
    here = reported.to_crs(truth.crs)
    added = np.isin(here.get("change", []), (*ADDED, "reshaped"))
    removed = np.isin(here.get("change", []), (*REMOVED, "reshaped"))
    true, told = np.zeros(len(here), bool), np.zeros(len(truth), bool)
    one = np.asarray(here.geometry, object)
    for shown in (truth.geometry.buffer(0), truth.geometry.translate(*pair.shift).buffer(0)):
        other = np.asarray(shown, object)
        first, second = shapely.STRtree(other).query(one, "intersects")
        shared = shapely.area(shapely.intersection(one[first], other[second]))
        least = np.minimum(shapely.area(one[first]), shapely.area(other[second]))
        right = np.where(truth["kind"].to_numpy()[second] == "new", added[first], removed[first])
        enough = (shared >= 0.3 * least) & right
        true[first[enough]] = True
        told[second[enough]] = True
    for kind, size, good in zip(here.get("change", []), here.get("m2", []), true, strict=True):
        side = "new" if kind in ADDED else "gone" if kind in REMOVED else "reshaped"
        counts["true" if good else "false", side, size_class(size)] += 1
    for kind, size, good in zip(truth["kind"], truth["m2"], told, strict=True):
        counts["told" if good else "missed", kind, size_class(size)] += 1
    return counts


def size_class(size: float) -> str:
    """The name of a class of size."""
    place = int(np.clip(np.digitize(size, SIZES), 1, len(SIZES) - 1))
    return f"{SIZES[place - 1]} to {SIZES[place]} m2"


def rates(counts: Counter[tuple[str, str, str]], *, kind: str = "", size: str = "") -> str:
    """Changes, reports, false ones, precision and recall, as cells of a table."""

    def of(what: str) -> int:
        return sum(
            number
            for (each, its_kind, its_size), number in counts.items()
            if each == what and kind in ("", its_kind) and size in ("", its_size)
        )

    true, false, told, missed = map(of, ("true", "false", "told", "missed"))
    precision = f"{true / (true + false):.2f}" if true + false else "-"
    recall = f"{told / (told + missed):.2f}" if told + missed else "-"
    return f"{told + missed} | {true + false} | {false} | {precision} | {recall} |"


def measure(
    arguments: argparse.Namespace,
) -> dict[tuple[str, str, float], Counter[tuple[str, str, str]]]:
    """Counts by masks, method and shift."""
    totals: dict[tuple[str, str, float], Counter[tuple[str, str, str]]] = {}
    for metres in arguments.shifts:
        for seed, (image, label) in enumerate(images(arguments.data, arguments.scenes)):
            with tempfile.TemporaryDirectory() as folder:
                pair = make_pair(image, label, Path(folder), metres, seed)
                if pair is None:
                    continue
                out = Path(folder) / "changes.gpkg"
                old, new = (Date(str(each)) for each in pair.labels)
                compare(old, new, out, options=OPTIONS)
                found = {("good masks", "geohr change"): changes_of(out)}
                found["good masks", "difference"] = difference(*pair.labels, image)
                if not arguments.good_masks_only:
                    options = SegmentOptions(regularize=True)
                    change(
                        pair.before, pair.after, out, options=OPTIONS, segment_options=options,
                        overwrite=True,
                    )  # fmt: skip
                    found["bundled model", "geohr change"] = changes_of(out)
                    made = [out.with_name(f"changes_{each}.gpkg") for each in ("before", "after")]
                    found["bundled model", "difference"] = difference(made[0], made[1], image)
                for (masks, method), reported in found.items():
                    key = (masks, method, metres)
                    totals[key] = totals.get(key, Counter()) + score(reported, pair)
                    print(*key, image.stem, rates(totals[key]), file=sys.stderr, flush=True)
    return totals


def images(data: Path, scenes: Sequence[str]) -> list[tuple[Path, Path]]:
    """The scenes and their labels."""
    made = []
    for name in scenes:
        dataset, stem = name.split("/")
        made.append(
            (
                data / dataset / "images" / f"{stem}.tif",
                data / dataset / "labels" / f"{stem}.geojson",
            )
        )
    return made


def print_tables(totals: dict[tuple[str, str, float], Counter[tuple[str, str, str]]]) -> None:
    """One table by shift, and one by kind and size over all shifts."""
    head = "changes | reports | false | precision | recall |"
    print(f"| masks | method | shift | {head}")
    print("|---|---|---|---|---|---|---|---|")
    for (masks, method, metres), counts in sorted(totals.items()):
        print(f"| {masks} | {method} | {metres:g} m | {rates(counts)}")
    print(f"\n| masks | method | kind | size | {head}")
    print("|---|---|---|---|---|---|---|---|---|")
    for masks, method in sorted({key[:2] for key in totals}):
        each = [counts for key, counts in totals.items() if key[:2] == (masks, method)]
        counts = sum(each, Counter())
        for kind in ("new", "gone"):
            for size in sorted({key[2] for key in counts}, key=lambda name: int(name.split()[0])):
                cells = rates(counts, kind=kind, size=size)
                print(f"| {masks} | {method} | {kind} | {size} | {cells}")


def print_perfect(data: Path, scenes: Sequence[str]) -> None:
    """Labels against themselves, moved and drawn carelessly: every change is false."""
    print("| shift | outlines off by | comparisons | objects | false changes | unsure |")
    print("|---|---|---|---|---|---|")
    for metres in (0.0, 0.5, 1.0):
        objects = false = unsure = runs = 0
        for seed, (image, label) in enumerate(images(data, scenes)):
            with rasterio.open(image) as raster:
                frame = metres_of(read_labels(label, raster.crs))[["geometry"]]
            for turn in range(TURNS if metres else 1):
                angle = 2 * np.pi * (turn + 0.3) / TURNS
                with tempfile.TemporaryDirectory() as folder:
                    old, new = Path(folder) / "old.gpkg", Path(folder) / "new.gpkg"
                    frame.to_file(old)
                    later = careless(frame, 1.0, np.random.default_rng(seed * TURNS + turn))
                    later.geometry = later.simplify(CARELESS / 2).translate(
                        metres * np.cos(angle), metres * np.sin(angle)
                    )
                    later.to_file(new)
                    counts = compare(Date(str(old)), Date(str(new)), Path(folder) / "c.gpkg")
                kinds = counts.objects
                objects += sum(kinds.values())
                unsure += kinds["unsure"]
                false += sum(kinds.values()) - kinds["same"] - kinds["unsure"]
                runs += 1
        print(f"| {metres:g} m | {CARELESS:g} m | {runs} | {objects:,} | {false} | {unsure} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--good-masks-only", action="store_true")
    parser.add_argument("--perfect", action="store_true")
    parser.add_argument("--shifts", type=float, nargs="+", default=SHIFTS, metavar="M")
    parser.add_argument("--scenes", nargs="+", default=SCENES, metavar="DATASET/NAME")
    arguments = parser.parse_args()
    if arguments.perfect:
        print_perfect(arguments.data, arguments.scenes)
    else:
        print_tables(measure(arguments))


if __name__ == "__main__":
    main()
