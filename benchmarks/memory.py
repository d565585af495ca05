"""Peak memory of a whole run by the scene's size: flat in its height, linear in its width.

`python -m benchmarks.memory` runs scenes of houses, each in a process of its own, through the
loop of `geohr segment` with all three kinds of outputs. The scenes are one small file repeated by
a VRT, so that they take no room. With `--model` the engine is loaded and predicts the first
windows, so that its memory counts; the rest is predicted by a function that takes no time.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.scenes import PATTERN, ReadOff, write_town, write_vrt
from benchmarks.stitching import fake_job
from geohr.engines import open_predictor
from geohr.engines.cores import cores
from geohr.inference.executor import LocalExecutor
from geohr.models.model import Model
from geohr.options import EngineOptions
from geohr.outputs.write import OutputPaths, write_outputs

SIZES = ((10_000, 10_000), (160_000, 10_000), (20_000, 20_000), (40_000, 40_000))
"""Rows and columns."""
REAL_WINDOWS = 4
"""Windows that the engine itself predicts."""


class First(ReadOff):
    """A real predictor for the first windows, and then one that takes no time."""

    def __init__(self, model: Path, *, workers: int) -> None:
        super().__init__(0.3, workers=workers)
        self._real = open_predictor(Model.load(model), 512, EngineOptions())
        self._left = REAL_WINDOWS

    def predict(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores `(n, 1, row, col)`; those of the real network are not used."""
        if self._left > 0:
            self._left -= 1
            self._real.predict(pixels)
        return super().predict(pixels)


def peak() -> float:
    """Largest resident memory of this process so far, in MB."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    if found is None:
        raise SystemExit("the kernel does not say how much memory a process had")
    return int(found[1]) / 1000


def measure(scene: Path, model: Path | None) -> None:
    """Run one scene and print what it took as JSON; for a process of its own."""
    job = fake_job(scene)
    predictor = ReadOff(0.3, workers=cores())
    if model is not None:
        predictor = First(model, workers=cores())
    before = peak()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=scene.parent) as folder:
        written = write_outputs(
            job,
            LocalExecutor(predictor).chunks(job),
            OutputPaths(
                (Path(folder) / "objects.gpkg", Path(folder) / "classes.tif"),
                probs=Path(folder) / "probs.tif",
            ),
        )
    print(
        json.dumps(
            {
                "before": before,
                "peak": peak(),
                "seconds": time.perf_counter() - started,
                "objects": written.found.objects.total(),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="a .safetensors file whose engine is loaded")
    parser.add_argument("--folder", type=Path, help="for scenes and outputs")
    parser.add_argument("--sizes", nargs="*", help="rows x columns, such as 10000x10000")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        measure(args.one, args.model)
        return
    sizes = [tuple(map(int, each.split("x"))) for each in args.sizes or ()] or SIZES
    print(f"{'rows':>8}{'columns':>9}{'start MB':>10}{'peak MB':>9}{'seconds':>9}{'objects':>9}")
    peaks = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        source = write_town(Path(folder) / "town.tif", height=PATTERN, width=PATTERN)
        for height, width in sizes:
            scene = write_vrt(Path(folder) / "scene.vrt", source, height=height, width=width)
            command = [sys.executable, "-m", "benchmarks.memory", "--one", str(scene)]
            if args.model is not None:
                command += ["--model", str(args.model)]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found = json.loads(told.splitlines()[-1])
            peaks[height, width] = found["peak"]
            print(
                f"{height:>8}{width:>9}{found['before']:>10.0f}{found['peak']:>9.0f}"
                f"{found['seconds']:>9.1f}{found['objects']:>9}",
                flush=True,
            )
    widths = {width: megabytes for (_, width), megabytes in peaks.items()}
    if len(widths) > 1:
        slope, base = np.polyfit(list(widths), list(widths.values()), 1)
        print(f"peak = {base:.0f} MB + {slope * 1000:.1f} MB for each 1,000 columns")
    heights = [value for (_, width), value in peaks.items() if width == min(widths)]
    if len(heights) > 1:
        print(f"highest scene over lowest, same width: {max(heights) / min(heights):.3f}")


if __name__ == "__main__":
    main()
