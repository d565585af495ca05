"""How much faster two workers of a Dask cluster are than one, and what `geohr plan` says of it.

    python -m benchmarks.cluster

The real scene, repeated and cut into at least 64 blocks, is segmented by one and by two worker
processes with one engine thread each, in turns, and without Dask on one core. The outputs of all
are compared. Two processes at once that know nothing of each other tell what this machine's second
core is worth. Workers have opened the model before the clock starts; what that takes is its own
row. Both cores must be free, or a second worker has nothing to run on.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio

from benchmarks.cluster_processes import scheduler, workers
from geohr.blocks import Cut
from geohr.cluster import connected, segment
from geohr.model import resolve_model
from geohr.options import SegmentOptions
from geohr.run import prepare
from geohr.scaling import forecast, measure_costs
from geohr.segmenting import Summary

SCENE = Path(__file__).parent.parent / "examples" / "data" / "kampala.tif"
NAMES = ("a.gpkg", "a.tif", "p.tif")
LEAST = 1.8
"""Times that two workers must be as fast as one."""


def main() -> None:
    """Run it all and print a table; exits with 1 where bytes differ or two are too slow."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--scene", type=Path, default=SCENE)
    arguments.add_argument("--repeat", type=int, default=2, help="times down and across")
    arguments.add_argument("--tile", type=int, default=256)
    arguments.add_argument("--block", default="2x2")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--backend", default="auto")
    arguments.add_argument("--polygons-only", action="store_true", help="write no rasters")
    chosen = arguments.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    options = SegmentOptions(tile=chosen.tile, backend=chosen.backend, gsd="native")
    cut = Cut.parse(chosen.block)
    assert cut is not None
    with tempfile.TemporaryDirectory(prefix="geohr-cluster-") as folder:
        home = Path(folder)
        chosen.scene = repeated(chosen.scene, chosen.repeat, home / "scene.tif")
        names = NAMES[:1] if chosen.polygons_only else NAMES
        without_dask(chosen, [home / "first"], names)
        alone = without_dask(chosen, [home / "alone"], names)
        pair = without_dask(chosen, [home / "one", home / "other"], names)
        run = prepare([chosen.scene], resolve_model(None), options, cut=lambda _: cut)
        costs = dataclasses.replace(measure_costs(run), startup=0.0)
        seconds: dict[int, list[float]] = {1: [], 2: []}
        opening: dict[int, list[float]] = {1: [], 2: []}
        same, blocks = True, 0
        for turn in range(chosen.rounds):
            for count in (1, 2):
                out = home / f"{turn}-{count}"
                first, second = on_workers(chosen.scene, count, out, options, cut, names)
                opening[count].append(first.seconds - second.seconds)
                seconds[count].append(second.seconds)
                blocks = second.blocks
                same &= contents(out, names) == contents(home / "alone", names)
    ratio = statistics.median(seconds[1]) / statistics.median(seconds[2])
    print(f"{chosen.scene.name}: {blocks} blocks of {chosen.block} windows of {chosen.tile} pixels")
    print(
        f"a block: {costs.block * 1000:.0f} ms of a worker, {costs.assembly * 1000:.0f} ms of the "
        f"driver, {costs.bytes / 1e6:.2f} MB"
    )
    print(f"{'':28} {'s':>7} {'times one worker':>17} {'s, as planned':>14}")
    print(f"{'without Dask, one core':28} {alone:7.1f}")
    print(f"{'two of these at once':28} {pair:7.1f} {2 * alone / pair:17.2f}")
    for count in (1, 2):
        middle = statistics.median(seconds[count])
        times = statistics.median(seconds[1]) / middle
        listed = " ".join(f"{each:.1f}" for each in seconds[count])
        print(
            f"{f'{count} worker(s)':28} {middle:7.1f} {times:17.2f} "
            f"{forecast(costs, count).seconds:14.1f}   ({listed})"
        )
        print(f"{'  more in a first run':28} {statistics.median(opening[count]):7.1f}")
    print(f"same bytes: {'yes' if same else 'NO'}; at least {LEAST} times as fast: {ratio:.2f}")
    sys.exit(0 if same and blocks >= 64 and ratio >= LEAST else 1)


def repeated(scene: Path, times: int, path: Path) -> Path:
    """A scene several times down and across, in one raster."""
    with rasterio.open(scene) as source:
        pixels = np.tile(source.read(), (1, times, times))
        profile = {
            "driver": "GTiff",
            "dtype": pixels.dtype,
            "count": pixels.shape[0],
            "height": pixels.shape[1],
            "width": pixels.shape[2],
            "crs": source.crs,
            "transform": source.transform,
            "nodata": source.nodata,
            "tiled": True,
            "compress": "deflate",
        }
    with rasterio.open(path, "w", **profile) as target:
        target.write(pixels)
    return path


def without_dask(chosen: argparse.Namespace, outs: Sequence[Path], names: Sequence[str]) -> float:
    """The command in processes that have a core each; seconds until all have ended."""
    started = time.monotonic()
    running = []
    for core, out in zip(sorted(os.sched_getaffinity(0)), outs, strict=False):
        out.mkdir()
        command = [
            *(sys.executable, "-m", "geohr_cli", "segment", str(chosen.scene), "--quiet"),
            *("--tile", str(chosen.tile), "--backend", chosen.backend, "--gsd", "native"),
        ]
        for option, name in zip(("--out", "--out", "--probs"), names, strict=False):
            command += [option, str(out / name)]
        running.append(subprocess.Popen(["taskset", "-c", str(core), *command]))
    if sum(process.wait() for process in running):
        raise SystemExit("the command failed without Dask")
    return time.monotonic() - started


def on_workers(
    scene: Path, count: int, out: Path, options: SegmentOptions, cut: Cut, names: Sequence[str]
) -> tuple[Summary, Summary]:
    """A first run, in which workers open the model, and a second one."""
    out.mkdir()
    home = out / "dask"
    with (
        scheduler(home) as address,
        workers(address, count, home, ["--no-nanny"]),
        connected(address) as client,
    ):
        runs = [
            segment(
                client,
                scene,
                [out / name for name in names[:2]],
                probs=out / names[2] if len(names) > 2 else None,
                options=options,
                cut=cut,
                overwrite=True,
            )
            for _ in range(2)
        ]
    return runs[0], runs[1]


def contents(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    """The outputs in a folder."""
    return {name: (folder / name).read_bytes() for name in names}


if __name__ == "__main__":
    main()
