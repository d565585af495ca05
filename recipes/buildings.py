"""The bundled building model: its training manifest, its choices on validation, its scores.

    python -m recipes.buildings manifest DATA data.json [--unlabelled SCENE]
    geohr train --data data.json --card recipes/buildings.json --out run.safetensors ...
    python -m recipes.buildings publish DATA run.safetensors buildings.safetensors

DATA is a folder with the data sets' `manifest.json`. Threshold, parting, smallest object and the
tolerance of regularized walls are chosen on Kampala a, as it is and resampled to what satellites
see, and on Lyon; Kampala b and the Geneva tiles are only reported.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.merge import merge

from geohr.api.memory import segment as find
from geohr.api.segment import segment_to_files
from geohr.evaluation.evaluate import evaluate
from geohr.evaluation.options import EvaluateOptions
from geohr.models.card import Card
from geohr.models.model import Model
from geohr.options import SegmentOptions
from geohr.scene import Scene
from geohr.training.samples import pair
from geohr.training.store import Store
from geohr.training.validate import LEVELS, count_pixels

CARD = Path(__file__).with_suffix(".json")
"""What the model is trained with; its notes and best resolution may be written after that."""
WEIGHTS = {
    "Christchurch NZ": 2.0,
    "Banepa NP": 2.0,
    "Zanzibar TZ": 2.0,
    "Accra GH": 2.0,
    "Geneva CH": 1.0,
    "Dubai AE": 0.8,
    "NEON HARV/OSBS/SJER US": 1.0,
}
"""How often windows are drawn from a place, against each other."""
UNLABELLED_WEIGHT = 2.0
"""The same for a scene without labels."""
VALIDATED = 0.125
"""Metres a pixel in the middle of what fine scenes are read at."""
VALIDATED_AT = (VALIDATED, 0.3)
"""Metres a pixel at which a training is validated: that, and what coarser scenes are read at."""
COARSER = (0.3, 0.5)
"""Metres to which Kampala is resampled: satellites see no finer."""
THRESHOLDS = (0.25, 0.35, 0.45, 0.55, 0.65, 0.75)
"""Probabilities tried where nothing is known of a model's."""
NEAR = (0.0, 0.1, 0.2)
"""Probabilities tried, above the one that suits the pixels of the validation places: objects ask
for more."""
SLACK = 0.05
"""Intersection over union that may be given up for whole objects: half an interval's width."""
F1_SLACK = 0.01
"""Object F1 that may be given up for pixels: a tenth of an interval's width."""
MIN_AREAS = (4.0, 8.0, 12.0, 16.0)
"""Smallest objects tried, in square metres."""
INSTANCES = (None, 0.8)
"""Probabilities tried at which touching houses are parted; None parts none."""
WALLS = (0.3, 0.5, 0.7)
"""Tolerances of regularized walls tried, in metres."""
WALLS_SLACK = 0.005
"""Intersection over union that may be given up for plainer walls."""
MEASURES = (
    "iou", "precision", "recall", "boundary_iou", "object_precision", "object_recall",
    "object_f1", "panoptic_quality",
)  # fmt: skip
OUTSIDE = 254
"""The label of ground that a joined scene holds no image of."""

Bytes = NDArray[np.uint8]


def write_manifest(data: Path, out: Path, *, unlabelled: Path | None = None) -> None:
    """The data's training places, weighted, and the places that choose, resampled as they are read.

    Args:
        data: The folder with the data sets.
        out: The manifest to write; the resampled places lie in a folder beside it.
        unlabelled: A scene without labels that a student sees, too.
    """
    data = data.resolve()
    entries: list[dict[str, object]] = [
        {
            "image": str(data / entry["image"]),
            "label": str(data / entry["label"]),
            "place": entry["place"],
            "split": "train",
            "gsd": entry["gsd"],
            "weight": WEIGHTS.get(entry["place"], 1.0),
        }
        for entry in json.loads((data / "manifest.json").read_text("utf-8"))
        if entry["split"] == "train"
    ]
    folder = out.with_suffix("")
    folder.mkdir(exist_ok=True)
    entries.extend(
        {
            "image": str(place.scene.resolve()),
            "label": str(place.labels.resolve()),
            "place": place.scene.stem,
            "split": "validation",
        }
        for gsd in VALIDATED_AT
        for place in (kampala(data, folder, "a", gsd), lyon(data, folder, gsd))
    )
    if unlabelled is not None:
        entries.append(
            {
                "image": str(unlabelled),
                "label": None,
                "place": unlabelled.stem,
                "split": "train",
                "weight": UNLABELLED_WEIGHT,
            }
        )
    out.write_text(json.dumps(entries, indent=1), "utf-8")


