"""A real Chromium, driven by the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from geohr.viewer import PageServer

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--window-size=1280,800",
)  # fmt: skip
"""Without a display, a GPU, or a word to anyone outside."""
WAIT_SECONDS = 90
NEEDED = "GEOHR_BROWSER"
"""Set where the absence of a browser is a failure."""


def find(program: str) -> str:
    """Where a program is; without it the test is skipped, or fails where it must be there."""
    path = shutil.which(program)
    if path is None:
        text = f"{program} is not installed; .ci/install-browser installs it"
        if os.environ.get(NEEDED):
            pytest.fail(text)
        pytest.skip(text)
    return path


class Page:
    """A page in the browser."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, address: str) -> None:
        """Load a page and wait until its map is drawn."""
        self.driver.get(address)
        self.wait(lambda: self.run("return document.body.dataset.drawn") == "yes", "a drawn map")
        self.wait(lambda: "of" in self.text("count"), "a count")

    def run(self, script: str, *arguments: Any) -> Any:
        """The result of JavaScript in the page."""
        return self.driver.execute_script(script, *arguments)

    def text(self, name: str) -> str:
        """What an element says."""
        return str(self.driver.find_element(By.ID, name).text)

    def click(self, name: str) -> None:
        """Press a button."""
        self.driver.find_element(By.ID, name).click()

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something holds."""
        end = time.monotonic() + WAIT_SECONDS
        while not condition():
            if time.monotonic() > end:
                pytest.fail(f"waited {WAIT_SECONDS} s for {what}; the page says {self.errors()}")
            time.sleep(0.05)

    def idle(self) -> None:
        """Wait until the map has drawn all it has."""
        self.wait(
            lambda: bool(
                self.run("return map.loaded() && map.areTilesLoaded() && !map.isMoving()")
            ),
            "an idle map",
        )

    def slide(self, value: float) -> None:
        """Move the slider, as a person's hand does."""
        self.run(
            "const s = document.getElementById('threshold'); s.value = arguments[0];"
            "s.dispatchEvent(new Event('input', {bubbles: true}))",
            value,
        )

    def errors(self) -> list[str]:
        """What the page complained of since the last time asked."""
        found = [
            each["message"] for each in self.driver.get_log("browser") if each["level"] == "SEVERE"
        ]
        return [*found, *([self.text("problem")] if self.text("problem") else [])]

    def picture(self) -> NDArray[np.uint8]:
        """The map `(row, col, 3)` as a person sees it."""
        with Image.open(
            BytesIO(self.driver.find_element(By.ID, "stage").screenshot_as_png)
        ) as shot:
            return np.asarray(shot.convert("RGB"))

    def pixel(self, x: float, y: float) -> tuple[int, int, int]:
        """The colour on the map at a share of its width and height."""
        pixels = self.picture()
        height, width, _ = pixels.shape
        red, green, blue = pixels[int(y * height), int(x * width)].tolist()
        return red, green, blue


@contextmanager
def chromium(profile: Path, *, trace: Path | None = None) -> Iterator[Page]:
    """A browser with an empty profile, which may write its own trace as it ends."""
    options = webdriver.ChromeOptions()
    options.binary_location = find("chromium")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    if trace is not None:
        options.add_argument("--trace-startup=toplevel,loading,blink.user_timing")
        options.add_argument("--trace-startup-duration=0")
        options.add_argument("--trace-startup-format=json")
        options.add_argument(f"--trace-startup-file={trace}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(find("chromedriver")))
    try:
        yield Page(driver)
    finally:
        driver.quit()


@contextmanager
def serving(server: PageServer) -> Iterator[str]:
    """The address of a server that answers, in a thread, until the block ends."""
    with server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.address
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def process(port: int, scene: Path, objects: Path) -> Iterator[str]:
    """The address of a server in a process of its own, which is killed at the end."""
    command = [sys.executable, "-m", "geohr_cli", "view", str(scene), str(objects)]
    run = subprocess.Popen(
        [*command, "--port", str(port), "--no-browser"], stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    try:
        address = run.stdout.readline().partition(" ")[0]
        assert address.startswith("http")
        yield address
    finally:
        run.kill()
        run.wait()
        run.stdout.close()
