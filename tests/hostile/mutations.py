"""Mutated scenes and model files against the whole path of a run, network excepted.

    python -m tests.hostile.mutations [--scenes 2000] [--models 500]

Each case is a small valid file with some bytes changed, cut, doubled or overwritten by numbers
that are likely to hurt. A case passes when the run ends well or with an error of geohr's own; a
crash of the process, any other exception, more than 20 seconds, or more than 2 GB of memory is a
failure. Seeded: the same cases each time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import rasterio
import torch
from affine import Affine

from geohr._runtime.messages import take_over_messages
from geohr.encoding import Batch
from geohr.errors import GeohrError
from geohr.inference.pipeline import predict_rows
from geohr.models.card import Card, ClassLabel
from geohr.models.model import Model
from geohr.models.networks import build
from geohr.polygons import Tracer, TraceSettings
from geohr.scene import Scene
from geohr.stitching.mosaic import classify
from geohr.tiling.blocks import cut_blocks
from geohr.tiling.grid import Grid
from geohr.tiling.normalize import Normalizer, check_range

SECONDS_MAX = 20.0
KILOBYTES_MAX = 2_000_000
SIDE = 48
SHARED = 50
"""Cases that one process takes; a new one shows which case has taken the memory."""
NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
LAYOUTS: list[dict[str, object]] = [
    {},
    {"compress": "deflate", "tiled": True, "blockxsize": 16, "blockysize": 16},
    {"compress": "lzw", "predictor": 2},
    {"compress": "jpeg", "photometric": "ycbcr", "interleave": "pixel"},
    {"compress": "zstd", "interleave": "pixel", "bigtiff": "yes"},
    {"compress": "lerc"},
    {"compress": "webp", "interleave": "pixel"},
    {"nodata": 7, "compress": "packbits"},
]
RAW = Normalizer(0, 255, (0.5,) * 3, (0.25,) * 3, clip=False)


class Half:
    """Scores that follow the first band."""

    batch = 2
    workers = 1
    engine = "half"

    def predict(self, pixels: Batch) -> Batch:
        """See `geohr.engines.predictor.Predictor`."""
        return np.clip(pixels[:, :1] / 4 + 0.5, 0, 1)


def run_scene(path: Path) -> None:
    """All that a run does with a scene, with a fake of the network."""
    scene = Scene.open(path).select(("red", "green", "blue"))
    grid = Grid(scene.height, scene.width, 32, 8)
    check_range(scene, RAW)
    tracer = Tracer(TraceSettings(scene.geobox))
    if len(cut_blocks(grid)) > 2000:
        raise GeohrError("larger than what is mutated here can be")
    rows = predict_rows(scene, grid, Half(), normalizer=RAW, classes=1, blend="hann")
    for each in rows:
        tracer.push(classify(each.probabilities, 0.5), each.probabilities)
    tracer.finish()


def run_model(path: Path) -> None:
    """All that a run does with a model file before it predicts."""
    model = Model.load(path)
    with torch.no_grad():
        model.network(torch.zeros(1, len(model.card.bands), 32, 32))


RUNS: dict[str, Callable[[Path], None]] = {"scene": run_scene, "model": run_model}


def mutate(content: bytes, chance: random.Random, *, head: int) -> bytes:
    """A few changes, more of them in the first `head` bytes, where the structure is."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        place = chance.randrange(min(head, len(changed)) if chance.random() < 0.8 else len(changed))
        kind = chance.randrange(6)
        if kind == 0:
            changed[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[place] = chance.randrange(256)
        elif kind == 2:
            number = struct.pack(chance.choice("<>") + "I", chance.choice(NUMBERS))
            changed[place : place + 4] = number
        elif kind == 3:
            number = struct.pack(chance.choice("<>") + "H", chance.choice(NUMBERS) & 0xFFFF)
            changed[place : place + 2] = number
        elif kind == 4:
            changed[place:place] = changed[place : place + chance.randrange(1, 64)]
        else:
            del changed[place : place + chance.choice((1, 4, 64, len(changed)))]
        if not changed:
            return b""
    return bytes(changed)


def scene_seeds(folder: Path) -> list[bytes]:
    """Small scenes of several layouts."""
    pixels = np.random.default_rng(0).integers(1, 256, (3, SIDE, SIDE), np.uint8)
    seeds = []
    for number, layout in enumerate(LAYOUTS):
        path = folder / f"seed{number}.tif"
        with rasterio.open(
            path, "w", driver="GTiff", dtype="uint8", count=3, height=SIDE, width=SIDE,
            crs="EPSG:32636", transform=Affine(0.5, 0, 450_000, 0, -0.5, 40_000), **layout,
        ) as raster:  # fmt: skip
            raster.write(pixels)
        seeds.append(path.read_bytes())
    return seeds


def model_seed(folder: Path) -> bytes:
    """A small model with random weights."""
    card = Card("random", "hrnetv2", "hrnetv2_w18_small_v1", (ClassLabel("thing", "#ff0000"),))
    path = folder / "seed.safetensors"
    torch.manual_seed(0)
    Model(build(card).eval(), card).save(path, half=True)
    return path.read_bytes()


def cases(kind: str, number: int, seeds: list[bytes]) -> Iterator[tuple[int, bytes]]:
    """Numbered mutations."""
    for index in range(number):
        chance = random.Random(f"{kind} {index}")
        seed = seeds[index % len(seeds)]
        head = 600 if kind == "scene" else 60_000
        yield index, mutate(seed, chance, head=head)


def serve(connection: Connection, kind: str) -> None:
    """Run cases as they come, in a process of its own."""
    torch.set_num_threads(1)
    take_over_messages()
    while True:
        path = Path(connection.recv())
        try:
            RUNS[kind](path)
            outcome = "fine"
        except GeohrError as error:
            outcome = f"refused ({type(error).__name__})"
        except BaseException as error:
            outcome = f"FAILED: {type(error).__name__}: {str(error)[:200]}"
        connection.send((outcome, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


class Process:
    """A process that runs cases.

    Args:
        kind: A name in `RUNS`.
    """

    def __init__(self, kind: str) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.hostile.mutations"])
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, kind), daemon=True)
        self._process.start()
        other.close()

    def run(self, path: Path) -> tuple[str, int]:
        """What became of a case, and the most memory so far in kilobytes."""
        self._connection.send(str(path))
        try:
            if not self._connection.poll(SECONDS_MAX):
                return f"FAILED: hangs for {SECONDS_MAX:g} s", 0
            outcome, memory = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            return f"FAILED: the process crashed with {self._process.exitcode}", 0
        if memory > KILOBYTES_MAX:
            return f"FAILED: took {memory / 1e6:.1f} GB", memory
        return outcome, memory

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.join()


def fuzz(kind: str, number: int, seeds: list[bytes], folder: Path) -> int:
    """Run all cases of a kind; print the counts and each failure; how many failed."""
    outcomes: Counter[str] = Counter()
    slowest, most, failures = 0.0, 0, 0
    process = Process(kind)
    for index, content in cases(kind, number, seeds):
        path = folder / f"case{'.tif' if kind == 'scene' else '.safetensors'}"
        path.write_bytes(content)
        started = time.monotonic()
        outcome, memory = process.run(path)
        slowest, most = max(slowest, time.monotonic() - started), max(most, memory)
        outcomes[outcome.partition(":")[0]] += 1
        if outcome.startswith("FAILED"):
            failures += 1
            print(f"  {kind} {index}: {outcome}", flush=True)
        if outcome.startswith("FAILED") or index % SHARED == SHARED - 1:
            process.end()
            process = Process(kind)
    process.end()
    listed = ", ".join(f"{times} {outcome}" for outcome, times in outcomes.most_common())
    print(
        f"{kind}: {number} cases: {listed}; slowest {slowest:.1f} s, "
        f"most memory {most / 1e6:.2f} GB",
        flush=True,
    )
    return failures


def main() -> None:
    """Fuzz both; exits with 1 after any failure."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--scenes", type=int, default=2000)
    arguments.add_argument("--models", type=int, default=500)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="geohr-fuzz-") as name:
        folder = Path(name)
        failures = fuzz("scene", chosen.scenes, scene_seeds(folder), folder)
        failures += fuzz("model", chosen.models, [model_seed(folder)], folder)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
