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
    from geohr.api.export import export
    from geohr.api.memory import predict, segment
    from geohr.api.options import ExportOptions, TileOptions, VectorizeOptions
    from geohr.api.plan import Plan, plan
    from geohr.api.prediction import Prediction
    from geohr.api.segment import Summary, segment_to_files
    from geohr.api.stitch import stitch
    from geohr.api.tile import tile
    from geohr.api.vectorize import vectorize
    from geohr.evaluation.evaluate import Evaluation, evaluate
    from geohr.evaluation.options import EvaluateOptions
    from geohr.geobox import Window
    from geohr.inference.cleanup import clean_folder
    from geohr.models.card import Card, ClassLabel, Source
    from geohr.models.model import Model, bundled_models
    from geohr.options import (
        GridOptions,
        PolygonOptions,
        SceneOptions,
        SegmentOptions,
        StitchOptions,
    )
    from geohr.scene import Scene, Tile
    from geohr.tiling.grid import Grid
    from geohr.training.adapt import adapt
    from geohr.training.options import AdaptOptions, TrainOptions
    from geohr.training.train import train
    from geohr.viewer import page_server, view, write_page
    from geohr.viewer.plot import plot
    from geohr.viewer.report import write_report
    from geohr.workflows.batch.options import BatchOptions
    from geohr.workflows.batch.run import run_batch
    from geohr.workflows.cells.join import join_cells
    from geohr.workflows.cells.options import CellOptions
    from geohr.workflows.cells.plan import CellPlan
    from geohr.workflows.cells.planner import plan_cells
    from geohr.workflows.cells.run import run_cells
    from geohr.workflows.cells.status import cells_status
    from geohr.workflows.change.dates import change
    from geohr.workflows.change.options import ChangeOptions
    from geohr.workflows.check.candidates import next_windows
    from geohr.workflows.check.estimate import estimate
    from geohr.workflows.check.options import EstimateOptions, NextOptions, SampleOptions
    from geohr.workflows.check.sample import draw_sample

_LAZY = {
    "AdaptOptions": "geohr.training.options",
    "BatchOptions": "geohr.workflows.batch.options",
    "Card": "geohr.models.card",
    "CellOptions": "geohr.workflows.cells.options",
    "CellPlan": "geohr.workflows.cells.plan",
    "ChangeOptions": "geohr.workflows.change.options",
    "ClassLabel": "geohr.models.card",
    "EstimateOptions": "geohr.workflows.check.options",
    "EvaluateOptions": "geohr.evaluation.options",
    "Evaluation": "geohr.evaluation.evaluate",
    "ExportOptions": "geohr.api.options",
    "Grid": "geohr.tiling.grid",
    "GridOptions": "geohr.options",
    "Model": "geohr.models.model",
    "NextOptions": "geohr.workflows.check.options",
    "Plan": "geohr.api.plan",
    "PolygonOptions": "geohr.options",
    "Prediction": "geohr.api.prediction",
    "SampleOptions": "geohr.workflows.check.options",
    "Scene": "geohr.scene",
    "SceneOptions": "geohr.options",
    "SegmentOptions": "geohr.options",
    "Source": "geohr.models.card",
    "StitchOptions": "geohr.options",
    "Summary": "geohr.api.segment",
    "Tile": "geohr.scene",
    "TileOptions": "geohr.api.options",
    "TrainOptions": "geohr.training.options",
    "VectorizeOptions": "geohr.api.options",
    "Window": "geohr.geobox",
    "adapt": "geohr.training.adapt",
    "bundled_models": "geohr.models.model",
    "cells_status": "geohr.workflows.cells.status",
    "change": "geohr.workflows.change.dates",
    "clean_folder": "geohr.inference.cleanup",
    "draw_sample": "geohr.workflows.check.sample",
    "estimate": "geohr.workflows.check.estimate",
    "evaluate": "geohr.evaluation.evaluate",
    "export": "geohr.api.export",
    "join_cells": "geohr.workflows.cells.join",
    "next_windows": "geohr.workflows.check.candidates",
    "page_server": "geohr.viewer",
    "plan": "geohr.api.plan",
    "plan_cells": "geohr.workflows.cells.planner",
    "plot": "geohr.viewer.plot",
    "predict": "geohr.api.memory",
    "run_batch": "geohr.workflows.batch.run",
    "run_cells": "geohr.workflows.cells.run",
    "segment": "geohr.api.memory",
    "segment_to_files": "geohr.api.segment",
    "stitch": "geohr.api.stitch",
    "tile": "geohr.api.tile",
    "train": "geohr.training.train",
    "vectorize": "geohr.api.vectorize",
    "view": "geohr.viewer",
    "write_page": "geohr.viewer",
    "write_report": "geohr.viewer.report",
}

__all__ = [
    "AdaptOptions",
    "BatchError",
    "BatchOptions",
    "Card",
    "CellOptions",
    "CellPlan",
    "ChangeOptions",
    "ClassLabel",
    "EngineError",
    "EstimateOptions",
    "EvaluateOptions",
    "Evaluation",
    "ExportOptions",
    "GeohrError",
    "Grid",
    "GridOptions",
    "InputError",
    "InterruptedRunError",
    "LockedError",
    "Model",
    "NextOptions",
    "OutputError",
    "Plan",
    "PolygonOptions",
    "Prediction",
    "SampleOptions",
    "Scene",
    "SceneOptions",
    "SegmentOptions",
    "Source",
    "StitchOptions",
    "Summary",
    "Tile",
    "TileOptions",
    "TrainOptions",
    "UsageError",
    "VectorizeOptions",
    "Window",
    "__version__",
    "adapt",
    "bundled_models",
    "cells_status",
    "change",
    "clean_folder",
    "draw_sample",
    "estimate",
    "evaluate",
    "export",
    "join_cells",
    "next_windows",
    "page_server",
    "plan",
    "plan_cells",
    "plot",
    "predict",
    "run_batch",
    "run_cells",
    "segment",
    "segment_to_files",
    "stitch",
    "tile",
    "train",
    "vectorize",
    "view",
    "write_page",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Load a public name where it is first used."""
    if name not in _LAZY:
        raise AttributeError(f"module 'geohr' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
