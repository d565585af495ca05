"""A whole `geohr segment` of one window with a warm cache, beside `import torch`.

`python -m benchmarks.startup` starts each as a process of its own, in turns.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.scenes import write_town


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="buildings", help="a bundled name or a file")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scene = write_town(Path(folder) / "scene.tif", height=512, width=512)
        segment = [sys.executable, "-m", "geohr_cli", "segment", str(scene), "--overwrite"]
        segment += ["--out", str(Path(folder) / "objects.gpkg"), "--model", args.model]
        commands = {
            "geohr segment": segment,
            "import torch": [sys.executable, "-c", "import torch"],
        }
        seconds(segment)
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(args.rounds):
            for name, command in commands.items():
                taken[name].append(seconds(command))
    medians = {name: float(np.median(values)) for name, values in taken.items()}
    for name, values in taken.items():
        print(f"{name:<16}{medians[name]:>7.2f} s in the median, {min(values):.2f} s at best")
    print(f"ratio {medians['geohr segment'] / medians['import torch']:.2f}")


if __name__ == "__main__":
    main()
