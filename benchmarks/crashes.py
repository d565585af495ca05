"""Runs that are killed, run out of disk or meet a failing disk, against one that is left alone.

    python -m benchmarks.crashes [--runs 100] [--faults 20]

A crop of the sample scene is segmented by a small network with random weights, once by the command
and then by processes that have their imports behind them. Each run ends by SIGKILL at a random
moment, some several times, and is then left to finish; the outputs must be the bytes of the
undisturbed command's. From each run's journal: how many blocks were begun, done and
begun again, and whether any finished block was ever begun again. Then the same with a disk that
is too small (a tmpfs, for which one has to be root) and with a disk whose writes fail (a library
that is loaded before libc; for which there has to be a C compiler).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

import rasterio
import torch
from rasterio.windows import Window

from geohr.api.segment import segment_to_files
from geohr.inference.cleanup import clean_folder
from geohr.models.card import Card, ClassLabel
from geohr.models.model import Model
from geohr.models.networks import build
from geohr.options import SegmentOptions

SCENE = Path(__file__).parent.parent / "examples" / "data" / "kampala.tif"
SHIM = Path(__file__).parent / "failing_writes.c"
OUTPUTS = ("out.gpkg", "out.tif", "probs.tif")
TILE = 64


@dataclass
class Counts:
    """What the journals of many runs say.

    Attributes:
        begun: Blocks begun.
        again: Blocks begun again after a kill.
        repeated: Blocks begun again though they had been finished: must stay 0.
        in_flight: By kill, the blocks that were begun and not finished.
    """

    begun: int = 0
    again: int = 0
    repeated: int = 0
    in_flight: list[int] = field(default_factory=list)


def main() -> None:
    """Run it all and print what was found; exits with 1 after any difference."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--runs", type=int, default=100, help="runs that are killed")
    arguments.add_argument("--faults", type=int, default=20, help="runs with a full or bad disk")
    arguments.add_argument("--size", type=int, default=640, help="side of the crop in pixels")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--backend", default="auto")
    chosen = arguments.parse_args()
    chance = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory(prefix="geohr-crashes-") as folder:
        home = Path(folder)
        command = [*prepare(home, chosen.size), "--backend", chosen.backend]
        reference = undisturbed(home, command)
        wrong = killed(Segment(home, chosen.backend), reference, chosen.runs, chance)
        if chosen.faults:
            wrong += full_disk(home, command, reference, chosen.faults, chance)
            wrong += failing_disk(home, command, reference, chosen.faults, chance)
    sys.exit(1 if wrong else 0)


def prepare(home: Path, size: int) -> list[str]:
    """The crop, the model, and the command that segments the one with the other."""
    with rasterio.open(SCENE) as scene:
        window = Window(300, 300, size, size)
        profile = scene.profile | {
            "width": size,
            "height": size,
            "transform": scene.window_transform(window),
            "photometric": "rgb",
            "compress": "deflate",
        }
        with rasterio.open(home / "scene.tif", "w", **profile) as crop:
            crop.write(scene.read(window=window))
    card = Card("random", "hrnetv2", "hrnetv2_w18_small_v1", (ClassLabel("thing", "#ff0000"),))
    torch.manual_seed(0)
    Model(build(card).eval(), card).save(home / "model.safetensors")
    return [
        *(sys.executable, "-m", "geohr_cli", "segment", str(home / "scene.tif")),
        *("--model", str(home / "model.safetensors"), "--tile", str(TILE), "--quiet"),
    ]