@dataclasses.dataclass(frozen=True)
class Place:
    """A scene with what it is scored against.

    Attributes:
        scene: The image, with alpha where there is none.
        labels: Its labels as a raster on its grid.
        truth: What objects are scored against: polygons where there are any, else the labels.
    """

    scene: Path
    labels: Path
    truth: Path

    @property
    def found(self) -> Path:
        """Where the objects found there are written."""
        return self.scene.with_suffix(".gpkg")


def write_place(
    folder: Path, name: str, image: Bytes, labels: Bytes, *, crs: Any, transform: Affine
) -> Place:
    """Write a scene and its labels; `OUTSIDE` becomes transparent and not annotated."""
    alpha = np.where(labels == OUTSIDE, 0, 255).astype(np.uint8)
    profile = {
        "driver": "GTiff",
        "height": labels.shape[0],
        "width": labels.shape[1],
        "dtype": "uint8",
        "crs": crs,
        "transform": transform,
        "compress": "deflate",
        "tiled": True,
    }
    place = Place(
        folder / f"{name}.tif", folder / f"{name}_labels.tif", folder / f"{name}_labels.tif"
    )
    with rasterio.open(
        place.scene, "w", count=4, photometric="RGB", alpha="YES", **profile
    ) as raster:
        raster.write(np.concatenate([image, alpha[None]]))
    with rasterio.open(place.labels, "w", count=1, **profile) as raster:
        raster.write(np.where(labels == OUTSIDE, np.uint8(255), labels), 1)
    return place


def kampala(data: Path, folder: Path, part: str, gsd: float | None = None) -> Place:
    """One half of Kampala, as it is or at a coarser ground sampling distance."""
    root = data / "fair_kampala"
    with (
        rasterio.open(root / "images" / f"kampala_{part}.tif") as image,
        rasterio.open(root / "labels" / f"kampala_{part}.tif") as labels,
    ):
        factor = 1.0 if gsd is None else 0.0746 / gsd
        size = (round(image.height * factor), round(image.width * factor))
        step = Affine.scale(image.width / size[1], image.height / size[0])
        place = write_place(
            folder,
            f"kampala_{part}" if gsd is None else f"kampala_{part}_{gsd * 100:.0f}",
            image.read(out_shape=(3, *size), resampling=Resampling.average),
            labels.read(1, out_shape=size, resampling=Resampling.mode),
            crs=image.crs,
            transform=image.transform @ step,
        )
    return dataclasses.replace(place, truth=root / "labels" / f"kampala_{part}.geojson")


def lyon(data: Path, folder: Path, gsd: float | None = None) -> Place:
    """The tiles of Lyon as one scene, as it is or at a coarser ground sampling distance."""
    images = sorted((data / "lyon_grandlyon" / "images").glob("*.tif"))
    labels = [data / "lyon_grandlyon" / "labels" / path.name for path in images]
    pixels, transform = merge(images, res=gsd, resampling=Resampling.average)
    classes, _ = merge(labels, res=gsd, resampling=Resampling.mode, nodata=OUTSIDE)
    with rasterio.open(images[0]) as first:
        crs = first.crs
    name = "lyon" if gsd is None else f"lyon_{gsd * 100:.0f}"
    return write_place(folder, name, pixels[:3], classes[0], crs=crs, transform=transform)


def as_read(data: Path, folder: Path) -> dict[str, Place]:
    """Both halves of Kampala and Lyon at the resolution that scenes are read at."""
    return {
        "Kampala a": kampala(data, folder, "a", VALIDATED),
        "Lyon": lyon(data, folder, VALIDATED),
        "Kampala b": kampala(data, folder, "b", VALIDATED),
    }


def geneva(data: Path, folder: Path) -> Place:
    """The validation tiles of Geneva, far enough apart not to see each other."""
    entries = [
        entry
        for entry in json.loads((data / "manifest.json").read_text("utf-8"))
        if entry["dataset"] == "geneva_roofs" and entry["split"] == "validation"
    ]
    # Where in Switzerland they lie does not matter, that a pixel is 0.25 m does.
    transform = Affine(0.25, 0, 2_500_000, 0, -0.25, 1_120_000)
    return scattered(
        data, folder, "geneva", entries, side=640, across=4, crs="EPSG:2056", transform=transform
    )


