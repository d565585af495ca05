"""Take the documentation's screenshots: the page and the report in Chromium, the layer in QGIS.

Run as `python -m examples.make_screenshots` from the repository's root, with the extra `test` and
with Debian's packages chromium, chromium-driver and python3-qgis.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from examples.make_picture import IMAGES, SCENE
from geohr.api.segment import segment_to_files
from geohr.viewer import page_server
from geohr.viewer.report import write_report
from tests.view.browser import Page, chromium, serving

QGIS_PYTHON = "/usr/bin/python3"
"""Debian's own Python, for which its package python3-qgis is built."""


def main() -> None:
    """Take all screenshots."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        objects, report = folder / "buildings.gpkg", folder / "report.html"
        summary = segment_to_files(SCENE, [objects])
        write_report(SCENE, objects, report, summary=summary)
        with (
            serving(page_server(SCENE, objects)) as address,
            chromium(folder / "profile") as page,
        ):
            page.open(address)
            save(page, "view.png")
            page.click("next")
            page.idle()
            page.click("compare")
            page.run("placeSwipe(0.45)")
            page.wait(lambda: bool(page.run("return plain.loaded()")), "the plain map")
            save(page, "view-swipe.png")
            page.driver.set_window_size(900, 1100)
            page.driver.get(report.as_uri())
            save(page, "report.png")
        drawn = [QGIS_PYTHON, "examples/draw_in_qgis.py", str(SCENE), str(objects)]
        subprocess.run([*drawn, str(IMAGES / "qgis.png")], check=True)
        shrink("qgis.png")


def save(page: Page, name: str) -> None:
    """Write what the browser shows to a file."""
    page.driver.save_screenshot(str(IMAGES / name))
    shrink(name)


def shrink(name: str) -> None:
    """Reduce a picture to few colours, which keeps its file small."""
    with Image.open(IMAGES / name) as picture:
        # The usual method would give the few pixels of a legend the colours of the scene.
        few = picture.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE)
    few.save(IMAGES / name, optimize=True)


if __name__ == "__main__":
    main()
