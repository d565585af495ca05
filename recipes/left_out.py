"""What a model is worth where it was not trained: trainings that leave a place out, scored there.

    python -m recipes.left_out manifest data.json "Accra GH" without.json
    geohr train --data without.json --card recipes/buildings_lite0.json --out accra.safetensors ...
    python -m recipes.left_out score DATA MODEL [--places Accra,...] [--card FILE.json] [--way WAY]

DATA is a folder with the data sets' `manifest.json`, data.json what `recipes.buildings manifest`
wrote, MODEL a bundled name or a model file. The first command takes a place out of a manifest, and
with it the validation samples: nothing is chosen during such a training. The last one segments
places with the settings of a card, and prints a row for each: intersection over union with its 95%
interval, that of the boundaries, F1 of objects with its interval, and the share of objects found by
size. A WAY is that of `recipes.choices`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import Resampling

from geohr.evaluation.evaluate import evaluate
from geohr.evaluation.options import EvaluateOptions
from geohr.models.model import Model, resolve_model
from geohr.options import SegmentOptions
from recipes.buildings import (
    Place,
    accra,
    geneva,
    kampala,
    lyon,
    read_trained,
    scattered,
    segment,
    write_place,
)
from recipes.choices import way_of

SIZES = (40.0, 150.0, 500.0)
"""Square metres at which buildings are told apart."""
COARSE = 0.3
"""Metres a pixel at which places are scored a second time."""
PATCHES = 11
"""Of Christchurch's many small images, one in so many is scored."""


def whole(data: Path, folder: Path, name: str, gsd: float | None) -> Place:
    """A scene of Banepa or Zanzibar, as it is or at a coarser ground sampling distance."""
    root = data / f"fair_{name.split('_')[0]}"
    with (
        rasterio.open(root / "images" / f"{name}.tif") as image,
        rasterio.open(root / "labels" / f"{name}.tif") as labels,
    ):
        own = next(
            entry["gsd"]
            for entry in json.loads((data / "manifest.json").read_text("utf-8"))
            if Path(entry["image"]).stem == name
        )
        factor = 1.0 if gsd is None else own / gsd
        size = (round(image.height * factor), round(image.width * factor))
        place = write_place(
            folder,
            name if gsd is None else f"{name}_{gsd * 100:.0f}",
            image.read(out_shape=(3, *size), resampling=Resampling.average),
            labels.read(1, out_shape=size, resampling=Resampling.mode),
            crs=image.crs,
            transform=image.transform @ Affine.scale(image.width / size[1], image.height / size[0]),
        )
    return dataclasses.replace(place, truth=root / "labels" / f"{name}.geojson")


def christchurch(data: Path, folder: Path) -> Place:
    """Patches of 17 m of Christchurch, far enough apart not to see each other."""
    entries = [
        entry
        for entry in json.loads((data / "manifest.json").read_text("utf-8"))
        if entry["dataset"] == "nz_christchurch"
    ][::PATCHES]
    # Where in New Zealand they lie does not matter, that a pixel is 0.075 m does.
    transform = Affine(0.075, 0, 1_570_000, 0, -0.075, 5_180_000)
    return scattered(
        data, folder, "christchurch", entries, side=400, across=10, crs="EPSG:2193",
        transform=transform,
    )  # fmt: skip


Made = Callable[[Path, Path], Place]

PLACES: dict[str, Made] = {
    "Accra": accra,
    "Banepa": lambda data, folder: whole(data, folder, "banepa_centre", None),
    "Banepa at 0.3 m": lambda data, folder: whole(data, folder, "banepa_centre", COARSE),
    "Zanzibar": lambda data, folder: whole(data, folder, "zanzibar_b", None),
    "Zanzibar at 0.3 m": lambda data, folder: whole(data, folder, "zanzibar_b", COARSE),
    "Christchurch": christchurch,
    "Kampala a": lambda data, folder: kampala(data, folder, "a"),
    "Kampala a at 0.3 m": lambda data, folder: kampala(data, folder, "a", COARSE),
    "Lyon": lambda data, folder: lyon(data, folder),
    "Lyon at 0.3 m": lambda data, folder: lyon(data, folder, COARSE),
    "Geneva": geneva,
    "Kampala b": lambda data, folder: kampala(data, folder, "b"),
    "Kampala b at 0.3 m": lambda data, folder: kampala(data, folder, "b", COARSE),
}
"""The scenes that are scored, by name."""


def write_without(manifest: Path, place: str, out: Path) -> None:
    """A training manifest without one of its places, and without validation.

    Args:
        manifest: The manifest of all places.
        place: The name of the place that is left out, as the manifest has it.
        out: The manifest to write.
    """
    entries = json.loads(manifest.read_text("utf-8"))
    trained = [entry for entry in entries if entry["split"] == "train"]
    if place not in {entry["place"] for entry in trained}:
        names = ", ".join(sorted({entry["place"] for entry in trained}))
        raise SystemExit(f"{manifest} has no training place {place!r}, only {names}")
    kept = [entry for entry in trained if entry["place"] != place]
    out.write_text(json.dumps(kept, indent=1), "utf-8")


def row(model: Model, place: Place) -> str:
    """The cells of a place: scores with intervals, and what was found by size."""
    segment(model, place, SegmentOptions())
    options = EvaluateOptions(aoi=str(place.labels), by_size=True, sizes=SIZES)
    told = evaluate(place.found, place.truth, options=options)
    cells = []
    for name in ("iou", "boundary_iou", "object_f1"):
        low, high = told.intervals[name]
        cells.append(f"{told.scores[name]:.3f} [{low:.3f}, {high:.3f}]")
    found = [value for name, value in told.scores.items() if name.startswith("object_recall_")]
    cells.append(", ".join("" if np.isnan(each) else f"{each:.2f}" for each in found))
    return " | ".join(cells)


def main() -> None:
    """Run the command that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    manifest = commands.add_parser("manifest")
    manifest.add_argument("data", type=Path)
    manifest.add_argument("place")
    manifest.add_argument("out", type=Path)
    score = commands.add_parser("score")
    score.add_argument("data", type=Path)
    score.add_argument("model")
    score.add_argument("--places", default=",".join(PLACES))
    score.add_argument("--card", type=Path, help="what was chosen for a model just trained")
    score.add_argument("--way", help="readings other than the card's")
    score.add_argument("--work", type=Path, default=Path("build/left_out"))
    arguments = parser.parse_args()
    if arguments.command == "manifest":
        write_without(arguments.data, arguments.place, arguments.out)
        return
    names = arguments.places.split(",")
    if not set(names) <= set(PLACES):
        parser.error(f"a place is one of {', '.join(PLACES)}; got {arguments.places}")
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.card is None:
        model = resolve_model(arguments.model)
    else:
        model = read_trained(Path(arguments.model), arguments.card)
    if arguments.way is not None:
        model = way_of(model, arguments.way)
    sizes = "under 40, 40 to 150, 150 to 500, from 500 m2"
    print(f"| place | IoU | boundary IoU | object F1 | found {sizes} |")
    print("|---|---|---|---|---|")
    for name in names:
        print(
            f"| {name} | {row(model, PLACES[name](arguments.data, arguments.work))} |", flush=True
        )


if __name__ == "__main__":
    main()
