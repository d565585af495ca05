"""Workers and drivers of a Dask cluster are killed at random moments; outputs must not change.

    python -m benchmarks.cluster_crashes --runs 20

A scheduler and two workers of one thread run as processes of their own. In each run a worker
process is killed by its id at a random moment, and so is the driver, which is started again.
Its outputs are compared with those of a run without Dask on one thread.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.cluster_processes import children, scheduler, workers
from benchmarks.crashes import (
    OUTPUTS,
    TILE,
    Counts,
    count,
    differing,
    keep_journal,
    prepare,
    present,
    undisturbed,
)
from geohr.cluster import connected, segment
from geohr.options import SegmentOptions
from geohr.tiling.blocks import BlockSize, cut_blocks
from geohr.tiling.grid import Grid

POLL_SECONDS = 0.005
BLOCK_SECONDS = 0.1
"""What a block takes, about."""
CUT = BlockSize(2, 2)


def main() -> None:
    """Run it all and print what was found; exits with 1 after any difference."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--runs", type=int, default=20)
    arguments.add_argument("--size", type=int, default=768, help="side of the crop in pixels")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--backend", default="auto")
    chosen = arguments.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="geohr-cluster-") as folder:
        home = Path(folder)
        command = [*prepare(home, chosen.size), "--backend", chosen.backend]
        reference = undisturbed(home, command)
        with (
            scheduler(home / "dask") as address,
            workers(address, 2, home / "dask", ["--nworkers", "1"]) as nannies,
        ):
            driver = Driver(home, chosen.backend, address)
            grid = Grid(chosen.size, chosen.size, TILE, TILE // 4)
            wrong = killed(
                driver,
                nannies,
                reference,
                runs=chosen.runs,
                blocks=len(cut_blocks(grid, CUT)),
                chance=random.Random(chosen.seed),
            )
    sys.exit(1 if wrong else 0)


@dataclass(frozen=True)
class Driver:
    """Runs of the driver, in processes that have imported everything before they start.

    Attributes:
        home: With the scene and the model.
        backend: The engine's name.
        address: Of the scheduler.
    """

    home: Path
    backend: str
    address: str

    def start(self, out: Path) -> BaseProcess:
        """A run that writes to the folder `out`."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["geohr.cluster", "geohr.api.segment"])
        process = context.Process(target=self.run, args=(out,))
        process.start()
        return process

    def run(self, out: Path) -> None:
        """What the command does."""
        with connected(self.address) as client:
            segment(
                client,
                self.home / "scene.tif",
                [out / "out.gpkg", out / "out.tif"],
                probs=out / "probs.tif",
                model=self.home / "model.safetensors",
                options=SegmentOptions(tile=TILE, backend=self.backend),  # type: ignore[arg-type]
                cut=CUT,
            )

    def finish(self, out: Path) -> float:
        """Run to the end; how long it took."""
        started = time.monotonic()
        process = self.start(out)
        process.join()
        if process.exitcode:
            raise SystemExit(f"a run ended with {process.exitcode}")
        return time.monotonic() - started


def killed(
    driver: Driver,
    nannies: list[subprocess.Popen[bytes]],
    reference: Mapping[str, bytes],
    *,
    runs: int,
    blocks: int,
    chance: random.Random,
) -> int:
    """Runs in which a worker and the driver are killed; how many ended with other bytes."""
    out = driver.home / "out"
    counts, wrong, met, drivers = Counts(), 0, 0, 0
    for warm in range(2):
        out.mkdir()
        seconds = driver.finish(out)
        wrong += differing(out, reference) + (len(present(out)) != len(OUTPUTS))
        shutil.rmtree(out)
        print(f"undisturbed run {warm}: {seconds:.1f} s, {wrong} differences", flush=True)
    for number in range(runs):
        out.mkdir()
        journal = driver.home / f"journal-{number}.jsonl"
        moments = chance.uniform(0, blocks), chance.uniform(0, blocks)
        workers_met, driver_met = disturb(driver, nannies, out, journal, moments, chance)
        met, drivers = met + workers_met, drivers + driver_met
        if len(present(out)) < len(OUTPUTS) or (out / ".geohr-work").exists():
            driver.finish(out)
        wrong += differing(out, reference)
        wrong += sorted(each.name for each in out.iterdir()) != sorted(OUTPUTS)
        count(journal, counts)
        shutil.rmtree(out)
        print(
            f"run {number}: {workers_met} worker killed after {moments[0]:.0f} of {blocks} blocks, "
            f"{driver_met} driver after {moments[1]:.0f}; {wrong} differences so far",
            flush=True,
        )
    print(
        f"{runs} runs: {met} workers and {drivers} drivers killed while the run went on, "
        f"{wrong} differences"
    )
    print(
        f"journals: {counts.begun} blocks handed out, {counts.again} again, {counts.repeated} "
        f"again though finished"
    )
    return wrong + counts.repeated


def disturb(
    driver: Driver,
    nannies: list[subprocess.Popen[bytes]],
    out: Path,
    journal: Path,
    moments: tuple[float, float],
    chance: random.Random,
) -> tuple[int, int]:
    """Start a run, kill a worker and the driver; how many of each were killed in time.

    Args:
        driver: Makes runs.
        nannies: Of the workers.
        out: Of the outputs.
        journal: Where a second name of the run's journal goes.
        moments: Blocks that are done when a worker is killed, and when the driver is; it happens
            a random part of a block later.
        chance: Of all that is random.
    """
    process = driver.start(out)
    left = {"worker": moments[0], "driver": moments[1]}
    met = {"worker": 0, "driver": 0}
    done = 0
    while process.exitcode is None:
        # A run that ends removes its folders while they are looked into.
        with suppress(FileNotFoundError):
            keep_journal(out, journal)
            done = len(list(out.glob(".geohr-work/*/*/block-*.npz")))
        for kind in [kind for kind, moment in left.items() if moment <= done]:
            del left[kind]
            time.sleep(chance.uniform(0, BLOCK_SECONDS))
            if kind == "driver":
                process.kill()
                process.join()
                met[kind] += 1
                # The worker's moment may come while the second driver runs.
                process = driver.start(out)
            else:
                for pid in children(chance.choice(nannies)):
                    os.kill(pid, signal.SIGKILL)
                    met[kind] += 1
        time.sleep(POLL_SECONDS)
    return met["worker"], met["driver"]


if __name__ == "__main__":
    main()
