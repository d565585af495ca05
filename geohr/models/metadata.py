"""What other conventions say of a model, read into entries of a card and written from one.

Deepness, GeoDeep and WebODM keep keys in an ONNX file's metadata, each a JSON value. The Machine
Learning Model extension (MLM) of STAC describes a model in an Item. Both are read for what they
say; a card's other entries stay as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geohr.errors import InputError
from geohr.models.card import Card, ClassLabel
from geohr.models.model import Model

BACKGROUND = ("background", "_background", "__background__")
"""Names of a first class that is none."""
PALETTE = (
    "#e4572e", "#4c78a8", "#54a24b", "#eeca3b", "#b279a2", "#9d755d", "#72b7b2", "#f58518",
    "#ff9da6", "#79706e", "#439894", "#83bcb6", "#d6a5c9", "#88d27a", "#d67195",
)  # fmt: skip
"""Colours of classes whose file has none."""
TILES_OVERLAP = 25
"""Per cent of a window that Deepness and GeoDeep are told to overlap: as much as geohr's. Of 512
pixels, the step is then a multiple of the coarsest stream's stride."""
DIGITS = 6


def labels_of(names: Sequence[str]) -> dict[str, Any]:
    """Classes and background of a card, from names in the order of the channels."""
    background = bool(names) and names[0].lower() in BACKGROUND
    foreground = names[1:] if background else names
    labels = tuple(
        ClassLabel(name, PALETTE[place % len(PALETTE)]) for place, name in enumerate(foreground)
    )
    return {"classes": labels, "background": background}


def read_deepness(metadata: Mapping[str, str], *, path: str | Path) -> dict[str, Any]:
    """Entries of a card from the metadata (keys to JSON) of an ONNX file made for Deepness.

    Raises:
        InputError: When a value cannot be read, or the model finds boxes and segments nothing.
    """
    try:
        said = {name: json.loads(text) for name, text in metadata.items() if name in DEEPNESS}
        if said.get("model_type", "Segmentor") != "Segmentor":
            raise InputError(f"{path}: a {said['model_type']}; geohr runs segmentation models")
        entries: dict[str, Any] = {}
        if names := said.get("class_names"):
            # Numbered from 0, which is the background's.
            entries |= labels_of([str(names[key]) for key in sorted(names, key=int)])
        if "resolution" in said:
            metres = round(float(said["resolution"]) / 100, DIGITS)
            entries["gsd"] = (metres, metres)
        for theirs, ours in (("standardization_mean", "mean"), ("standardization_std", "std")):
            if theirs in said:
                entries[ours] = tuple(map(float, said[theirs]))
        if "seg_thresh" in said and 0 < float(said["seg_thresh"]) <= 1:
            entries["threshold"] = float(said["seg_thresh"])
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: its metadata cannot be read ({error})") from error
    return entries


DEEPNESS = (
    "model_type", "class_names", "resolution", "standardization_mean", "standardization_std",
    "seg_thresh",
)  # fmt: skip
"""Keys of Deepness that a card has entries for."""


def to_deepness(card: Card, tile: int) -> dict[str, str]:
    """The metadata that Deepness, GeoDeep and WebODM read of a file that `export` writes for them.

    Normalisation and threshold are inside the file, so the keys name neither; `tile` is in pixels.
    """
    names = {"0": "_background"}
    names |= {str(place): label.name for place, label in enumerate(card.classes, start=1)}
    low, high = card.gsd_best or card.gsd
    # GeoDeep reads at a whole multiple of a scene's pixel, between half of this and this, so that
    # the middle of what it may read at is the middle of what suits the model.
    metres = min(high, (2 * low * high) ** 0.5)
    values = {
        "model_type": "Segmentor",
        "class_names": names,
        "resolution": round(100 * metres, 1),
        "tiles_size": tile,
        "tiles_overlap": TILES_OVERLAP,
        "seg_thresh": 0.0,
        # GeoDeep drops what has fewer than (2 n)**2 pixels; Deepness takes a median over n.
        "seg_small_segment": round(card.min_area**0.5 / metres / 2),
        "model_name": card.name,
        "license": card.licence,
        "attribution": "; ".join(each.attribution for each in card.sources),
    }
    return {name: json.dumps(value) for name, value in values.items()}


