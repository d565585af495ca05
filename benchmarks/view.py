"""How a page with 100,000 polygons feels, by Chromium's own trace.

Run as `python -m benchmarks.view [POLYGONS]`. Each line is compared with a page of 100 polygons
on the same scene in the same browser, so that a busy machine slows both. The browser has no GPU and
draws with the CPU (SwiftShader).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from geohr.viewer import page_server
from tests.makers import noise, write_scene
from tests.view.browser import Page, chromium, serving
from tests.view.makers import houses, write_objects

SIDE_M = 4000.0
PAN_STEPS = 20
FEW = 100
WRITTEN_SECONDS = 60.0
MARKS = (
    "firstContentfulPaint", "geohr-scene", "geohr-drawn", "pan-start", "pan-stop", "slide-start",
    "slide-stop",
)  # fmt: skip
"""Events of the trace that tell when something happened."""


def main(many: int) -> None:
    """Measure and print a table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        side = int(SIDE_M * 2)
        scene = write_scene(
            folder / "scene.tif", noise(side, side), driver="COG", compress="JPEG",
        )  # fmt: skip
        measured = {count: measure(folder, scene, count) for count in (FEW, many)}
    print(f"{'':44}{FEW:>12,}{many:>12,}")
    for line in measured[many]:
        print(f"{line:44}{measured[FEW][line]:12.2f}{measured[many][line]:12.2f}")


def measure(folder: Path, scene: Path, count: int) -> dict[str, float]:
    """Seconds of a page with `count` polygons."""
    spacing = SIDE_M / count**0.5
    objects = write_objects(folder / f"n{count}.gpkg", houses(count, spacing=spacing))
    trace = folder / f"trace{count}.json"
    with serving(page_server(scene, objects)) as address:
        with chromium(folder / f"profile{count}", trace=trace) as page:
            page.open(address)
            page.run("map.jumpTo({zoom: map.getZoom() + 2})")
            page.idle()
            pan(page)
            page.idle()
            page.run("performance.mark('slide-start')")
            page.slide(0.8)
            page.driver.execute_async_script(
                "const [done] = arguments; requestAnimationFrame(() => requestAnimationFrame(done))"
            )
            page.idle()
            page.run("performance.mark('slide-stop')")
        return read_trace(trace)


def pan(page: Page) -> None:
    """Drag the map as a hand does, a step a frame."""
    page.driver.set_script_timeout(120)
    page.driver.execute_async_script(
        "const [steps, done] = arguments; let left = steps; performance.mark('pan-start');"
        "const step = () => { if (left-- === 0) { performance.mark('pan-stop'); done(); return; }"
        "map.panBy([40, 10], {duration: 0}); requestAnimationFrame(step); };"
        "requestAnimationFrame(step);",
        PAN_STEPS,
    )


def wait_for(path: Path) -> dict[str, Any]:
    """The trace, which the browser goes on writing after it has closed.

    Raises:
        TimeoutError: When it is not whole after `WRITTEN_SECONDS`.
    """
    end = time.monotonic() + WRITTEN_SECONDS
    while time.monotonic() < end:
        try:
            trace: dict[str, Any] = json.loads(path.read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            time.sleep(0.5)
        else:
            return trace
    raise TimeoutError(f"{path}: not written within {WRITTEN_SECONDS:g} s")


def read_trace(path: Path) -> dict[str, float]:
    """Seconds between events of the page's main thread."""
    events = wait_for(path)["traceEvents"]
    process = next(each["pid"] for each in events if each["name"] == "geohr-drawn")
    mine = [each for each in events if each["pid"] == process]
    at = {each["name"]: each["ts"] / 1e6 for each in mine if each["name"] in MARKS}
    begun = max(
        each["ts"] / 1e6
        for each in mine
        if each["name"] == "navigationStart" and each["ts"] / 1e6 < at["firstContentfulPaint"]
    )
    thread = next(each["tid"] for each in mine if each["name"] == "geohr-drawn")
    tasks = [
        each["dur"] / 1e6
        for each in mine
        if each["tid"] == thread
        and each["ph"] == "X"
        and at["pan-start"] <= each["ts"] / 1e6 <= at["pan-stop"]
    ]
    return {
        "first paint [s]": at["firstContentfulPaint"] - begun,
        "image drawn [s]": at["geohr-scene"] - begun,
        "image and polygons drawn [s]": at["geohr-drawn"] - begun,
        "a step of a pan [s]": (at["pan-stop"] - at["pan-start"]) / PAN_STEPS,
        "frames a second of a pan": PAN_STEPS / (at["pan-stop"] - at["pan-start"]),
        "longest task while panning [s]": max(tasks),
        "slider moved until the map is drawn [s]": at["slide-stop"] - at["slide-start"],
    }


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
