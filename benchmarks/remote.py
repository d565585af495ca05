"""A large scene read over a network against the same scene on disk.

`python -m benchmarks.remote SCENE.tif` runs `geohr segment`'s own loop, with a predictor that
takes no time, on a file, over HTTP, and through the S3 protocol, from a local server that waits
20 ms before each answer. With `--faults` some answers fail or are cut short. The file on disk is
read at the same time as the remote one, so that a busy machine slows both alike. The server runs
in a process of its own and counts what it sends. Without a scene one is made of `examples/data`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

from benchmarks.scenes import ReadOff
from benchmarks.stitching import fake_job
from geohr.engines.cores import cores
from geohr.inference.executor import LocalExecutor
from tests.imagery.servers import Server, range_server

SAMPLE = Path(__file__).parents[1] / "examples" / "data" / "kampala.tif"
LATENCY = 0.02
FAIL_EVERY = 9
CUT_EVERY = 11


@dataclass(frozen=True)
class Read:
    """One run.

    Attributes:
        seconds: From opening to the last row.
        digest: Of all rows.
    """

    seconds: float
    digest: str


def enlarge(source: Path, path: Path, side: int) -> Path:
    """A tiled JPEG of `side` x `side` pixels, made of mirrored copies of a scene."""
    with rasterio.open(source) as raster:
        profile = {
            "driver": "GTiff", "dtype": "uint8", "count": 3, "height": side, "width": side,
            "crs": raster.crs, "transform": raster.transform, "tiled": True, "blockxsize": 512,
            "blockysize": 512, "compress": "jpeg", "photometric": "ycbcr", "jpeg_quality": 85,
        }  # fmt: skip
        rows, cols = (mirrored(side, length) for length in raster.shape)
        with rasterio.open(path, "w", **profile) as target:
            for top in range(0, side, 512):
                wanted = rows[top : top + 512]
                low, high = int(wanted.min()), int(wanted.max()) + 1
                strip = raster.read(window=Window(0, low, raster.width, high - low))
                pixels = strip[:, wanted - low][:, :, cols]
                target.write(pixels, window=Window(0, top, side, len(wanted)))
    return path


def mirrored(side: int, length: int) -> np.ndarray:
    """Indices of `length` pixels, forth and back, until there are `side`."""
    place = np.arange(side) % (2 * length)
    return np.minimum(place, 2 * length - 1 - place)


def read(name: str) -> Read:
    """Run the loop and take a digest of what comes out."""
    started = time.perf_counter()
    hashed = hashlib.sha256()
    for chunk in LocalExecutor(ReadOff(0.3, workers=cores())).chunks(
        fake_job(name, polygons=False)
    ):
        hashed.update(chunk.probabilities.tobytes())
    return Read(time.perf_counter() - started, hashed.hexdigest()[:12])


@dataclass(frozen=True)
class Way:
    """A way to the scene.

    Attributes:
        label: What it is called.
        name: The scene's name that way.
        server: What sends it.
        environment: What must be set.
    """

    label: str
    name: str
    server: Server
    environment: dict[str, str]


def at_once(*names: str) -> list[Read]:
    """Read each in a process of its own, all at the same time: a busy machine slows all alike."""
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.remote", "--read", name],
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    told = [each.communicate()[0].split() for each in running]
    return [Read(float(seconds), digest) for seconds, digest in told]


def measured(way: Way, label: str, scene: Path) -> None:
    """Read the scene both ways and print a row."""
    os.environ.update(way.environment)
    way.server.ask(requests=0, sent=0, failed=0, cut=0)
    local, found = at_once(str(scene), way.name)
    seen = way.server.ask()
    same = "same" if found.digest == local.digest else "OTHER"
    print(
        f"{way.label + label:<34}{local.seconds:>9.1f}{found.seconds:>9.1f}"
        f"{found.seconds / local.seconds:>8.3f}{seen.requests:>10}"
        f"{seen.sent / scene.stat().st_size:>8.4f}{seen.failed:>6}{seen.cut:>5}  {same}",
        flush=True,
    )


@contextmanager
def ways_to(scene: Path) -> Iterator[list[Way]]:
    """HTTP and S3, both from the same server."""
    bucket = scene.parent.name
    with range_server(scene.parent.parent) as web:
        asked = {
            "AWS_ENDPOINT_URL": web.address,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        yield [
            Way("http", f"{web.address}/{bucket}/{scene.name}", web, {}),
            Way("s3", f"s3://{bucket}/{scene.name}", web, asked),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scene", nargs="?", type=Path)
    parser.add_argument("--side", type=int, default=4096, help="of the scene that is made")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--faults", action="store_true", help="only failing and cut answers")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read:
        found = read(args.read)
        print(found.seconds, found.digest)
        return
    with tempfile.TemporaryDirectory(prefix="geohr-") as folder:
        scene = args.scene or enlarge(SAMPLE, Path(folder) / "scene.tif", args.side)
        size = scene.stat().st_size / 1e6
        print(f"{scene.name}: {size:.1f} MB, {LATENCY * 1000:.0f} ms, no network to predict")
        columns = f"{'local s':>9}{'there s':>9}{'ratio':>8}{'requests':>10}{'bytes':>8}"
        print(f"{'':<34}{columns}{'500s':>6}{'cut':>5}  rows")
        with ways_to(scene) as ways:
            for way in ways * (1 if args.faults else args.rounds):
                way.server.ask(latency=LATENCY)
                if not args.faults:
                    measured(way, ", 20 ms", scene)
                    continue
                way.server.ask(fail_every=FAIL_EVERY)
                measured(way, ", every 9th fails", scene)
                way.server.ask(fail_every=0, cut_every=CUT_EVERY)
                measured(way, ", every 11th is cut", scene)
                way.server.ask(cut_every=0)


if __name__ == "__main__":
    main()
