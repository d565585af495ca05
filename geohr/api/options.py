"""The options of the verbs that are a step of their own: tile, vectorize, export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from geohr.options import THRESHOLD_MIN, GridOptions, PolygonOptions, SceneOptions, ViewOptions, opt


@dataclass(frozen=True)
class TileOptions(GridOptions, ViewOptions):
    """How a scene is cut into chips."""

    gsd: str = opt(
        "native",
        "Ground sampling distance of the chips in metres per pixel: the scene's own (native), a "
        "number, or the scene's own with pixels that are square on the ground (auto).",
        metavar="auto|native|METRES",
    )


@dataclass(frozen=True)
class VectorizeOptions(PolygonOptions):
    """How a raster of classes or probabilities becomes polygons."""

    background: int = opt(0, "Class value of the background, which is not traced.", low=0, high=255)
    band: int = opt(1, "Band that holds the classes, counted from 1.", low=1)
    threshold: float | None = opt(
        None,
        "Probability from which a pixel belongs to a class, where the raster holds probabilities; "
        "by default that of the run that made them. For classes, that of the contour between "
        "object and background, by default 0.5.",
        low=THRESHOLD_MIN,
        high=1,
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
        "Raster to calibrate int8 on, and to compare both forms on.",
        metavar="SCENE",
    )
    tile: int | None = opt(
        None, "Window side in pixels; by default the model card's.", low=32, high=8192
    )
    batch: int = opt(1, "Batch size of the exported network, in windows.", low=1, high=256)
    opset: int | None = opt(
        None,
        "Version of ONNX's operators; by default torch's, or 17 for deepness.",
        low=13,
        high=23,
    )
    for_: Literal["deepness"] | None = opt(
        None,
        "Write an ONNX file for Deepness, GeoDeep and WebODM: values from 0 to 1 in, a background "
        "channel, their metadata, IR 9.",
    )
