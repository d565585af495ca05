"""The options of every command, as frozen dataclasses.

A field holds its default, its bounds and its help text; none of them is written twice. The command
line makes its flags from the fields, a TOML file may set them, and Python code passes an instance.
Choices and bounds are checked when an instance is made, so that every caller gets the same message.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args, get_origin, get_type_hints

from geohr.errors import UsageError

T = TypeVar("T")

COARSEST_STRIDE = 32
"""Pixels of the input under one pixel of a network's coarsest stream, in all encoders."""
THRESHOLD_MIN = 0.004
"""The smallest threshold: probabilities are stored as whole 254ths, and 1/254 is 0.0039."""


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
        default: The value when none is given.
        text: The help text, one sentence.
        low: The smallest value allowed.
        high: The largest value allowed.
        metavar: The placeholder that the command line shows for the value.
    """
    described: T = field(
        default=default, metadata={"help": text, "low": low, "high": high, "metavar": metavar}
    )
    return described


@dataclass(frozen=True)
class Options:
    """The base class of all options: checks bounds and choices, and reads mappings."""

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
            for one in value if isinstance(value, tuple) else (value,):
                if isinstance(one, (int, float)) and not isinstance(one, bool):
                    check_bounds(each, one)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], *, source: str) -> Self:
        """Make options from names and values, such as those of a TOML file.

        Args:
            values: Field names, with dashes or underscores, to values.
            source: Where the values come from, for the message of an error.

        Raises:
            UsageError: For a name that is no option (the nearest one is named) or a bad value.
        """
        return cls(**cls.parse(values, source=source))

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, source: str) -> dict[str, Any]:
        """Check the names of a mapping; names get underscores, and lists become tuples."""
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
    """How a scene's pixels are read and interpreted."""

    bands: tuple[int, ...] | None = opt(
        None,
        "Bands to use, counted from 1, in the order that the model expects; by default the first.",
        metavar="1,2,3",
    )
    nodata: float | None = opt(None, "Nodata value, where the file does not declare one.")
    nodata_match: Literal["all", "any"] = opt(
        "all", "A pixel is nodata when all of its bands have the nodata value, or when any has."
    )
    on_read_error: Literal["fail", "nodata"] = opt(
        "fail", "Where blocks cannot be read, end the run (fail), or take them for nodata."
    )
    scale: tuple[float, ...] | None = opt(
        None,
        "Values of the scene that are mapped to the lower and upper end of the model's range.",
        metavar="MIN,MAX",
    )

    def __post_init__(self) -> None:
        """Refuse a scale that is no interval, and band numbers below 1.

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
    """Which part of a scene is read, and on which pixel grid."""

    bands_from: tuple[str, ...] | None = opt(
        None,
        "Rasters whose bands follow those of the scene, each brought to its pixel grid: single "
        "bands, a height model, a second date.",
        metavar="FILE,FILE",
    )
    asset: str | None = opt(
        None, "Asset of a STAC item to read; by default the first raster.", metavar="KEY"
    )
    aoi: str | None = opt(
        None,
        "Area of interest: polygons in any CRS; only what lies inside is processed.",
        metavar="FILE",
    )
    bbox: tuple[float, ...] | None = opt(
        None, "Area of interest as a box in degrees.", metavar="WEST,SOUTH,EAST,NORTH"
    )
    gsd: str = opt(
        "auto",
        "Ground sampling distance at which the scene is read, in metres per pixel: its own "
        "(native), a number, or one that suits the model (auto).",
        metavar="auto|native|METRES",
    )
    scene_gsd: float | None = opt(
        None,
        "Ground sampling distance of the scene in metres per pixel, where the file has none or a "
        "wrong one.",
        low=0.0001, high=100_000, metavar="METRES",
    )  # fmt: skip
    zoom: int | None = opt(
        None,
        "Zoom level of a service of tiles; by default the coarsest that suits the model.",
        low=0, high=30,
    )  # fmt: skip
    rate: float = opt(
        10.0, "Requests a second to a service of tiles.", low=0.01, high=1000, metavar="NUMBER"
    )

    def __post_init__(self) -> None:
        """Refuse a malformed resolution or box.

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
    """Whether a text is a finite number above 0."""
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
        0.25, "Overlap of neighbouring windows, as a share of the window side.", low=0, high=0.75
    )


