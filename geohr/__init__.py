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

__version__ = "0.1.0"

if TYPE_CHECKING:
    from geohr.api.prediction import Prediction
    from geohr.api.segment import Summary, predict, segment, segment_to_files
    from geohr.api.stitch import stitch
    from geohr.api.tile import tile
    from geohr.geobox import Window
    from geohr.models.card import Card, ClassLabel, Source
    from geohr.models.model import Model
    from geohr.options import GridOptions, PolygonOptions, SceneOptions, SegmentOptions
    from geohr.scene import Scene, Tile
    from geohr.tiling.grid import Grid
    from geohr.viewer import view
    from geohr.viewer.plot import plot

_LAZY = {
    "Card": "geohr.models.card",
    "ClassLabel": "geohr.models.card",
    "Grid": "geohr.tiling.grid",
    "GridOptions": "geohr.options",
    "Model": "geohr.models.model",
    "PolygonOptions": "geohr.options",
    "Scene": "geohr.scene",
    "SceneOptions": "geohr.options",
    "SegmentOptions": "geohr.options",
    "Source": "geohr.models.card",
    "Prediction": "geohr.api.prediction",
    "Summary": "geohr.api.segment",
    "plot": "geohr.viewer.plot",
    "predict": "geohr.api.segment",
    "segment": "geohr.api.segment",
    "segment_to_files": "geohr.api.segment",
    "stitch": "geohr.api.stitch",
    "tile": "geohr.api.tile",
    "view": "geohr.viewer",
    "Tile": "geohr.scene",
    "Window": "geohr.tiling.grid",
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
    "view",
]


def __getattr__(name: str) -> Any:
    """Load a public name where it is first used."""
    if name not in _LAZY:
        raise AttributeError(f"module 'geohr' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
