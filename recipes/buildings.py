"""The bundled building model: its training manifest, its choices on validation, its scores.

    python -m recipes.buildings manifest DATA data.json [--unlabelled SCENE]
    geohr train --data data.json --card recipes/buildings.json --out run.safetensors ...
    python -m recipes.buildings publish DATA run.safetensors out.safetensors [--card FILE.json]

DATA is a folder with the data sets' `manifest.json`. `recipes.choices` tells what the card should
say of resolutions, threshold and smallest object; Kampala b is only reported.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.merge import merge

from geohr.api.memory import segment as find
from geohr.api.segment import segment_to_files
from geohr.evaluation.evaluate import evaluate
from geohr.evaluation.options import EvaluateOptions
from geohr.models.card import start_card
from geohr.models.model import Model
from geohr.options import SegmentOptions
from geohr.scene import Scene
from geohr.training.samples import pair
from geohr.training.store import Store
from geohr.training.validate import LEVELS, count_pixels

CARD = Path(__file__).with_suffix(".json")
"""What the model is trained with, and what was chosen after that by `recipes.choices`."""
CHOSEN = (
    "name", "notes", "sources", "version", "gsd", "gsd_best", "readings", "join",
    "threshold", "instances", "min_area", "walls", "outline", "regularize",
)  # fmt: skip
"""The entries of the card that a trained model takes from there."""
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
    folder.mkdir(parents=True, exist_ok=True)
    held = {str(data / each["image"]) for each in accra_images(data)}
    entries = [each for each in entries if each["image"] not in held]
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
    for gsd in VALIDATED_AT:
        entries.extend(alone(data, folder, "accra", accra_images(data)[::2], gsd=gsd))
        # Images of 0.25 m are read at 0.15 m at the finest.
        entries.extend(alone(data, folder, "geneva", geneva_tiles(data), gsd=max(gsd, 0.15)))
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


def geneva_tiles(data: Path) -> list[dict[str, str]]:
    """The validation tiles of Geneva, as the manifest of the data names them."""
    return [
        entry
        for entry in json.loads((data / "manifest.json").read_text("utf-8"))
        if entry["dataset"] == "geneva_roofs" and entry["split"] == "validation"
    ]


def accra_images(data: Path) -> list[dict[str, str]]:
    """Nine images of Accra that are not trained on, as the manifest of the data names them."""
    entries = json.loads((data / "manifest.json").read_text("utf-8"))
    return [entry for entry in entries if entry["dataset"] == "accra_opencities"][::13][:9]


def alone(
    data: Path, folder: Path, name: str, entries: Sequence[Mapping[str, Any]], *, gsd: float
) -> list[dict[str, object]]:
    """Validation entries of images at another ground sampling distance, each by itself."""
    made: list[dict[str, object]] = []
    for index, entry in enumerate(entries):
        with (
            rasterio.open(data / entry["image"]) as image,
            rasterio.open(data / entry["label"]) as labels,
        ):
            factor = entry["gsd"] / gsd
            size = (round(image.height * factor), round(image.width * factor))
            coarser = factor < 1
            place = write_place(
                folder,
                f"{name}_{gsd * 100:.0f}_{index}",
                image.read(
                    [1, 2, 3],
                    out_shape=(3, *size),
                    resampling=Resampling.average if coarser else Resampling.bilinear,
                ),
                labels.read(
                    1,
                    out_shape=size,
                    resampling=Resampling.mode if coarser else Resampling.nearest,
                ),
                crs=None,
                transform=Affine.scale(gsd, -gsd),
            )
        made.append(
            {
                "image": str(place.scene.resolve()),
                "label": str(place.labels.resolve()),
                "place": f"{name}_{gsd * 100:.0f}",
                "split": "validation",
                "gsd": gsd,
            }
        )
    return made


def geneva(data: Path, folder: Path) -> Place:
    """The validation tiles of Geneva, far enough apart not to see each other."""
    entries = geneva_tiles(data)
    # Where in Switzerland they lie does not matter, that a pixel is 0.25 m does.
    transform = Affine(0.25, 0, 2_500_000, 0, -0.25, 1_120_000)
    return scattered(
        data, folder, "geneva", entries, side=640, across=4, crs="EPSG:2056", transform=transform
    )


def accra(data: Path, folder: Path) -> Place:
    """Nine images of Accra, far enough apart not to see each other; a place that teaches."""
    entries = accra_images(data)
    # Where in Ghana they lie does not matter, that a pixel is 0.1036 m does.
    transform = Affine(0.1036, 0, 810_000, 0, -0.1036, 617_000)
    return scattered(
        data, folder, "accra", entries, side=1280, across=3, crs="EPSG:32630", transform=transform
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
        objects = find(path, model=model, progress=None)
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
    """Print what float16 weights, bfloat16 and int8 arithmetic cost, in intersection over union."""
    for name, place in places.items():
        found = {"float32": score(exact, place, SegmentOptions())}
        found["float16"] = score(shipped, place, SegmentOptions())
        found["bfloat16"] = score(shipped, place, SegmentOptions(precision="bfloat16"))
        found["int8"] = score(shipped, place, SegmentOptions(precision="int8"))
        print(name, *(f"{form} {iou:.4f}" for form, iou in found.items()), flush=True)


def read_trained(path: Path, card: Path = CARD) -> Model:
    """A trained model with what a recipe's card says of reading, of objects and in its notes."""
    trained = Model.load(path)
    written = start_card(card, trained.card.name)
    told = {name: getattr(written, name) for name in CHOSEN}
    return Model(trained.network, dataclasses.replace(trained.card, **told))


def publish(data: Path, trained: Path, out: Path, *, chosen: Path, folder: Path) -> None:
    """Score everywhere, and write the model as float16 with its scores in the card."""
    folder.mkdir(parents=True, exist_ok=True)
    model = read_trained(trained, chosen)
    reported = {
        "Kampala a (chosen on)": kampala(data, folder, "a"),
        "Lyon (chosen on)": lyon(data, folder),
        "Kampala b": kampala(data, folder, "b"),
        **{f"Kampala b at {gsd} m": kampala(data, folder, "b", gsd) for gsd in COARSER},
        "Geneva (known place)": geneva(data, folder),
        "Accra (known place)": accra(data, folder),
    }
    metrics: dict[str, dict[str, float]] = {}
    for name, place in reported.items():
        segment(model, place, SegmentOptions())
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
    parser.add_argument("--work", type=Path, default=Path("build/validation"))
    parser.add_argument("--card", type=Path, default=CARD, help="what was chosen for the model")
    parser.add_argument("--unlabelled", type=Path, help="a scene that a student sees, too")
    arguments = parser.parse_args()
    if arguments.command == "manifest":
        data, out = arguments.paths
        write_manifest(data, out, unlabelled=arguments.unlabelled)
    else:
        data, trained, out = arguments.paths
        publish(data, trained, out, chosen=arguments.card, folder=arguments.work)


if __name__ == "__main__":
    main()
