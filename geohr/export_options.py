"""What `export` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from geohr.options import SceneOptions, opt


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