@dataclass(frozen=True)
class Segment:
    """Runs in processes that have imported everything before they start.

    Attributes:
        home: With the scene and the model.
        backend: The engine's name.
    """

    home: Path
    backend: str

    def start(self, out: Path) -> BaseProcess:
        """A run that writes to the folder `out`."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["geohr.api.segment", "geohr.engines.torch"])
        process = context.Process(target=self.run, args=(out,))
        process.start()
        return process

    def run(self, out: Path) -> None:
        """What the command does."""
        segment_to_files(
            self.home / "scene.tif",
            [out / "out.gpkg", out / "out.tif"],
            probs=out / "probs.tif",
            model=self.home / "model.safetensors",
            options=SegmentOptions(tile=TILE, backend=self.backend),  # type: ignore[arg-type]
        )

    def finish(self, out: Path) -> float:
        """Run to the end; how long it took."""
        started = time.monotonic()
        process = self.start(out)
        process.join()
        if process.exitcode:
            raise SystemExit(f"a run ended with {process.exitcode}")
        return time.monotonic() - started

    def kill_after(self, seconds: float, out: Path) -> bool:
        """Start a run and kill it; whether it was still running."""
        process = self.start(out)
        process.join(seconds)
        if process.exitcode is not None:
            return False
        process.kill()
        process.join()
        return True


def undisturbed(home: Path, command: Sequence[str]) -> dict[str, bytes]:
    """The outputs of a run that nobody disturbs."""
    out = home / "reference"
    out.mkdir()
    subprocess.run([*command, *outputs(out)], check=True)
    return {name: (out / name).read_bytes() for name in OUTPUTS}


def outputs(folder: Path) -> list[str]:
    """The options that name the outputs."""
    classes = ("--out", str(folder / "out.gpkg"), "--out", str(folder / "out.tif"))
    return [*classes, "--probs", str(folder / "probs.tif")]


def killed(
    segment: Segment, reference: Mapping[str, bytes], runs: int, chance: random.Random
) -> int:
    """Runs that are killed once or several times; how many ended with other bytes."""
    counts, kills, wrong = Counts(), 0, 0
    warm = segment.home / "warm"
    warm.mkdir()
    segment.finish(warm)
    shutil.rmtree(warm)
    warm.mkdir()
    seconds = segment.finish(warm)
    wrong += differing(warm, reference)
    print(f"undisturbed: {seconds:.1f} s, {wrong} differences to the command's outputs")
    for number in range(runs):
        out = segment.home / "killed"
        out.mkdir()
        journal = segment.home / f"journal-{number}.jsonl"
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            kills += segment.kill_after(chance.uniform(0, 1) * seconds, out)
            keep_journal(out, journal)
            wrong += differing(out, reference)
            if len(present(out)) == len(OUTPUTS):
                break
        if len(present(out)) < len(OUTPUTS) or any(out.glob(".geohr-work/*/*/journal.jsonl")):
            segment.finish(out)
        else:
            # Done, or killed while the last of the work folder was removed.
            list(clean_folder(out))
        wrong += differing(out, reference)
        wrong += sorted(each.name for each in out.iterdir()) != sorted(OUTPUTS)
        count(journal, counts)
        shutil.rmtree(out)
    print(f"killed: {runs} runs, {kills} kills that met a running process, {wrong} differences")
    print(
        f"journals: {counts.begun} blocks begun, {counts.again} begun again, "
        f"{counts.repeated} begun again though finished; in flight when killed: "
        f"{statistics.fmean(counts.in_flight or [0]):.1f} on average, "
        f"{max(counts.in_flight, default=0)} at most"
    )
    return wrong + counts.repeated


def keep_journal(out: Path, journal: Path) -> None:
    """Hold on to a run's journal under a second name, for the run removes it when it is done."""
    for path in out.glob(".geohr-work/*/*/journal.jsonl"):
        if not journal.exists():
            os.link(path, journal)


def count(journal: Path, counts: Counts) -> None:
    """Add what a journal says to the counts."""
    if not journal.exists():
        return
    finished: set[int] = set()
    running: set[int] = set()
    ever: set[int] = set()
    for text in journal.read_text().splitlines():
        event = json.loads(text)
        if event["event"] == "start":
            # A block may have been finished a moment before its line was written.
            finished |= set(event["reused"])
            if ever:
                counts.in_flight.append(len(running - finished))
            running = set()
        elif "block" not in event:
            continue  # a band of rows, which is made of blocks
        elif event["event"] == "begin":
            counts.begun += 1
            counts.again += event["block"] in ever
            counts.repeated += event["block"] in finished
            running.add(event["block"])
            ever.add(event["block"])
        elif event["event"] == "done":
            finished.add(event["block"])
            running.discard(event["block"])


