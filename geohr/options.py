"""One frozen dataclass for each verb: a field is its default, its bounds and its help, once.

The command line makes its flags from the fields, a TOML file may set them, Python passes an
instance. `choices`, `low` and `high` are checked when an instance is made, so that every way in
is refused in the same words.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args, get_origin, get_type_hints

from geohr.errors import UsageError

T = TypeVar("T")

THRESHOLD_MIN = 0.004
"""The smallest threshold: the first step of probability above 0 that is told apart."""


def opt(
    default: T,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    metavar: str | None = None,
) -> T:
    """A dataclass field with its help and its closed bounds.

    Args:
        default: What holds where nothing is said.
        text: The help, one sentence.
        low: The smallest value allowed.
        high: The largest value allowed.
        metavar: What the command line shows for the value.
    """
    described: T = field(
        default=default, metadata={"help": text, "low": low, "high": high, "metavar": metavar}
    )
    return described


@dataclass(frozen=True)
class Options:
    """The base of all options: checks bounds and choices, and reads mappings."""

    def __post_init__(self) -> None:
        """Refuse a value outside its field's bounds or choices.

        Raises:
            UsageError: Naming the field, what came and what is allowed.
        """
        hints = get_type_hints(type(self))
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            allowed = choices(hints[each.name])
            if allowed and value not in allowed:
                listed = ", ".join(str(choice) for choice in allowed)
                raise UsageError(f"{each.name} must be one of {listed}; got {value!r}")
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                check_bounds(each, value)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], *, source: str) -> Self:
        """Options from names and values, such as a TOML file's.

        Args:
            values: Field names, with dashes or underscores, to values.
            source: Where they come from, for the message.

        Raises:
            UsageError: For a name that is no option (the nearest one is named) or a bad value.
        """
        return cls(**cls.parse(values, source=source))

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, source: str) -> dict[str, Any]:
        """The same names with underscores, and lists as tuples; see `from_mapping`."""
        known = {each.name: each for each in dataclasses.fields(cls)}
        parsed = {}
        for name, value in values.items():
            plain = name.replace("-", "_")
            if plain not in known:
                near = get_close_matches(plain, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
                raise UsageError(f"{source}: unknown option {name!r}; {hint}")
            parsed[plain] = tuple(value) if isinstance(value, list) else value
        return parsed


def choices(hint: Any) -> tuple[Any, ...]:
    """The allowed values of a `Literal` annotation (also inside `| None`); else none."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(
        value
        for part in get_args(hint)
        if get_origin(part) is Literal
        for value in (*get_args(part), None)
    )


def check_bounds(described: dataclasses.Field[Any], value: float) -> None:
    """Refuse `value` outside the field's closed bounds."""
    low, high = described.metadata.get("low"), described.metadata.get("high")
    below = low is not None and not value >= low
    above = high is not None and not value <= high
    if below or above:
        span = f"at least {low:g}" if high is None else f"in [{low:g}, {high:g}]"
        raise UsageError(f"{described.name} must be {span}; got {value:g}")


@dataclass(frozen=True)
class SceneOptions(Options):
    """How a scene's pixels are to be understood."""

    bands: tuple[int, ...] | None = opt(
        None,
        "Bands to use, from 1, in the order the model expects; by default the first ones.",
        metavar="1,2,3",
    )
    nodata: float | None = opt(
        None, "Value that means no data, where the file does not declare one."
    )
    nodata_match: Literal["all", "any"] = opt(
        "all", "Whether all bands or any band must equal the nodata value."
    )
    on_read_error: Literal["fail", "nodata"] = opt(
        "fail", "Whether blocks that cannot be read end the run, or count as no data."
    )
    scale: tuple[float, ...] | None = opt(
        None,
        "Scene values mapped to the bottom and top of the model's range, one scale for the scene.",
        metavar="MIN,MAX",
    )

    def __post_init__(self) -> None:
        """Refuse a scale that is no interval and bands that cannot be.

        Raises:
            UsageError: In one sentence.
        """
        super().__post_init__()
        if self.scale is not None and (len(self.scale) != 2 or not self.scale[0] < self.scale[1]):
            raise UsageError(
                f"scale must be two numbers MIN,MAX with MIN < MAX; got {listed(self.scale)}"
            )
        if self.bands is not None and (not self.bands or min(self.bands) < 1):
            raise UsageError(
                f"bands must be band numbers from 1, such as 3,2,1; got {listed(self.bands)}"
            )


