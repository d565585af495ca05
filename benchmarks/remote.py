"""A large scene read over a network against the same scene on disk.

`python -m benchmarks.remote SCENE.tif` runs `geohr segment`'s own loop, with a predictor that
takes no time, on a file, over HTTP and from an S3-compatible server (moto's), the latter two
with 20 ms before each answer; then with answers that fail or are cut short. The servers run in
processes of their own and count what they send. Without a scene one is made of `examples/data`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

from benchmarks.stitching import fake_run
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
        hashed.update(rows.probabilities)
    return Read(time.perf_counter() - started, hashed.hexdigest()[:12])


def measured(label: str, name: str, server: Server, size: int, local: Read) -> None:
    """Read and print a row."""
    server.ask(requests=0, sent=0, failed=0, cut=0)
    found = read(name)
    seen = server.ask()
    same = "same" if found.digest == local.digest else "OTHER"
    print(
        f"{label:<26}{found.seconds:>9.1f}{found.seconds / local.seconds:>8.3f}"
        f"{seen.requests:>10}{seen.sent / size:>8.4f}{seen.failed:>6}{seen.cut:>5}  {same}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scene", nargs="?", type=Path)
    parser.add_argument("--side", type=int, default=4096, help="of the scene that is made")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scene = args.scene or enlarge(SAMPLE, Path(folder) / "scene.tif", args.side)
        size = scene.stat().st_size
        print(f"{scene.name}: {size / 1e6:.1f} MB, {LATENCY * 1000:.0f} ms, no network to predict")
        columns = f"{'seconds':>9}{'ratio':>8}{'requests':>10}{'bytes':>8}{'500s':>6}{'cut':>5}"
        print(f"{'':<26}{columns}  rows")
        os.environ |= {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
        with (
            range_server(scene.parent) as web,
            moto_server() as moto,
            range_server(upstream=moto) as store,
        ):
            os.environ["AWS_ENDPOINT_URL"] = store.address
            put_object(store.address, "scenes", scene)
            addresses = {"http": f"{web.address}/{scene.name}", "s3": f"s3://scenes/{scene.name}"}
            servers = {"http": web, "s3": store}
            for _ in range(args.rounds):
                local = read(str(scene))
                print(f"{'local file':<26}{local.seconds:>9.1f}{1:>8.3f}", flush=True)
                for kind, server in servers.items():
                    server.ask(latency=LATENCY, fail_every=0, cut_every=0)
                    measured(
                        f"{kind}, {LATENCY * 1000:.0f} ms", addresses[kind], server, size, local
                    )
            for kind, server in servers.items():
                server.ask(fail_every=FAIL_EVERY)
                measured(f"{kind}, every 9th fails", addresses[kind], server, size, local)
                server.ask(fail_every=0, cut_every=CUT_EVERY)
                measured(f"{kind}, every 11th is cut", addresses[kind], server, size, local)


if __name__ == "__main__":
    main()
