"""How much faster two workers of a Dask cluster are than one, and what `geohr plan` says of it.

    python -m benchmarks.cluster

The real scene, repeated and cut into at least 64 blocks, is segmented by one and by two worker
processes with one engine thread each, in turns, and without Dask on one core. The outputs of all
are compared. Two processes at once that know nothing of each other tell what this machine's second
core is worth. Workers have opened the model before the clock starts; what that takes is its own
row. Both cores must be free, or a second worker has nothing to run on. Core-seconds tell what each
process took of them.
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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import rasterio
from distributed import Client

from benchmarks.cluster_processes import scheduler, workers
from geohr.api.segment import Summary
from geohr.cluster import connected, segment
from geohr.cluster.scaling import forecast, measure_costs
from geohr.inference.job import prepare
from geohr.models.model import DEFAULT_MODEL, resolve_model
from geohr.options import SegmentOptions
from geohr.tiling.blocks import BlockSize

SCENE = Path(__file__).parent.parent / "examples" / "data" / "kampala.tif"
NAMES = ("a.gpkg", "a.tif", "p.tif")
KINDS = ("workers", "scheduler", "driver")
LEAST = 1.8
"""Times that two workers must be as fast as one."""


def main() -> None:
    """Run it all and print a table; exits with 1 where bytes differ or two are too slow."""
    chosen = arguments()
    os.environ["OMP_NUM_THREADS"] = "1"
    options = SegmentOptions(tile=chosen.tile, backend=chosen.backend, gsd="native")
    cut = BlockSize.parse(chosen.block)
    assert cut is not None
    names = NAMES[:1] if chosen.polygons_only else NAMES
    with tempfile.TemporaryDirectory(prefix="geohr-cluster-") as folder:
        home = Path(folder)
        small, chosen.scene = chosen.scene, repeated(chosen.scene, chosen.repeat, home / "s.tif")
        without_dask(chosen, [home / "first"], names, small)
        alone = without_dask(chosen, [home / "alone"], names)
        pair = without_dask(chosen, [home / "one", home / "other"], names)
        run = prepare([chosen.scene], resolve_model(chosen.model), options, cut=lambda _: cut)
        costs = dataclasses.replace(measure_costs(run), startup=0.0)
        timed: dict[int, list[Timed]] = {1: [], 2: []}
        same = True
        for turn in range(chosen.rounds):
            for count in timed:
                out = home / f"{turn}-{count}"
                job = Job(chosen.scene, small, out, chosen.model, options, cut, names)
                timed[count].append(on_workers(job, count))
                same &= contents(out, names) == contents(home / "alone", names)
    print(f"{len(run.blocks)} blocks of {chosen.block} windows of {chosen.tile} pixels")
    print(
        f"a block: {costs.block * 1000:.0f} ms of a worker, {costs.assembly * 1000:.0f} ms of the "
        f"driver, {costs.bytes / 1e6:.2f} MB"
    )
    print(
        f"{'':24} {'s':>7} {'times one worker':>17} {'s, as planned':>14}   core-seconds of",
        end=" ",
    )
    print("workers, scheduler, driver")
    print(f"{'without Dask, one core':24} {alone:7.1f}")
    print(f"{'two of these at once':24} {pair:7.1f} {2 * alone / pair:17.2f}")
    middle = {count: statistics.median(each.seconds for each in timed[count]) for count in timed}
    for count, runs in timed.items():
        core = [statistics.median(each.core[kind] for each in runs) for kind in KINDS]
        print(
            f"{f'{count} worker(s)':24} {middle[count]:7.1f} {middle[1] / middle[count]:17.2f} "
            f"{forecast(costs, count).seconds:14.1f}   {' '.join(f'{each:.1f}' for each in core)}"
            f"   ({' '.join(f'{each.seconds:.1f}' for each in runs)})"
        )
        opening = statistics.median(each.opening for each in runs)
        print(f"{'  more in a first run':24} {opening:7.1f}")
    ratio = middle[1] / middle[2]
    print(f"same bytes: {'yes' if same else 'NO'}; at least {LEAST} times as fast: {ratio:.2f}")
    sys.exit(0 if same and len(run.blocks) >= 64 and ratio >= LEAST else 1)


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scene", type=Path, default=SCENE)
    parser.add_argument("--repeat", type=int, default=4, help="times down and across")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a bundled name or a file")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--block", default="2x2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--polygons-only", action="store_true", help="write no rasters")
    return parser.parse_args()


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


def without_dask(
    chosen: argparse.Namespace,
    outs: Sequence[Path],
    names: Sequence[str],
    scene: Path | None = None,
) -> float:
    """The command in processes that have a core each; seconds until all have ended."""
    started = time.monotonic()
    running = []
    for core, out in zip(sorted(os.sched_getaffinity(0)), outs, strict=False):
        out.mkdir()
        command = [
            *(sys.executable, "-m", "geohr_cli", "segment", str(scene or chosen.scene), "--quiet"),
            *("--tile", str(chosen.tile), "--backend", chosen.backend, "--gsd", "native"),
            *("--model", chosen.model),
        ]
        for option, name in zip(("--out", "--out", "--probs"), names, strict=False):
            command += [option, str(out / name)]
        running.append(subprocess.Popen(["taskset", "-c", str(core), *command]))
    if sum(process.wait() for process in running):
        raise SystemExit("the command failed without Dask")
    return time.monotonic() - started


@dataclass(frozen=True)
class Job:
    """A scene to segment on workers.

    Attributes:
        scene: The scene.
        small: Another, on which workers open the model.
        out: Folder of the outputs.
        model: A bundled name or a file.
        options: How.
        cut: Windows of a block.
        names: Of the outputs.
    """

    scene: Path
    small: Path
    out: Path
    model: str
    options: SegmentOptions
    cut: BlockSize
    names: Sequence[str]

    def run(self, client: Client, scene: Path) -> Summary:
        """Segment a scene."""
        return segment(
            client,
            scene,
            [self.out / name for name in self.names[:2]],
            probs=self.out / self.names[2] if len(self.names) > 2 else None,
            model=self.model,
            options=self.options,
            cut=self.cut,
            overwrite=True,
        )


@dataclass(frozen=True)
class Timed:
    """A run on workers that have opened the model.

    Attributes:
        seconds: That it took.
        opening: Seconds that an earlier run took longer, in which workers opened the model.
        core: Seconds of a core, by kind of process.
    """

    seconds: float
    opening: float
    core: dict[str, float]


def on_workers(job: Job, count: int) -> Timed:
    """A run on so many worker processes of one thread."""
    job.out.mkdir()
    home = job.out / "dask"
    with (
        scheduler(home) as address,
        workers(address, count, home, ["--no-nanny"]) as processes,
        connected(address) as client,
    ):
        pids = [process.pid for process in processes]
        first, second = job.run(client, job.small), job.run(client, job.small)
        before = core_seconds(address, pids)
        seconds = job.run(client, job.scene).seconds
        after = core_seconds(address, pids)
    core = {kind: after[kind] - before[kind] for kind in KINDS}
    return Timed(seconds, first.seconds - second.seconds, core)


def core_seconds(address: str, pids: Sequence[int]) -> dict[str, float]:
    """Seconds of a core so far, by kind of process.

    Args:
        address: Where the scheduler listens.
        pids: Of the workers.
    """
    port = int(address.rpartition(":")[2])
    listening = [each for each in psutil.net_connections("tcp") if each.status == "LISTEN"]
    chief = next(each.pid for each in listening if each.laddr.port == port)
    groups = dict(zip(KINDS, (pids, [chief], [os.getpid()]), strict=True))
    return {
        kind: sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in group)
        for kind, group in groups.items()
    }


def contents(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    """The outputs in a folder."""
    return {name: (folder / name).read_bytes() for name in names}


if __name__ == "__main__":
    main()