@dataclass(frozen=True)
class ViewOptions(SceneOptions):
    """Which part of a scene is looked at, and on which pixel grid."""

    asset: str | None = opt(
        None, "Which asset of a STAC item is the scene; by default the first raster.", metavar="KEY"
    )
    aoi: str | None = opt(
        None, "Vector file of polygons, in any CRS: only what lies in them.", metavar="FILE"
    )
    bbox: tuple[float, ...] | None = opt(
        None, "Only what lies in this box, in degrees.", metavar="WEST,SOUTH,EAST,NORTH"
    )
    gsd: str = opt(
        "auto",
        "Metres a pixel at which the scene is read: its own (native), a number, or what suits the "
        "model (auto).",
        metavar="auto|native|METRES",
    )
    scene_gsd: float | None = opt(
        None,
        "Metres a pixel of the scene, where the file is wrong or does not say.",
        low=0.0001,
        high=100_000,
        metavar="METRES",
    )

    def __post_init__(self) -> None:
        """Refuse a resolution that is none and a box that is none.

        Raises:
            UsageError: In one sentence.
        """
        super().__post_init__()
        if self.gsd not in ("auto", "native") and not is_length(self.gsd):
            raise UsageError(
                f"gsd must be auto, native or metres a pixel such as 0.3; got {self.gsd!r}"
            )
        if self.bbox is None:
            return
        if len(self.bbox) != 4:
            raise UsageError(
                f"bbox must be four numbers WEST,SOUTH,EAST,NORTH; got {listed(self.bbox)}"
            )
        west, south, east, north = self.bbox
        if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
            raise UsageError(
                "bbox must be degrees WEST,SOUTH,EAST,NORTH with WEST < EAST and SOUTH < NORTH; "
                f"got {listed(self.bbox)}"
            )


def is_length(text: object) -> bool:
    """Whether a text is a number of metres above 0."""
    try:
        return 0 < float(str(text)) < float("inf")
    except ValueError:
        return False


@dataclass(frozen=True)
class GridOptions(Options):
    """How a scene is cut into overlapping windows."""

    tile: int | None = opt(
        None, "Window side in pixels; by default the model card's.", low=32, high=8192
    )
    overlap: float = opt(
        0.25, "Share of the window side that neighbouring windows have in common.", low=0, high=0.75
    )


@dataclass(frozen=True)
class TileOptions(GridOptions, ViewOptions):
    """How a scene is cut into chips."""

    gsd: str = opt(
        "native",
        "Metres a pixel of the chips: the scene's own (native), a number, or its own on square "
        "ground pixels (auto).",
        metavar="auto|native|METRES",
    )


@dataclass(frozen=True)
class PolygonOptions(Options):
    """How objects become polygons. Lengths in metres, areas in square metres, in any CRS."""

    outline: Literal["pixel", "contour"] = opt(
        "pixel", "Follow pixel edges, or the threshold's contour between pixels."
    )
    connectivity: Literal[4, 8] = opt(4, "Whether pixels that touch at a corner are one object.")
    min_area: float | None = opt(
        None,
        "Smallest object kept, in square metres; by default the model card's, else all.",
        low=0,
        metavar="M2",
    )
    simplify: float = opt(
        0.0,
        "Largest distance in metres that an outline may move when simplified, or a wall when "
        "regularized; by default walls move by what the model card says.",
        low=0,
        metavar="M",
    )
    regularize: bool = opt(False, "Draw buildings with straight walls and right angles.")
    instances: float | None = opt(
        None,
        "Part touching objects whose middles reach this probability; by default the model card's, "
        "and 1 parts none.",
        low=0.004,
        high=1,
        metavar="P",
    )
    instance_area: float | None = opt(
        None,
        "Smallest middle that makes an object of its own, in square metres; by default the model "
        "card's.",
        low=0,
        metavar="M2",
    )


