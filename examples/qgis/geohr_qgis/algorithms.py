"""Segment and Evaluate, as Processing algorithms."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsFields,
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingOutputNumber,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
    QgsProcessingUtils,
    QgsVectorFileWriter,
)

from .command import run

MODELS = ("buildings", "buildings_lite0", "land_cover")
NUMBERS = {
    "THRESHOLD": ("Threshold (by default the model's)", "--threshold"),
    "MIN_AREA": ("Smallest object, in square metres (by default the model's)", "--min-area"),
    "SIMPLIFY": ("Simplification tolerance, in metres", "--simplify"),
}
OUTLINES = {
    "As the model suggests": [],
    "Straight walls and right angles": ["--regularize"],
    "As traced": ["--no-regularize"],
}
POLYGONS = [QgsProcessing.TypeVectorPolygon]


class Algorithm(QgsProcessingAlgorithm):
    """What both algorithms share."""

    def createInstance(self) -> Algorithm:  # noqa: N802
        """A new instance of the same algorithm."""
        return type(self)()

    def polygons(self, parameters: Any, name: str, context: Any) -> str:
        """Write the polygons of a parameter to a temporary GeoPackage; its path.

        Layers in memory, filtered layers, selections and layers inside a file of many all come out
        as the one layer that was chosen.

        Raises:
            QgsProcessingException: When the layer cannot be read or written.
        """
        source = self.parameterAsSource(parameters, name, context)
        if source is None:
            raise QgsProcessingException(self.invalidSourceError(parameters, name))
        path = QgsProcessingUtils.generateTempFilename(f"{name.lower()}.gpkg")
        options = QgsVectorFileWriter.SaveVectorOptions()
        options.driverName = "GPKG"
        writer = QgsVectorFileWriter.create(
            path, QgsFields(), source.wkbType(), source.sourceCrs(), context.transformContext(),
            options,
        )  # fmt: skip
        if writer.hasError() != QgsVectorFileWriter.NoError:
            raise QgsProcessingException(writer.errorMessage())
        for each in source.getFeatures():
            feature = QgsFeature()
            feature.setGeometry(each.geometry())
            writer.addFeature(feature)
        del writer  # closes the file
        return str(path)


class Segment(Algorithm):
    """A scene to objects."""

    def name(self) -> str:
        """The name in commands."""
        return "segment"

    def displayName(self) -> str:  # noqa: N802
        """The name in the toolbox."""
        return "Segment"

    def shortHelpString(self) -> str:  # noqa: N802
        """A description for the dialog."""
        return (
            "Finds objects, by default buildings, in a scene of any size. The objects have a "
            "confidence and their true area, and open coloured by confidence. To process only a "
            "part of the scene, choose an extent, such as that of the map canvas, or an area of "
            "interest."
        )

    def initAlgorithm(self, config: Any = None) -> None:  # noqa: N802
        """Declare inputs and outputs."""
        self.addParameter(QgsProcessingParameterRasterLayer("SCENE", "Scene"))
        self.addParameter(
            QgsProcessingParameterEnum(
                "MODEL", "Model", options=list(MODELS), defaultValue=MODELS[0],
                usesStaticStrings=True,
            )
        )  # fmt: skip
        self.addParameter(
            QgsProcessingParameterFile(
                "MODEL_FILE", "Model file, instead of the bundled model",
                extension="safetensors", optional=True,
            )
        )  # fmt: skip
        self.addParameter(
            QgsProcessingParameterExtent("EXTENT", "Extent to process", optional=True)
        )
        self.addParameter(
            QgsProcessingParameterFeatureSource("AOI", "Area of interest", POLYGONS, optional=True)
        )
        self.addParameter(
            QgsProcessingParameterEnum(
                "OUTLINES", "Outlines", options=list(OUTLINES), defaultValue=0
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
        self.addParameter(
            QgsProcessingParameterRasterDestination(
                "PROBABILITIES", "Probabilities", optional=True, createByDefault=False
            )
        )

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:  # noqa: N802
        """Run `geohr segment`."""
        scene = self.parameterAsRasterLayer(parameters, "SCENE", context)
        if scene is None or scene.providerType() != "gdal":
            raise QgsProcessingException("the scene must be a raster that GDAL can read")
        out = self.parameterAsOutputLayer(parameters, "OUTPUT", context)
        arguments = ["segment", scene.source(), "--out", out, "--overwrite"]
        outputs = {"OUTPUT": out}
        model = self.parameterAsFile(parameters, "MODEL_FILE", context)
        arguments += ["--model", model or self.parameterAsEnumString(parameters, "MODEL", context)]
        arguments += self.part(parameters, context)
        arguments += list(OUTLINES.values())[self.parameterAsEnum(parameters, "OUTLINES", context)]
        for name, (_, flag) in NUMBERS.items():
            if parameters.get(name) is not None:
                arguments += [flag, str(self.parameterAsDouble(parameters, name, context))]
        if parameters.get("PROBABILITIES"):
            outputs["PROBABILITIES"] = self.parameterAsOutputLayer(
                parameters, "PROBABILITIES", context
            )
            arguments += ["--probs", outputs["PROBABILITIES"]]
        arguments += shlex.split(self.parameterAsString(parameters, "EXTRA", context))
        run(arguments, feedback)
        return outputs

    def part(self, parameters: Any, context: Any) -> list[str]:
        """The options for the extent and the area of interest, where one is chosen."""
        options = []
        degrees = QgsCoordinateReferenceSystem("EPSG:4326")
        extent = self.parameterAsExtent(parameters, "EXTENT", context, degrees)
        if not extent.isEmpty():
            sides = extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()
            # An argument that begins with a minus would be taken for an option without the sign =.
            options.append("--bbox=" + ",".join(repr(side) for side in sides))
        if parameters.get("AOI") is not None:
            options += ["--aoi", self.polygons(parameters, "AOI", context)]
        return options


class Evaluate(Algorithm):
    """Objects against true outlines."""

    def name(self) -> str:
        """The name in commands."""
        return "evaluate"

    def displayName(self) -> str:  # noqa: N802
        """The name in the toolbox."""
        return "Evaluate"

    def shortHelpString(self) -> str:  # noqa: N802
        """A description for the dialog."""
        return "Scores objects against true outlines, by pixels, boundaries and objects."

    def initAlgorithm(self, config: Any = None) -> None:  # noqa: N802
        """Declare inputs and outputs."""
        self.addParameter(QgsProcessingParameterFeatureSource("OBJECTS", "Objects", POLYGONS))
        self.addParameter(QgsProcessingParameterFeatureSource("TRUTH", "True outlines", POLYGONS))
        self.addParameter(
            QgsProcessingParameterNumber(
                "GSD", "Pixel size in metres", QgsProcessingParameterNumber.Double,
                defaultValue=0.25, minValue=0.001,
            )
        )  # fmt: skip
        self.addParameter(
            QgsProcessingParameterFileDestination("OUTPUT", "Scores", "JSON files (*.json)")
        )
        self.addOutput(QgsProcessingOutputNumber("IOU", "Intersection over union"))

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:  # noqa: N802
        """Run `geohr evaluate`."""
        objects, truth = (self.polygons(parameters, name, context) for name in ("OBJECTS", "TRUTH"))
        out = self.parameterAsFileOutput(parameters, "OUTPUT", context)
        gsd = str(self.parameterAsDouble(parameters, "GSD", context))
        run(["evaluate", objects, truth, "--gsd", gsd, "--out", out, "--overwrite"], feedback)
        scores = json.loads(Path(out).read_text("utf-8"))["scores"]
        return {"OUTPUT": out, "IOU": scores["iou"]}