def scattered(
    data: Path,
    folder: Path,
    name: str,
    entries: Sequence[Mapping[str, str]],
    *,
    side: int,
    across: int,
    crs: str,
    transform: Affine,
) -> Place:
    """Images of one place in a square scene, far enough apart not to see each other.

    Args:
        data: The folder with the data sets.
        folder: The folder to write to.
        name: The name of the scene.
        entries: The images and labels, as the manifest of the data names them.
        side: Pixels from one image to the next.
        across: Images in a row, and rows.
        crs: The CRS of the scene.
        transform: From (col, row) to its coordinates.
    """
    image = np.zeros((3, side * across, side * across), np.uint8)
    labels = np.full((side * across, side * across), OUTSIDE, np.uint8)
    for index, entry in enumerate(entries):
        row, col = (side * part for part in divmod(index, across))
        with rasterio.open(data / entry["image"]) as raster:
            image[:, row : row + raster.height, col : col + raster.width] = raster.read()
        with rasterio.open(data / entry["label"]) as raster:
            labels[row : row + raster.height, col : col + raster.width] = raster.read(1)
    return write_place(folder, name, image, labels, crs=crs, transform=transform)


def choose(model: Model, places: list[Place]) -> Card:
    """The card with the threshold, the parting and the smallest object that serve objects best.

    What counts is the object F1 of all the places' objects together (Lyon has three), among the
    choices whose mean intersection over union is within `SLACK` of the best; of those within
    `F1_SLACK` of the best then, the one with the best intersection over union is taken.
    """
    tried: list[tuple[float, float, Card]] = []
    suits = model.card.threshold or 0.5
    thresholds = [round(min(max(suits + each, 0.1), 0.9), 2) for each in NEAR]
    for threshold, instances in itertools.product(thresholds, INSTANCES):
        if instances is not None and instances <= threshold:
            continue
        card = dataclasses.replace(model.card, threshold=threshold, instances=instances)
        for place in places:
            segment(Model(model.network, card), place, SegmentOptions(min_area=0, backend="torch"))
        for min_area in MIN_AREAS:
            told = [evaluate_from(place, min_area) for place in places]
            pixels = float(np.mean([each["iou"] for each in told]))
            objects = sum(each["count_truth"] + each["count_found"] for each in told)
            partners = sum(
                each["object_f1"] * (each["count_truth"] + each["count_found"]) for each in told
            )
            print(
                f"{threshold:g} parted at {instances} from {min_area:g} m2: "
                f"IoU {pixels:.4f} F1 {partners / objects:.4f}"
            )
            tried.append((pixels, partners / objects, dataclasses.replace(card, min_area=min_area)))
    least = max(pixels for pixels, _, _ in tried) - SLACK
    kept = [each for each in tried if each[0] >= least]
    highest = max(found for _, found, _ in kept)
    _, _, card = max(
        (each for each in kept if each[1] >= highest - F1_SLACK), key=lambda each: each[0]
    )
    print(f"threshold {card.threshold}, instances {card.instances}, min_area {card.min_area:g}")
    return card


def choose_walls(model: Model, places: list[Place]) -> float:
    """The largest tolerance whose mean intersection over union is within `WALLS_SLACK` of the best.

    The larger it is, the fewer vertices has a house.
    """
    found = {}
    for walls in WALLS:
        card = dataclasses.replace(model.card, walls=walls)
        options = SegmentOptions(regularize=True, backend="torch")
        told = [score(Model(model.network, card), place, options) for place in places]
        found[walls] = float(np.mean(told))
        print(f"walls {walls:g} m: IoU {found[walls]:.4f}")
    return max(walls for walls in found if found[walls] >= max(found.values()) - WALLS_SLACK)


def evaluate_from(place: Place, min_area: float) -> dict[str, float]:
    """Scores of what was last found at a place, objects under `min_area` left out."""
    found = pyogrio.read_dataframe(place.found, layer=place.found.stem)
    kept = place.found.with_name(f"{place.found.stem}_kept.gpkg")
    pyogrio.write_dataframe(found[found["area_m2"] >= min_area], kept)
    options = EvaluateOptions(aoi=str(place.labels), replicates=0)
    return evaluate(kept, place.truth, options=options).scores


def segment(model: Model, place: Place, options: SegmentOptions) -> None:
    """Find the objects of a place."""
    classes = place.scene.with_name(f"{place.scene.stem}_classes.tif")
    segment_to_files(
        place.scene, (place.found, classes), model=model, options=options, overwrite=True
    )


def forests(data: Path) -> dict[str, list[Path]]:
    """Images without a building, by forest."""
    images: dict[str, list[Path]] = {}
    for entry in json.loads((data / "manifest.json").read_text("utf-8")):
        if entry["dataset"] == "neon_negatives":
            site = Path(entry["image"]).stem.split("_")[0]
            images.setdefault(f"forest {site}", []).append(data / entry["image"])
    return images


