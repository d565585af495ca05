"""A scene as a service of tiles against the same scene as a file: IoU, and the requests made.

`python -m benchmarks.tile_service IMAGE LABELS` serves an image whose pixels are those of a zoom
level as JPEG tiles over HTTP, from a server that now and then asks for patience (429), fails (500),
or answers slowly; beyond the image it answers 404. Both are segmented, with the polygons compared
with the labels. The image is one of whole tiles in EPSG:3857, as mosaics of tiles are.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import threading
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import rasterio
import rasterio.warp
from numpy.typing import NDArray
from PIL import Image
from rasterio.features import rasterize

from benchmarks.resolutions import IGNORED, Truth, read_truth
from geohr.api.memory import segment
from geohr.options import SegmentOptions
from geohr.scene.tiles.levels import MERCATOR_HALF
from tests.imagery.tile_server import MISSING, Answer, tile_server

SIDE = 256
QUALITY = 90
BUSY_EVERY, FAILED_EVERY, SLOW_EVERY = 10, 23, 17
SLOW_SECONDS = 2.0


@dataclass
class Service:
    """An image as tiles, with faults.

    Attributes:
        pixels: `(band, row, col)`.
        zoom: The zoom level whose pixels they are.
        row: The row of the first tile.
        col: Its column.
        answers: Answers so far, by status.
    """

    pixels: NDArray[np.uint8]
    zoom: int
    row: int
    col: int
    answers: Counter[str] = field(default_factory=Counter)
    guard: threading.Lock = field(default_factory=threading.Lock)
    asked: int = 0

    def answer(self, path: str) -> Answer:
        """The answer for a path such as /20/5/6.jpg."""
        self.asked += 1  # the server asks one at a time
        answer = self._answer(path)
        self.answers[str(answer[0])] += 1
        return answer

    def _answer(self, path: str) -> Answer:
        """The answer, which may be a fault."""
        if self.asked % BUSY_EVERY == 0:
            return 429, {"Retry-After": "0"}, b""
        if self.asked % FAILED_EVERY == 0:
            return 500, {}, b""
        if self.asked % SLOW_EVERY == 0:
            self.answers["slow"] += 1
            time.sleep(SLOW_SECONDS)
        zoom, col, row = map(int, path.removesuffix(".jpg").split("/")[-3:])
        top, left = (row - self.row) * SIDE, (col - self.col) * SIDE
        tile = self.pixels[:, max(top, 0) : top + SIDE, max(left, 0) : left + SIDE]
        if zoom != self.zoom or top < 0 or left < 0 or tile.shape[1:] != (SIDE, SIDE):
            return MISSING
        file = io.BytesIO()
        Image.fromarray(np.moveaxis(tile, 0, -1)).save(file, "JPEG", quality=QUALITY)
        return 200, {"Content-Type": "image/jpeg"}, file.getvalue()


def service_of(image: str) -> tuple[Service, tuple[float, ...]]:
    """An image as a service, and its place in degrees."""
    with rasterio.open(image) as raster:
        size = raster.transform.a
        zoom = round(np.log2(2 * MERCATOR_HALF / SIDE / size))
        col = round((raster.transform.c + MERCATOR_HALF) / size / SIDE)
        row = round((MERCATOR_HALF - raster.transform.f) / size / SIDE)
        bounds = rasterio.warp.transform_bounds(raster.crs, "OGC:CRS84", *raster.bounds)
        return Service(raster.read(), zoom, row, col), bounds


def iou(scene: str, truth: Truth, options: SegmentOptions) -> float:
    """Segment, and compare with the labels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = segment(scene, options=options, progress=None).to_crs(truth.scene.crs)
    shape, transform = truth.classes.shape, truth.scene.transform
    mask = rasterize(found.geometry, out_shape=shape, transform=transform) == 1
    known, there = truth.classes != IGNORED, truth.classes == 1
    return float((mask & there & known).sum() / ((mask | there) & known).sum())


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("image")
    arguments.add_argument("labels")
    arguments.add_argument("--rate", type=float, default=50.0)
    asked = arguments.parse_args()
    truth = read_truth(asked.image, asked.labels)
    service, bounds = service_of(asked.image)
    rows, cols = (side // SIDE for side in service.pixels.shape[1:])
    print(f"zoom {service.zoom}, {rows} x {cols} tiles")
    with tempfile.TemporaryDirectory() as cache, tile_server(service.answer) as server:
        os.environ["GEOHR_CACHE"] = cache
        template = f"{server.address}/{{z}}/{{x}}/{{y}}.jpg"
        options = SegmentOptions(bbox=bounds, rate=asked.rate)
        started = time.monotonic()
        print(
            f"service: IoU {iou(template, truth, options):.4f}, {time.monotonic() - started:.0f} s"
        )
        print(f"answers: {dict(service.answers)}")
        twice = [path for path, count in server.given.items() if count > 1]
        print(f"tiles that were given {sum(server.given.values())}, given twice {len(twice)}")
    started = time.monotonic()
    score = iou(asked.image, truth, SegmentOptions())
    print(f"file: IoU {score:.4f}, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