@dataclass(frozen=True)
class PolygonOptions(Options):
    """How objects become polygons. Lengths in metres, areas in square metres, in any CRS."""

    outline: Literal["pixel", "contour"] | None = opt(
        None,
        "Trace along pixel edges (pixel), or along the threshold's contour between pixels; by "
        "default what the model card says, else pixel.",
    )
    connectivity: Literal[4, 8] = opt(
        4, "With 8, pixels that touch only at a corner belong to one object; with 4 they do not."
    )
    min_area: float | None = opt(
        None,
        "Smallest object kept, in square metres; by default the model card's, else all are kept.",
        low=0,
        metavar="M2",
    )
    simplify: float | None = opt(
        None,
        "Simplification tolerance in metres; with --regularize, how far a wall may lie from the "
        "traced outline, by default what the model card says.",
        low=0,
        metavar="M",
    )
    regularize: bool | None = opt(
        None,
        "Draw buildings with straight walls and right angles; by default what the model card says, "
        "else not.",
    )
    instances: float | None = opt(
        None,
        "Split touching objects: cores above this probability become separate objects; 1 never "
        "splits. By default the model card's.",
        low=0.004, high=1, metavar="P",
    )  # fmt: skip
    instance_area: float | None = opt(
        None,
        "Smallest core that becomes a separate object, in square metres; by default the model "
        "card's.",
        low=0,
        metavar="M2",
    )

    @property
    def tolerance(self) -> float:
        """How far an outline may move, in metres: `simplify`, or 0 where nothing was asked for."""
        return self.simplify or 0.0


def listed(values: tuple[Any, ...]) -> str:
    """Values joined by commas, as they are typed on the command line."""
    return ",".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


@dataclass(frozen=True)
class StitchOptions(SceneOptions):
    """How tile predictions are joined."""

    blend: Literal["hann", "gaussian", "linear", "flat"] = opt(
        "hann", "Weighting of overlapping windows."
    )


@dataclass(frozen=True)
class EngineOptions(Options):
    """Which engine predicts, on which device, in which number format."""

    backend: Literal["auto", "openvino", "onnx", "torch"] = opt(
        "auto", "Inference engine; auto takes the fastest one installed for the device."
    )
    precision: Literal["float32", "bfloat16", "int8"] = opt(
        "float32", "Number format of the engine; int8 is checked against float32 before it is used."
    )
    calibrate: str | None = opt(
        None, "Raster to calibrate int8 on; by default the scene itself.", metavar="SCENE"
    )
    device: str = opt("auto", "Device to predict on: auto, cpu, cuda, cuda:1, mps.")
    batch: int | None = opt(
        None, "Batch size in windows; by default the engine's.", low=1, high=256
    )
    compile: bool = opt(
        False, "Compile the network with torch.compile, which takes a minute (torch backend only)."
    )
    tta: bool = opt(
        False, "Test-time augmentation: average the predictions of the eight flips and rotations."
    )


@dataclass(frozen=True)
class SegmentOptions(PolygonOptions, EngineOptions, GridOptions, ViewOptions, StitchOptions):
    """The options of `segment`: everything but the scene, the model and the outputs."""

    threshold: float | None = opt(
        None,
        "Probability at which a pixel counts as a class; by default the model card's.",
        low=THRESHOLD_MIN, high=1,
    )  # fmt: skip
    readings: tuple[float, ...] | None = opt(
        None, "Coarser metres per pixel at which the scene is read too; by default the card's.",
        low=0.0001, high=100_000, metavar="M,M",
    )  # fmt: skip
    join: Literal["mean", "larger"] | None = opt(
        None, "How several readings are joined; by default as the card says.")  # fmt: skip
    out_crs: str | None = opt(
        None, "CRS of the polygons, such as EPSG:32636; by default the scene's.", metavar="CRS"
    )


@dataclass(frozen=True)
class ResumeOptions(Options):
    """Where finished blocks are kept, so that an interrupted run can be resumed."""

    work_dir: Path | None = opt(  # noqa: RUF009  a field like the others, of no simple type
        None, "Folder for finished blocks; by default beside the outputs.", metavar="FOLDER"
    )
    resume: bool = opt(True, "Keep finished blocks, and resume an interrupted run from them.")


@dataclass(frozen=True)
class ClusterOptions(Options):
    """Where blocks are predicted, and how large they are. The outputs do not depend on it."""

    dask: str | None = opt(
        None,
        "Predict on a Dask cluster: the scheduler's address, or local:N for N processes here.",
        metavar="ADDRESS|local:N",
    )
    block: str | None = opt(
        None, "Size of a block in windows, down and across, such as 4x4.", metavar="ROWSxCOLS"
    )

    def __post_init__(self) -> None:
        """Refuse a block that is none.

        Raises:
            UsageError: In one sentence.
        """
        super().__post_init__()
        if self.block is not None:
            parse_block(self.block)


def parse_block(text: str) -> tuple[int, int]:
    """Rows and columns of windows in a text such as 4x4.

    Raises:
        UsageError: When it says something else.
    """
    found = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text)
    if found is None:
        raise UsageError(f"a block is ROWSxCOLS windows, such as 4x4; got {text!r}")
    return int(found[1]), int(found[2])