def present(out: Path) -> list[str]:
    """Outputs that are there under their final name."""
    return [name for name in OUTPUTS if (out / name).exists()]


def differing(out: Path, reference: Mapping[str, bytes]) -> int:
    """How many of the outputs that are there are not the reference's bytes."""
    return sum((out / name).read_bytes() != reference[name] for name in present(out))


def full_disk(
    home: Path,
    command: Sequence[str],
    reference: Mapping[str, bytes],
    runs: int,
    chance: random.Random,
) -> int:
    """Runs on a disk that another program fills up meanwhile; how many went wrong."""
    disk = home / "disk"
    disk.mkdir()
    codes: dict[int, int] = {}
    wrong = 0
    for _ in range(runs):
        mount = ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(disk)]
        if subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode:
            print("full disk: not run; a tmpfs cannot be mounted here")
            return wrong
        try:
            run = subprocess.Popen(
                [*command, *outputs(disk)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            while run.poll() is None and not any(disk.iterdir()):
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.8))
            fill(disk / "filler", left=chance.randrange(0, 1000) * 1024)
            told = run.communicate()[1].decode()
            codes[run.returncode] = codes.get(run.returncode, 0) + 1
            if run.returncode:
                bad = bool(present(disk)) + (run.returncode != 6) + ("no space left" not in told)
                if bad:
                    print(f"  code {run.returncode}, {present(disk)}: {told.strip()}")
                wrong += bad
            (disk / "filler").unlink()
            subprocess.run([*command, *outputs(disk), "--overwrite"], check=True)
            wrong += differing(disk, reference) + (len(present(disk)) != len(OUTPUTS))
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    listed = ", ".join(f"code {code}: {times}" for code, times in sorted(codes.items()))
    print(f"full disk: {runs} runs ({listed}), {wrong} wrong after room was made")
    return wrong


def fill(path: Path, *, left: int) -> None:
    """Write a file that leaves its disk so many bytes."""
    free = shutil.disk_usage(path.parent).free
    with path.open("wb") as file, suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, max(free - left, 1))


def failing_disk(
    home: Path,
    command: Sequence[str],
    reference: Mapping[str, bytes],
    runs: int,
    chance: random.Random,
) -> int:
    """Runs on a disk whose writes fail or stall from some byte on; how many went wrong."""
    library = home / "failing_writes.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        print("failing disk: not run; there is no C compiler")
        return 0
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SHIM, "-ldl"], check=True)
    codes: dict[int, int] = {}
    wrong = 0
    for number in range(runs):
        out = home / "failing"
        out.mkdir()
        environment = {
            **os.environ,
            "LD_PRELOAD": str(library),
            "FAILING_FOLDER": str(out),
            "FAILING_AFTER": str(chance.randrange(0, 6_000_000)),
            "FAILING_STALL": str(number % 2),
        }
        ended = subprocess.run(
            [*command, *outputs(out)],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        codes[ended.returncode] = codes.get(ended.returncode, 0) + 1
        if ended.returncode:
            bad = bool(present(out)) + (ended.returncode != 6)
            if bad:
                print(f"  code {ended.returncode}, {present(out)}: {ended.stderr.strip()}")
            wrong += bad
        subprocess.run([*command, *outputs(out), "--overwrite"], check=True)
        wrong += differing(out, reference) + (len(present(out)) != len(OUTPUTS))
        shutil.rmtree(out)
    listed = ", ".join(f"code {code}: {times}" for code, times in sorted(codes.items()))
    print(f"failing disk: {runs} runs ({listed}), {wrong} wrong after the disk was mended")
    return wrong


if __name__ == "__main__":
    main()
