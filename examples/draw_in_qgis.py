"""Draw a scene and its objects as QGIS does, without a window, with the style in the GeoPackage.

    python3 examples/draw_in_qgis.py SCENE OBJECTS.gpkg OUT.png

Runs in the Python that QGIS is installed for (Debian: `apt-get install python3-qgis`).
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from qgis.core import (
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize

SIDE = 900
"""The length of the picture's longer side, in pixels."""


def main() -> None:
    """Draw the picture, or say what cannot be opened."""
    scene, objects, out = sys.argv[1:]
    application = QgsApplication([], False)
    application.initQgis()
    image = QgsRasterLayer(scene, "scene")
    layer = QgsVectorLayer(f"{objects}|layername={Path(objects).stem}", "objects", "ogr")
    if not (image.isValid() and layer.isValid()):
        sys.exit(f"QGIS cannot open {scene} or {objects}")
    _, styled = layer.loadDefaultStyle()
    if not styled:
        sys.exit(f"{objects}: QGIS finds no style in it")
    settings = QgsMapSettings()
    settings.setLayers([layer, image])
    settings.setDestinationCrs(image.crs())
    settings.setExtent(image.extent())
    longer = max(image.width(), image.height())
    settings.setOutputSize(QSize(SIDE * image.width() // longer, SIDE * image.height() // longer))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(out)
    sys.stdout.flush()
    os._exit(0)  # tearing Qt down after rendering may crash, and there is nothing left to do


if __name__ == "__main__":
    main()