def false_areas(images: Sequence[Path], model: Model) -> dict[str, float]:
    """The share of ground without a building that is called one: pixels, and area of objects."""
    labels = [path.parents[1] / "labels" / path.name for path in images]
    (counts,) = count_pixels(
        model.network,
        model.card,
        [dataclasses.replace(each, place="") for each in pair(images, labels, split="test")],
        store=Store(),
        device="cpu",
    ).values()
    level = round((model.card.threshold or 0.5) * LEVELS)
    found, ground = 0.0, 0.0
    for path in images:
        objects = find(path, model=model, options=SegmentOptions(backend="torch"))
        scene = Scene.open(path)
        found += float(objects["area_m2"].sum())
        ground += scene.height * scene.width * (scene.gsd or 0.0) ** 2
    return {
        "false_area": float(counts[0, level:].sum() / counts[0].sum()),
        "false_objects": found / ground,
    }


def scores(model: Model, place: Place, options: SegmentOptions) -> dict[str, float]:
    """What a model reaches at a place, read and computed as the options say."""
    segment(model, place, options)
    evaluated = EvaluateOptions(aoi=str(place.labels), replicates=0)
    return dict(evaluate(place.found, place.truth, options=evaluated).scores)


def score(model: Model, place: Place, options: SegmentOptions) -> float:
    """The intersection over union of the same."""
    return scores(model, place, options)["iou"]


def compare_forms(exact: Model, shipped: Model, places: Mapping[str, Place]) -> None:
    """Print what float16 weights and int8 arithmetic cost, in intersection over union."""
    torch, int8 = SegmentOptions(backend="torch"), SegmentOptions(precision="int8")
    for name, place in places.items():
        base = score(exact, place, torch)
        half, coarse = score(shipped, place, torch), score(shipped, place, int8)
        print(f"{name}: float32 {base:.4f}, float16 {half:.4f}, int8 {coarse:.4f}")


def read_trained(path: Path) -> Model:
    """A trained model with the notes and the best resolution of `CARD`."""
    trained = Model.load(path)
    written = json.loads(CARD.read_text("utf-8"))
    card = dataclasses.replace(
        trained.card, gsd_best=tuple(written["gsd_best"]), notes=written["notes"]
    )
    return Model(trained.network, card)


def publish(data: Path, trained: Path, out: Path, *, folder: Path) -> None:
    """Choose threshold, parting, smallest object and walls, score everywhere, write float16."""
    folder.mkdir(exist_ok=True)
    model = read_trained(trained)
    coarser = [kampala(data, folder, "a", gsd) for gsd in COARSER]
    places = [kampala(data, folder, "a"), *coarser, lyon(data, folder)]
    card = choose(model, places)
    card = dataclasses.replace(card, walls=choose_walls(Model(model.network, card), places))
    card = dataclasses.replace(card, outline="contour", regularize=True)
    report(data, Model(model.network, card), out, folder=folder)


def report(data: Path, model: Model, out: Path, *, folder: Path) -> None:
    """Score everywhere, and write the model as float16 with its scores in the card."""
    reported = {
        "Kampala a (chosen on)": kampala(data, folder, "a"),
        "Lyon (chosen on)": lyon(data, folder),
        "Kampala b": kampala(data, folder, "b"),
        **{f"Kampala b at {gsd} m": kampala(data, folder, "b", gsd) for gsd in COARSER},
        "Geneva (known place)": geneva(data, folder),
    }
    metrics: dict[str, dict[str, float]] = {}
    for name, place in reported.items():
        segment(model, place, SegmentOptions(backend="torch"))
        options = EvaluateOptions(aoi=str(place.labels), by_size=True)
        found = evaluate(place.found, place.truth, options=options)
        place.scene.with_suffix(".json").write_text(found.to_json(), "utf-8")
        metrics[name] = {each: round(found.scores[each], 4) for each in MEASURES}
        for each in ("iou", "object_f1"):
            low, high = found.intervals[each]
            metrics[name] |= {f"{each}_low": round(low, 4), f"{each}_high": round(high, 4)}
        print(name, metrics[name], flush=True)
    for name, images in forests(data).items():
        metrics[name] = {
            each: round(share, 5) for each, share in false_areas(images, model).items()
        }
        print(name, metrics[name], flush=True)
    card = dataclasses.replace(model.card, metrics=metrics)
    Model(model.network, card).save(out, half=True)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
    both = {name: reported[name] for name in ("Kampala a (chosen on)", "Kampala b")}
    compare_forms(model, Model.load(out), both)


def main() -> None:
    """Run the command that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["manifest", "publish"])
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--work", type=Path, default=Path("validation"))
    parser.add_argument("--unlabelled", type=Path, help="a scene that a student sees, too")
    arguments = parser.parse_args()
    if arguments.command == "manifest":
        data, out = arguments.paths
        write_manifest(data, out, unlabelled=arguments.unlabelled)
    else:
        data, trained, out = arguments.paths
        publish(data, trained, out, folder=arguments.work)


if __name__ == "__main__":
    main()
