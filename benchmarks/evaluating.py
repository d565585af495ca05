"""`geohr evaluate` on cities of more and more polygons: seconds, peak memory, and the right score.

`python -m benchmarks.evaluating` writes a lattice of houses as the truth and the same houses, moved
by a metre, as what was found; every tenth is missing there. Each size runs as a whole process, and
its object F1 is compared with what the lattice says it must be.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import geopandas
import numpy as np
import shapely

from benchmarks.peers import WATCH

SIZES = (10_000, 100_000, 1_000_000)
"""Houses."""
HOUSE, PITCH, MOVED = 10.0, 20.0, 1.0
"""Metres: the side of a house, from one to the next, and by how much it is found beside it."""
CRS = "EPSG:32645"
MISSING = 10
"""One house in as many is not found."""


def write_city(path: Path, count: int, *, found: bool) -> None:
    """A square of houses as a GPKG."""
    side = round(np.sqrt(count))
    number = np.arange(side * side)
    if found:
        number = number[number % MISSING > 0]
    x = 300_000 + number % side * PITCH + MOVED * found
    y = 3_000_000 + number // side * PITCH
    houses = shapely.box(x, y, x + HOUSE, y + HOUSE)
    geopandas.GeoDataFrame(geometry=houses, crs=CRS).to_file(path)


def main() -> None:
    """Write, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    args = parser.parse_args()
    print(f"{'polygons':>10}{'s':>8}{'peak MB':>9}{'object F1':>11}{'must be':>9}")
    for count in args.sizes:
        with tempfile.TemporaryDirectory() as name:
            truth, found = Path(name) / "truth.gpkg", Path(name) / "found.gpkg"
            write_city(truth, count, found=False)
            write_city(found, count, found=True)
            scores = Path(name) / "scores.json"
            command = [sys.executable, "-m", "geohr_cli", "evaluate", str(found), str(truth)]
            started = time.perf_counter()
            told = subprocess.run(
                [sys.executable, "-c", WATCH, *command, "--out", str(scores)],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            ).stdout
            seconds = time.perf_counter() - started
            scored = json.loads(scores.read_text())["scores"]["object_f1"]
        peak = int(told.rstrip().rpartition("\n")[2])
        share = 1 - 1 / MISSING
        must = 2 * share / (1 + share)
        print(
            f"{count:>10}{seconds:>8.1f}{peak / 1e3:>9.0f}{scored:>11.4f}{must:>9.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
