"""Large satellite and aerial scenes into georeferenced objects.

Importing this package imports neither torch nor click: names are loaded when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from geohr.errors import (
    BatchError,
    EngineError,
    GeohrError,
    InputError,
    InterruptedRunError,
    LockedError,
    OutputError,
    UsageError,
)
from geohr.version import __version__

if TYPE_CHECKING:
    from geohr.card import Card, ClassLabel, Source
    from geohr.grid import Grid, Window
    from geohr.model import Model
    from geohr.options import GridOptions, PolygonOptions, SceneOptions, SegmentOptions
    from geohr.plotting import plot
    from geohr.prediction import Prediction
    from geohr.scene import Scene, Tile
    from geohr.segmenting import Summary, predict, segment, segment_to_files
    from geohr.stitching import stitch
    from geohr.tiling import tile

_LAZY = {
    "Card": "geohr.card",
    "ClassLabel": "geohr.card",
    "Grid": "geohr.grid",
    "GridOptions": "geohr.options",
    "Model": "geohr.model",
    "PolygonOptions": "geohr.options",
    "Scene": "geohr.scene",
    "SceneOptions": "geohr.options",
    "SegmentOptions": "geohr.options",
    "Source": "geohr.card",
    "Prediction": "geohr.prediction",
    "Summary": "geohr.segmenting",
    "plot": "geohr.plotting",
    "predict": "geohr.segmenting",
    "segment": "geohr.segmenting",
    "segment_to_files": "geohr.segmenting",
    "stitch": "geohr.stitching",
    "tile": "geohr.tiling",
    "Tile": "geohr.scene",
    "Window": "geohr.grid",
}

__all__ = [
    "BatchError",
    "Card",
    "ClassLabel",
    "EngineError",
    "GeohrError",
    "Grid",
    "GridOptions",
    "InputError",
    "InterruptedRunError",
    "LockedError",
    "Model",
    "OutputError",
    "PolygonOptions",
    "Prediction",
    "Scene",
    "SceneOptions",
    "SegmentOptions",
    "Source",
    "Summary",
    "Tile",
    "UsageError",
    "Window",
    "__version__",
    "plot",
    "predict",
    "segment",
    "segment_to_files",
    "stitch",
    "tile",
]


def __getattr__(name: str) -> Any:
    """Load a public name where it is first used."""
    if name not in _LAZY:
        raise AttributeError(f"module 'geohr' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
