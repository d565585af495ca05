"""Take the documentation's screenshots of the page and the report, in Chromium.

Run as `python -m examples.make_screenshots` from the repository's root, with the extra `test`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from examples.make_picture import COLOURS, IMAGES, SCENE
from geohr.report import write_report
from geohr.segmenting import segment_to_files
from geohr.view import page_server
from tests.view.browser import Page, chromium, serving


def main() -> None:
    """Take all."""
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


def save(page: Page, name: str) -> None:
    """Write what the browser shows, with few colours, so that the file stays small."""
    page.driver.save_screenshot(str(IMAGES / name))
    with Image.open(IMAGES / name) as picture:
        few = picture.convert("RGB").quantize(COLOURS)
    few.save(IMAGES / name, optimize=True)


if __name__ == "__main__":
    main()