def read_item(path: Path) -> dict[str, Any]:
    """Entries of a card from a STAC Item of the MLM extension, or from a card as JSON.

    Raises:
        InputError: When it is neither.
    """
    try:
        item = json.loads(path.read_text("utf-8"))
        if "properties" not in item:
            return dict(item)
        said = item["properties"]
        entries: dict[str, Any] = {"name": said["mlm:name"]}
        given, made = said["mlm:input"][0], said["mlm:output"][0]
        bands = [each if isinstance(each, str) else each["name"] for each in given.get("bands", [])]
        if bands:
            entries["bands"] = tuple(bands)
        shape = given.get("input", {}).get("shape", [])
        if shape and shape[-1] > 0:
            entries["tile"] = int(shape[-1])
        entries |= scaling_of(given.get("value_scaling") or [])
        classes = made.get("classification:classes") or []
        if classes:
            ordered = sorted(classes, key=lambda each: int(each["value"]))
            entries |= labels_of([str(each.get("name") or each["value"]) for each in ordered])
        if "license" in said:
            entries["licence"] = str(said["license"])
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise InputError(
            f"{path}: neither a STAC Item with mlm: properties nor a card ({error!r})"
        ) from error
    return entries


def scaling_of(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Range, mean and standard deviation from MLM's `value_scaling`, an object a band."""
    kinds = {str(each.get("type")) for each in steps}
    if kinds == {"min-max"}:
        return {"range": (float(steps[0]["minimum"]), float(steps[0]["maximum"]))}
    if kinds == {"z-score"}:
        return {
            # The scene's own values, not values in [0, 1].
            "range": (0.0, 1.0),
            "mean": tuple(float(each["mean"]) for each in steps),
            "std": tuple(float(each["stddev"]) for each in steps),
        }
    return {}


def mlm_properties(card: Card, side: int) -> dict[str, Any]:
    """What the MLM extension says of a model that reads windows of `side` pixels, for an Item."""
    order = ["batch", "channel", "height", "width"]
    classes = [
        {"value": number, "name": label.name, "color_hint": label.colour.removeprefix("#").upper()}
        for number, label in enumerate(card.classes, start=1)
    ]
    return {
        # The extension allows letters, digits, and few other signs.
        "mlm:name": re.sub(r"[^\w.-]", "-", f"geohr {card.name}", flags=re.ASCII),
        "mlm:architecture": f"{card.architecture} {card.encoder}",
        "mlm:framework": "PyTorch",
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:input": [
            {
                "name": ", ".join(card.bands),
                "bands": [],
                "input": {
                    "shape": [-1, len(card.bands), side, side],
                    "dim_order": order,
                    "data_type": "float32",
                },
            }
        ],
        "mlm:output": [
            {
                "name": "scores",
                "tasks": ["semantic-segmentation"],
                "result": {
                    "shape": [-1, card.channels, side, side],
                    "dim_order": order,
                    "data_type": "float32",
                },
                "classification:classes": classes,
            }
        ],
    }


def mlm_item(model: Model, *, href: str) -> dict[str, Any]:
    """A STAC Item that describes a model whose file lies at `href` for those who read it."""
    card = model.card
    properties = mlm_properties(card, card.tile)
    bands = list(card.bands)
    low, high = card.range
    properties["mlm:input"][0] |= {
        "bands": bands,
        "pre_processing_function": {
            "format": "text",
            "expression": f"((x - {low:g}) / {high - low:g} - mean) / std; "
            f"mean {list(card.mean)}, std {list(card.std)}",
        },
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [
            "https://stac-extensions.github.io/mlm/v1.5.0/schema.json",
            "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
            "https://stac-extensions.github.io/file/v2.1.0/schema.json",
        ],
        "id": f"{properties['mlm:name']}-{card.version}",
        "geometry": None,
        "properties": {
            "datetime": None,
            "start_datetime": "1970-01-01T00:00:00Z",
            "end_datetime": "9999-12-31T23:59:59Z",
            "description": card.notes or card.name,
            "license": card.licence or "other",
            "gsd": (card.gsd_best or card.gsd)[0],
            **properties,
        },
        "links": [],
        "assets": {
            "model": {
                "href": href,
                "title": f"{card.name} {card.version}",
                "type": "application/octet-stream; application=safetensors",
                "roles": ["mlm:model", "mlm:weights"],
                "mlm:artifact_type": "safetensors.torch.save_file",
                # Of the input, which mlm:input refers to by name.
                "bands": [{"name": name} for name in bands],
                "file:checksum": f"1220{model.digest}",
            }
        },
    }
