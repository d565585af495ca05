"""Segment and Evaluate, as Processing algorithms."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingOutputNumber,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
    QgsProcessingParameterVectorLayer,
)

from .command import run

NUMBERS = {
    "THRESHOLD": ("Threshold (by default the model's)", "--threshold"),
    "MIN_AREA": ("Smallest object, in square metres (by default the model's)", "--min-area"),
    "SIMPLIFY": ("Simplify outlines by so many metres", "--simplify"),
}


class Segment(QgsProcessingAlgorithm):
    """A scene to objects."""

    def createInstance(self) -> Segment:  # noqa: N802
        """A fresh one."""
        return Segment()

    def name(self) -> str:
        """Name in commands."""
        return "segment"

    def displayName(self) -> str:  # noqa: N802
        """Name in the toolbox."""
        return "Segment"

    def shortHelpString(self) -> str:  # noqa: N802
        """What it does."""
        return (
            "Finds objects, by default buildings, in a scene of any size. The objects carry a "
            "confidence and their true area, and open in colours by confidence."
        )

    def initAlgorithm(self, config: Any = None) -> None:  # noqa: N802
        """Declare inputs and outputs."""
        self.addParameter(QgsProcessingParameterRasterLayer("SCENE", "Scene"))
        self.addParameter(
            QgsProcessingParameterFile(
                "MODEL",
                "Model (by default the bundled one)",
                extension="safetensors",
                optional=True,
            )
        )
        for name, (text, _) in NUMBERS.items():
            self.addParameter(
                QgsProcessingParameterNumber(
                    name, text, QgsProcessingParameterNumber.Double, optional=True, minValue=0
                )
            )
        self.addParameter(
            QgsProcessingParameterString("EXTRA", "Further options", optional=True, defaultValue="")
        )
        self.addParameter(
            QgsProcessingParameterVectorDestination(
                "OUTPUT", "Objects", QgsProcessing.TypeVectorPolygon
            )
        )

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:  # noqa: N802
        """Run `geohr segment`."""
        scene = self.parameterAsRasterLayer(parameters, "SCENE", context)
        if scene is None:
            raise QgsProcessingException("the scene is no raster layer that can be read")
        out = self.parameterAsOutputLayer(parameters, "OUTPUT", context)
        arguments = ["segment", scene.source(), "--out", out, "--overwrite"]
        model = self.parameterAsFile(parameters, "MODEL", context)
        if model:
            arguments += ["--model", model]
        for name, (_, flag) in NUMBERS.items():
            if parameters.get(name) is not None:
                arguments += [flag, str(self.parameterAsDouble(parameters, name, context))]
        arguments += shlex.split(self.parameterAsString(parameters, "EXTRA", context))
        run(arguments, feedback)
        return {"OUTPUT": out}


class Evaluate(QgsProcessingAlgorithm):
    """Objects against true outlines."""

    def createInstance(self) -> Evaluate:  # noqa: N802
        """A fresh one."""
        return Evaluate()

    def name(self) -> str:
        """Name in commands."""
        return "evaluate"

    def displayName(self) -> str:  # noqa: N802
        """Name in the toolbox."""
        return "Evaluate"

    def shortHelpString(self) -> str:  # noqa: N802
        """What it does."""
        return "Scores objects against true outlines, by pixels, outlines and objects."

    def initAlgorithm(self, config: Any = None) -> None:  # noqa: N802
        """Declare inputs and outputs."""
        polygons = [QgsProcessing.TypeVectorPolygon]
        self.addParameter(QgsProcessingParameterVectorLayer("OBJECTS", "Objects", polygons))
        self.addParameter(QgsProcessingParameterVectorLayer("TRUTH", "True outlines", polygons))
        self.addParameter(
            QgsProcessingParameterNumber(
                "GSD", "Pixel side in metres", QgsProcessingParameterNumber.Double,
                defaultValue=0.25, minValue=0.001,
            )
        )  # fmt: skip
        self.addParameter(
            QgsProcessingParameterFileDestination("OUTPUT", "Scores", "JSON files (*.json)")
        )
        self.addOutput(QgsProcessingOutputNumber("IOU", "Intersection over union"))

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:  # noqa: N802
        """Run `geohr evaluate`."""
        objects, truth = (
            self.parameterAsVectorLayer(parameters, name, context).source().split("|")[0]
            for name in ("OBJECTS", "TRUTH")
        )
        out = self.parameterAsFileOutput(parameters, "OUTPUT", context)
        gsd = str(self.parameterAsDouble(parameters, "GSD", context))
        run(["evaluate", objects, truth, "--gsd", gsd, "--out", out, "--overwrite"], feedback)
        scores = json.loads(Path(out).read_text("utf-8"))["scores"]
        return {"OUTPUT": out, "IOU": scores["iou"]}
