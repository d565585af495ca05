"""What is trained and validated on: images with their labels, from a manifest or by name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from geohr._runtime.messages import amount
from geohr.encoding import IGNORE, Bytes
from geohr.errors import InputError, UsageError
from geohr.geobox import Window
from geohr.options import SceneOptions
from geohr.scene import Scene
from geohr.scene.labels import Legend, read_classes, read_vector
from geohr.scene.vectors import LABELLED

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Sample:
    """An image with its labels.

    Attributes:
        scene: The image.
        label: Raster on the image's grid or vectors in any CRS; None where nothing is annotated.
        place: The place of the image; windows are balanced between places.
        split: The use of the image: train, validation or test.
        gsd: Ground sampling distance in metres.
        weight: The frequency of its place relative to others; the mean over the place is used.
        aoi: Polygons; what lies outside is not annotated. None for the whole image.
        legend: The attribute and the names by which vector labels give classes.
    """

    scene: Scene
    label: str | None
    place: str
    split: Split
    gsd: float
    weight: float = 1.0
    aoi: str | None = None
    legend: Legend = field(default_factory=Legend)


def read_manifest(path: Path, *, options: SceneOptions | None = None) -> tuple[Sample, ...]:
    """The samples that a JSON manifest lists.

    A manifest is a list of objects with `image`, `label` (may be null), `place`, `split` (train,
    validation or test) and, where the image has no georeference, `gsd`; `weight` and `aoi` are
    optional.
    Paths are relative to the manifest; other keys are left alone.

    Raises:
        InputError: When it is missing or no such list.
    """
    try:
        entries = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise InputError(f"{path}: not a JSON manifest ({error})") from error
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: a manifest is a JSON list of samples, at least one")
    return tuple(
        read_entry(entry, f"{path}: entry {index}", path.parent, options)
        for index, entry in enumerate(entries)
    )


def read_entry(entry: Any, where: str, folder: Path, options: SceneOptions | None) -> Sample:
    """Read one entry of a manifest; `where` names it in messages.

    Raises:
        InputError: When a key is missing or has a value that cannot be.
    """
    if not isinstance(entry, dict):
        raise InputError(f"{where} is no object with image, label, place and split")
    missing = [key for key in ("image", "label", "place", "split") if key not in entry]
    if missing:
        raise InputError(f"{where} lacks {', '.join(missing)}")
    if entry["split"] not in get_args(Split):
        raise InputError(
            f"{where} has split {entry['split']!r}; allowed are {', '.join(get_args(Split))}"
        )
    if not isinstance(entry["place"], str):
        raise InputError(f"{where} has place {entry['place']!r}; it must be a text")
    weight = entry.get("weight", 1.0)
    if not isinstance(weight, (int, float)) or weight < 0:
        raise InputError(f"{where} has weight {weight!r}; it must be a number from 0")
    scene = Scene.open(locate(entry["image"], folder), options)
    label = entry["label"] and locate(entry["label"], folder)
    gsd = known_gsd(scene, entry.get("gsd"))
    aoi = entry.get("aoi") and locate(entry["aoi"], folder)
    return Sample(scene, label, entry["place"], entry["split"], gsd, float(weight), aoi)


def locate(name: str, folder: Path) -> str:
    """A path of the manifest; names that only GDAL understands stay as they are."""
    return name if "://" in name or name.startswith("/vsi") else str(folder / name)


def pair(
    scenes: Sequence[str | Path],
    labels: Sequence[str | Path],
    *,
    split: Split,
    gsd: float | None = None,
    options: SceneOptions | None = None,
) -> tuple[Sample, ...]:
    """Samples from scenes and as many labels, in the same order; each scene is a place.

    Args:
        scenes: Images.
        labels: Rasters or vectors.
        split: The use of the scenes: train, validation or test.
        gsd: Ground sampling distance in metres of images without a georeference.
        options: Bands and nodata of the images.

    Raises:
        UsageError: When the numbers differ.
        InputError: When an image cannot be used.
    """
    if len(scenes) != len(labels):
        raise UsageError(
            f"every scene needs its labels; got "
            f"{amount(len(scenes), 'scene')} and {amount(len(labels), 'file')} of labels"
        )
    opened = [Scene.open(path, options) for path in scenes]
    return tuple(
        Sample(scene, str(label), Path(scene.path).stem, split, known_gsd(scene, gsd))
        for scene, label in zip(opened, labels, strict=True)
    )


def known_gsd(scene: Scene, stated: float | None) -> float:
    """The ground sampling distance in metres: the stated one, else the scene's own.

    Raises:
        InputError: When neither is known, or the stated one is none.
    """
    gsd = scene.gsd if stated is None else stated
    if gsd is None:
        raise InputError(
            f"{scene.path}: has no georeference; give its ground sampling distance in metres "
            "with --gsd or as gsd in the manifest"
        )
    if not isinstance(gsd, (int, float)) or not gsd > 0:
        raise InputError(f"{scene.path}: gsd must be metres above 0; got {gsd!r}")
    return float(gsd)


def read_labels(sample: Sample, window: Window) -> Bytes:
    """Class ids `(row, col)` of a window that lies inside the sample's scene.

    Raises:
        InputError: When the labels cannot be read or do not lie on the scene's grid.
    """
    if sample.label is None:
        return np.full((window.height, window.width), IGNORE, np.uint8)
    classes = read_classes(sample.label, sample.scene, window, legend=sample.legend)
    if sample.aoi is not None:
        inside = read_vector(sample.aoi, sample.scene, window, prefer=LABELLED)
        classes[inside == 0] = IGNORE
    return classes
