"""The model card: what a model file says of itself.

The card is JSON in the metadata of the model's safetensors file, under the key `geohr`. Reading
it needs no torch and reads nothing but the file's header.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from geohr.errors import InputError

METADATA_KEY = "geohr"
"""The key of the card in the metadata of a model file."""
CARD_BYTES_MAX = 1_000_000
"""A larger header is refused unread: real ones hold some ten thousand bytes."""


TILE_MAX = 4096
"""Side in pixels of the largest window that a card may ask for."""
BANDS_MAX = 1000
"""Most bands that a model may take."""
INSTANCE_AREA = 4.0
"""Square metres of the smallest middle of an object, where nothing else is said."""
ENCODER = re.compile(r"[\w.-]+")
"""The characters of an encoder's name; others could name a file or a URL."""


OUTPUTS = ("logits", "multilabel", "scores", "classes")
ARGUMENT_MAX = 4096
"""The largest number that a card may give to an architecture's constructor: a width, mostly."""

Argument = str | bool | int | float | None | tuple[int, ...]
"""What a card may give to an architecture's constructor."""


@dataclass(frozen=True)
class ClassLabel:
    """A class of a model: its name, and the colour in which it is drawn.

    Attributes:
        name: The name of the class, as in the outputs.
        colour: `#rrggbb`.
    """

    name: str
    colour: str

    def __post_init__(self) -> None:
        """Refuse an empty name or a colour that is none.

        Raises:
            ValueError: Naming what came.
        """
        if not isinstance(self.colour, str) or not isinstance(self.name, str):
            raise ValueError("a class has a name and a colour, both text")
        digits = self.colour.removeprefix("#")
        if not self.name or not self.name.isprintable():
            raise ValueError(f"a class needs a name of printable letters; got {short(self.name)}")
        if len(digits) != 6 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
            raise ValueError(f"a class colour is written #rrggbb; got {self.colour!r}")

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green and blue, from 0 to 255."""
        red, green, blue = bytes.fromhex(self.colour.removeprefix("#"))
        return red, green, blue


@dataclass(frozen=True)
class Source:
    """A source of training data.

    Attributes:
        name: The data set and its place.
        licence: Under which it is used.
        attribution: The words that the licence asks for.
    """

    name: str
    licence: str
    attribution: str


@dataclass(frozen=True)
class Card:
    """The card of a model: what it is, what it expects, and what it was made from.

    Attributes:
        name: The model's name.
        architecture: A name in `geohr.models.networks.ARCHITECTURES`.
        encoder: The encoder's registered name.
        classes: Foreground classes, in the order of their ids, from 1.
        background: Whether the network has a channel of its own for what is no class. One class
            has none (its logit is a sigmoid's); several are a softmax.
        align_corners: Of every bilinear step in the network.
        fusion: `bilinear` or `nearest`, how streams are brought to one size.
        stem_stride: Stride of the finest stream of an HRNet encoder.
        arguments: What else the architecture's constructor is told, by name.
        output: What the network gives: `logits` (one channel a sigmoid's, several a softmax's),
            `multilabel` (logits, each a sigmoid's), `scores` in [0, 1], or `classes`, ids of the
            likeliest class, 0 the background's where it has one.
        bands: Names of the bands, in the order expected.
        dtype: The data type of the training scenes.
        range: Scene values that span [0, 1].
        mean: By band, in [0, 1].
        std: By band, in [0, 1].
        gsd: Smallest and largest ground sampling distance trained on, in metres.
        gsd_best: Smallest and largest ground sampling distance at which it predicts best, in
            metres: measured, or those of the images it was trained on, where it saw them coarser
            by augmentation alone. Scenes beyond are brought to it. None for `gsd`.
        readings: Coarser resolutions in metres a pixel at which a scene is read as well, where
            they are coarser than the first reading and no finer than the scene.
        join: How the probabilities of these readings are joined; see `geohr.stitching.joins`.
        tile: Side in pixels of the window it predicts best.
        threshold: Probability from which a pixel belongs to a class; None for the likeliest.
        min_area: Smallest object worth keeping, in square metres.
        instances: Probability that the middles of touching objects reach, and what is between
            them does not; None for a model that does not tell them apart.
        instance_area: Smallest such middle, in square metres.
        walls: Metres that a wall drawn by `regularize` may leave the traced outline; None for what
            suits the pixels.
        outline: `pixel` or `contour`, how objects are traced where nothing else is said.
        regularize: Whether they are drawn with straight walls where nothing else is said.
        licence: The licence of the weights.
        version: The version of the model.
        sources: The sources of the training data.
        metrics: Scores by place and measure.
        notes: Notes on training, on how the weights were chosen, and on weaknesses.
    """

    name: str
    architecture: str
    encoder: str
    classes: tuple[ClassLabel, ...]
    background: bool = False
    align_corners: bool = False
    fusion: str = "bilinear"
    stem_stride: int = 4
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    output: str = "logits"
    bands: tuple[str, ...] = ("red", "green", "blue")
    dtype: str = "uint8"
    range: tuple[float, float] = (0.0, 255.0)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    gsd: tuple[float, float] = (0.05, 1.0)
    gsd_best: tuple[float, float] | None = None
    readings: tuple[float, ...] = ()
    join: Literal["mean", "larger"] = "mean"
    tile: int = 512
    threshold: float | None = 0.5
    min_area: float = 0.0
    instances: float | None = None
    instance_area: float = INSTANCE_AREA
    walls: float | None = None
    outline: Literal["pixel", "contour"] = "pixel"
    regularize: bool = False
    licence: str = ""
    version: str = "1"
    sources: tuple[Source, ...] = ()
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: str = ""

    def __post_init__(self) -> None:
        """Refuse a card that contradicts itself.

        Raises:
            ValueError: Naming the field.
        """
        for each, hint in get_type_hints(type(self)).items():
            if not fits(getattr(self, each), hint):
                raise ValueError(f"{each} cannot be {short(getattr(self, each))}")
        if not ENCODER.fullmatch(self.encoder):
            raise ValueError(f"encoder cannot be {short(self.encoder)}")
        if self.output not in OUTPUTS:
            raise ValueError(f"output must be one of {', '.join(OUTPUTS)}; got {self.output!r}")
        for name, value in self.arguments.items():
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(each, int) and abs(each) > ARGUMENT_MAX for each in numbers):
                raise ValueError(f"arguments: {name} cannot be {short(value)}")
        if not 1 <= len(self.bands) <= BANDS_MAX:
            raise ValueError(f"a model has 1 to {BANDS_MAX} bands; got {len(self.bands)}")
        if not self.classes or len(self.classes) > 254:
            raise ValueError(f"a model has 1 to 254 classes; got {len(self.classes)}")
        if len(self.mean) != len(self.bands) or len(self.std) != len(self.bands):
            raise ValueError("mean and std need one number for each band")
        if min(self.std) <= 0:
            raise ValueError("std must be above 0")
        if not self.range[0] < self.range[1]:
            raise ValueError(f"range must ascend; got {self.range}")
        if not 0 < self.gsd[0] <= self.gsd[1]:
            raise ValueError(f"gsd must be a range above 0 metres; got {self.gsd}")
        if self.gsd_best is not None and not 0 < self.gsd_best[0] <= self.gsd_best[1]:
            raise ValueError(f"gsd_best must be a range above 0 metres; got {self.gsd_best}")
        if not all(each > 0 for each in self.readings):
            raise ValueError(f"readings must be above 0 metres; got {self.readings}")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise ValueError(f"threshold must be in (0, 1]; got {self.threshold}")
        if not 32 <= self.tile <= TILE_MAX:
            raise ValueError(f"tile must be in [32, {TILE_MAX}] pixels; got {self.tile}")
        if self.min_area < 0:
            raise ValueError(f"min_area must be at least 0; got {self.min_area:g}")
        if self.instances is not None and not 0 < self.instances <= 1:
            raise ValueError(f"instances must be in (0, 1]; got {self.instances:g}")
        if self.instance_area < 0:
            raise ValueError(f"instance_area must be at least 0; got {self.instance_area:g}")
        if self.walls is not None and not self.walls > 0:
            raise ValueError(f"walls must be above 0 metres; got {self.walls:g}")
        if self.regularize and len(self.classes) > 1:
            raise ValueError("regularize is for models of one class, whose borders it may tear")

    @property
    def channels(self) -> int:
        """The number of channels of logits."""
        return len(self.classes) + self.background

    def describe(self) -> str:
        """The card for a person, a line an entry; those that say nothing are left out."""
        lines = []
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if value is None or value in ((), ""):
                continue
            if isinstance(value, Mapping):
                lines += [
                    f"{each.name} {place}: "
                    + ", ".join(f"{measure} {number:g}" for measure, number in scores.items())
                    for place, scores in value.items()
                ]
            elif each.name == "classes":
                lines.append("classes: " + ", ".join(f"{c.name} {c.colour}" for c in value))
            elif each.name == "sources":
                lines += [
                    "source: " + "; ".join(filter(None, (s.name, s.licence, s.attribution)))
                    for s in value
                ]
            elif isinstance(value, tuple):
                told = (f"{part:.4g}" if isinstance(part, float) else str(part) for part in value)
                lines.append(f"{each.name}: {', '.join(told)}")
            else:
                lines.append(f"{each.name}: {value}")
        return "\n".join(lines)

    def to_json(self) -> str:
        """The card as JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, *, path: str | Path) -> Card:
        """Read a card from JSON that `to_json` wrote; messages name it by `path`.

        Raises:
            InputError: When it is not such a card.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            known = {each.name for each in dataclasses.fields(cls)}
            if unknown := sorted(raw.keys() - known):
                raise ValueError(f"unknown entries {', '.join(unknown)}")
            raw["classes"] = tuple(ClassLabel(**each) for each in raw["classes"])
            raw["sources"] = tuple(Source(**each) for each in raw.get("sources", ()))
            raw["arguments"] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in raw.get("arguments", {}).items()
            }
            tuples = {name: tuple(value) for name, value in raw.items() if isinstance(value, list)}
            return cls(**{**raw, **tuples})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{path}: its model card cannot be used ({error}); "
                "write model files with geohr train or Model.save"
            ) from error


def start_card(path: Path | None, name: str) -> Card:
    """The card of a model to be trained: a JSON file's entries, or by default one class, building.

    `name` is the model's where the file has none.

    Raises:
        InputError: When the file cannot be read or is no such card.
    """
    given: Any = {}
    if path is not None:
        try:
            given = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not a JSON file that can be read ({error})") from error
    if not isinstance(given, dict):
        raise InputError(f"{path}: a card is a JSON object")
    default = {
        "name": name,
        "architecture": "hrnetv2",
        "encoder": "hrnetv2_w18_small_v2",
        "classes": [{"name": "building", "colour": "#e4572e"}],
    }
    return Card.from_json(json.dumps({**default, **given}), path=path or name)


def fits(value: object, hint: Any) -> bool:
    """Whether a value is of an annotated type; numbers must be finite.

    Args:
        value: From a card.
        hint: Text, a number, a class of this module, None, or a union, tuple or mapping of them.
    """
    parts = get_args(hint)
    if get_origin(hint) is Literal:
        return value in parts
    if get_origin(hint) is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        return len(value) == len(kinds) and all(map(fits, value, kinds))
    if get_origin(hint) is Mapping:
        return isinstance(value, Mapping) and all(
            fits(name, parts[0]) and fits(each, parts[1]) for name, each in value.items()
        )
    if parts:
        return any(fits(value, part) for part in parts)
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def short(value: object) -> str:
    """A value as it is written, cut to a line's length."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def read_card(path: str | Path) -> Card:
    """The card of a model file, without its weights.

    Raises:
        InputError: When the file is missing, no safetensors file, or carries no card.
    """
    header = read_header(path)
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or METADATA_KEY not in metadata:
        raise InputError(
            f"{path}: a safetensors file without a geohr model card; "
            "convert weights with geohr.Model(...).save(path)"
        )
    return Card.from_json(metadata[METADATA_KEY], path=path)


def read_header(path: str | Path) -> dict[str, Any]:
    """The JSON header of a safetensors file: 8 bytes of length, little endian, then JSON.

    Raises:
        InputError: When the file is missing or no safetensors file.
    """
    try:
        with Path(path).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= CARD_BYTES_MAX:
                raise ValueError(f"a header of {length} bytes")
            text = file.read(length)
            if len(text) < length:
                raise ValueError("the header is cut short")
            header = json.loads(text)
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: no such model file; geohr models lists the bundled ones"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: the model file cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: not a safetensors model file ({error}); geohr loads no pickle"
        ) from error
    if not isinstance(header, dict):
        raise InputError(f"{path}: not a safetensors model file; geohr loads no pickle")
    return header
