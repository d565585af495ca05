"""A large scene read over a network against the same scene on disk.

`python -m benchmarks.remote SCENE.tif` runs `geohr segment`'s own loop, with a predictor that
takes no time, on a file, over HTTP, and from S3-compatible servers (one that sends ranges; s3rver,
where npm has installed it; and moto's, which copies the whole object for each answer), with 20 ms
before each answer; or, with
`--faults`, with answers that fail or are cut short. The file on disk is read at the same time as
the other, so that both have the same machine. The servers run in processes of their own and
count what they send. Without a scene one is made of `examples/data`.
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

from benchmarks.stitching import fake_run
from geohr._runtime.stores import open_store
from tests.imagery.emulators import s3_emulator, s3rver
from tests.imagery.servers import Server, moto_server, put_object, range_server

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
    for rows in fake_run(name).rows(None):
        hashed.update(rows.probabilities.tobytes())
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
    """HTTP, S3 by the server of ranges, which has no cost of its own, and S3 by others."""
    bucket = scene.parent.name
    with (
        range_server(scene.parent.parent) as web,
        moto_server() as moto,
        range_server(upstream=moto) as store,
        node_server(scene, bucket) as node,
    ):
        put_object(store.address, bucket, scene)
        stored = f"s3://{bucket}/{scene.name}"
        ways = [
            Way("http", f"{web.address}/{bucket}/{scene.name}", web, {}),
            Way("s3", stored, web, asked_as("local", web)),
            Way("s3 by moto", stored, store, asked_as("local", store)),
        ]
        if node is not None:
            ways.insert(2, Way("s3 by s3rver", stored, node, asked_as("S3RVER", node)))
        yield ways


def asked_as(who: str, server: Server) -> dict[str, str]:
    """What must be set to ask an S3-compatible server as somebody whose secret is the name."""
    return {
        "AWS_ENDPOINT_URL": server.address,
        "AWS_ACCESS_KEY_ID": who,
        "AWS_SECRET_ACCESS_KEY": who,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@contextmanager
def node_server(scene: Path, bucket: str) -> Iterator[Server | None]:
    """A server in front of s3rver that has the scene; None where it is not installed."""
    program = s3rver()
    if program is None:
        yield None
        return
    with (
        tempfile.TemporaryDirectory(prefix="geohr-") as home,
        s3_emulator(program, Path(home), bucket) as upstream,
        range_server(upstream=upstream) as server,
    ):
        os.environ |= asked_as("S3RVER", server)
        store, key = open_store(f"s3://{bucket}/{scene.name}")
        store.put(key, scene)
        yield server


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
