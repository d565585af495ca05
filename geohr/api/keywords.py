"""The options of segmentation as keywords of a call, for editors and type checkers.

`geohr.SegmentOptions` defines them, with defaults, bounds and help; a test holds both together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypedDict

Numbers = tuple[float, ...] | list[float] | None


class SegmentKeywords(TypedDict, total=False):
    """Fields of `geohr.SegmentOptions`, in the types in which a call may give them."""

    bands: tuple[int, ...] | list[int] | None
    nodata: float | None
    nodata_match: Literal["all", "any"]
    on_read_error: Literal["fail", "nodata"]
    scale: Numbers
    blend: Literal["hann", "gaussian", "linear", "flat"]
    bands_from: tuple[str, ...] | list[str] | None
    asset: str | None
    aoi: str | Path | None
    bbox: Numbers
    gsd: str | float
    scene_gsd: float | None
    zoom: int | None
    rate: float
    tile: int | None
    overlap: float
    backend: Literal["auto", "openvino", "onnx", "torch"]
    precision: Literal["float32", "bfloat16", "int8"]
    calibrate: str | Path | None
    device: str
    batch: int | None
    compile: bool
    tta: bool
    outline: Literal["pixel", "contour"] | None
    connectivity: Literal[4, 8]
    min_area: float | None
    simplify: float | None
    regularize: bool | None
    instances: float | None
    instance_area: float | None
    threshold: float | None
    readings: Numbers
    join: Literal["mean", "larger"] | None
    out_crs: Any
