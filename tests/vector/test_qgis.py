"""A GeoPackage in a real QGIS: the layer is valid, its style is found, and it can be drawn."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio

from tests.vector.test_vector import polygons, written

PYTHON = "/usr/bin/python3"
"""Debian's, for which its package python3-qgis is made."""

SCRIPT = """
import json, os, sys
from qgis.core import QgsApplication, QgsMapRendererParallelJob, QgsMapSettings, QgsVectorLayer
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor
path, name, picture, sld = sys.argv[1:]
app = QgsApplication([], False)
app.initQgis()
layer = QgsVectorLayer(f"{path}|layername={name}", name, "ogr")
_, found = layer.loadDefaultStyle()
settings = QgsMapSettings()
settings.setLayers([layer])
settings.setDestinationCrs(layer.crs())
settings.setExtent(layer.extent())
settings.setOutputSize(QSize(600, 480))
settings.setBackgroundColor(QColor("white"))
job = QgsMapRendererParallelJob(settings)
job.start()
job.waitForFinished()
job.renderedImage().save(picture)
renderer = layer.renderer()
kind, items = renderer.type(), [item.label() for item in renderer.legendSymbolItems()]
with open(picture + ".sld", "w") as file:
    file.write(sld)
_, sld_read = layer.loadSldStyle(picture + ".sld")
sld_items = [item.label() for item in layer.renderer().legendSymbolItems()]
print(json.dumps({
    "valid": layer.isValid(), "count": layer.featureCount(), "crs": layer.crs().authid(),
    "style": bool(found), "renderer": kind, "items": items,
    "sld": sld_read, "sld_items": sld_items,
}))
sys.stdout.flush()
os._exit(0)  # tearing Qt down after rendering may crash, and there is nothing left to do
"""


def has_qgis() -> bool:
    if not Path(PYTHON).exists():
        return False
    probe = subprocess.run([PYTHON, "-c", "import qgis.core"], capture_output=True, check=False)
    return probe.returncode == 0


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("classes", [1, 2])
def test_qgis_opens_styles_and_draws_a_geopackage(classes: int, tmp_path: Path) -> None:
    if not has_qgis():
        pytest.skip("QGIS is not installed; apt-get install qgis python3-qgis")
    found = polygons()
    if classes == 1:
        found = found.take(np.flatnonzero(found.columns["class_id"] == 1))
    path = tmp_path / "out.gpkg"
    colours = {"building": "#ff0000", "water": "#0000ff"}
    written(path, found, colours=dict(list(colours.items())[:classes]))
    sld = path.with_suffix(".sld").read_text("utf-8")
    picture = tmp_path / "map.png"
    run = subprocess.run(
        [PYTHON, "-c", SCRIPT, str(path), "out", str(picture), sld],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "QT_QPA_PLATFORM": "offscreen"},
    )
    seen = json.loads(run.stdout.strip().splitlines()[-1])
    assert seen["valid"]
    assert seen["style"]
    assert seen["count"] == len(found)
    assert seen["crs"] == "EPSG:32636"
    assert seen["renderer"] == ("RuleRenderer" if classes == 1 else "categorizedSymbol")
    assert seen["items"][0] == ("below 0.6" if classes == 1 else "building")
    assert seen["sld"]
    rest = ["unknown"] if classes == 1 else ["other"]
    assert seen["sld_items"] == [*seen["items"][: len(seen["sld_items"]) - 1], *rest]
    with rasterio.open(picture) as image:
        red, green, blue = image.read([1, 2, 3]).astype(int)
    if classes == 2:
        assert ((red - blue) > 50).mean() > 0.05
        assert ((blue - red) > 50).mean() > 0.05
    assert (red + green + blue < 3 * 250).mean() > 0.1
    kept = os.environ.get("GEOHR_KEEP_MAPS")
    if kept:
        shutil.copy(picture, Path(kept) / f"map_{classes}.png")