@dataclass(frozen=True)
class VectorizeOptions(PolygonOptions):
    """How a class raster becomes polygons."""

    background: int = opt(0, "The class value that is not traced.", low=0, high=255)
    band: int = opt(1, "The raster's band that holds the classes, from 1.", low=1)
    threshold: float = opt(
        0.5, "Probability at which contours meet the background.", low=THRESHOLD_MIN, high=1
    )


def listed(values: tuple[Any, ...]) -> str:
    """Values joined by commas, as they are typed on the command line."""
    return ",".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


@dataclass(frozen=True)
class StitchOptions(SceneOptions):
    """How tile predictions are joined."""

    blend: Literal["hann", "gaussian", "linear", "flat"] = opt(
        "hann", "How overlapping windows are weighted."
    )


@dataclass(frozen=True)
class EngineOptions(Options):
    """What computes."""

    backend: Literal["auto", "openvino", "onnx", "torch"] = opt(
        "auto", "Engine; auto is the fastest that is installed for the device."
    )
    precision: Literal["float32", "bfloat16", "int8"] = opt(
        "float32", "Number format of the engine; int8 is checked against float32 first."
    )
    calibrate: str | None = opt(
        None, "Raster that int8 is fitted to; by default the scene itself.", metavar="SCENE"
    )
    device: str = opt("auto", "Device to predict on: auto, cpu, cuda, cuda:1, mps.")
    batch: int | None = opt(
        None, "Windows predicted at once; by default the engine's.", low=1, high=256
    )
    compile: bool = opt(
        False, "Compile the network with torch.compile, which takes a minute; for backend torch."
    )
    tta: bool = opt(False, "Average the prediction over the eight flips and rotations.")


@dataclass(frozen=True)
class SegmentOptions(PolygonOptions, EngineOptions, GridOptions, ViewOptions, StitchOptions):
    """Everything that `segment` can be told besides the scene, the model and the outputs."""

    threshold: float | None = opt(
        None,
        "Probability from which a pixel belongs to a class; by default the model card's.",
        low=THRESHOLD_MIN,
        high=1,
    )
    out_crs: str | None = opt(
        None, "CRS of the polygons, such as EPSG:32636; by default the scene's.", metavar="CRS"
    )


@dataclass(frozen=True)
class ResumeOptions(Options):
    """What is kept of a run that is cut short."""

    work_dir: Path | None = opt(  # noqa: RUF009  a field like the others, of no simple type
        None, "Folder for finished blocks; by default beside the outputs.", metavar="FOLDER"
    )
    resume: bool = opt(True, "Keep finished blocks, and go on from those of a run cut short.")


@dataclass(frozen=True)
class ClusterOptions(Options):
    """Where blocks are predicted, and how large they are. The outputs do not depend on it."""

    dask: str | None = opt(
        None,
        "Predict on a Dask cluster: its scheduler's address, or local:N for N processes here.",
        metavar="ADDRESS|local:N",
    )
    block: str | None = opt(
        None, "Windows of a block, down and across, such as 4x4.", metavar="ROWSxCOLS"
    )


@dataclass(frozen=True)
class ExportOptions(SceneOptions):
    """A model's file format, number format and window."""

    format: Literal["onnx", "openvino", "torchscript"] = opt("onnx", "Format of the file.")
    precision: Literal["float32", "int8"] = opt(
        "float32", "Number format of the convolutions; int8 is checked against float32."
    )
    calibrate: str | None = opt(
        None,
        "Raster that int8 is fitted to and that both forms are compared on.",
        metavar="SCENE",
    )
    tile: int | None = opt(
        None, "Window side in pixels; by default the model card's.", low=32, high=8192
    )
    batch: int = opt(1, "Windows that the file takes at once.", low=1, high=256)
