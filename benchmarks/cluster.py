"""How much faster two Dask workers are than one, and what Dask costs beside a run without it.

    python -m benchmarks.cluster [--rounds 3] [--outputs polygons|all]

The sample scene, repeated down and across, is segmented with `--dask local:1`, with `--dask
local:2`, and without Dask on one core, in turns. The ratio is of the seconds that each run reports,
which begin when its workers are connected. What this machine's second core is worth is measured in
the same rounds, by two runs without Dask at the same time. The outputs of all runs are compared.
Both cores must be idle.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio

SCENE = Path(__file__).parents[1] / "examples" / "data" / "kampala.tif"
OUTPUTS = {
    "polygons": {"--out": "a.gpkg"},
    "all": {"--out": "a.gpkg", "--probs": "p.tif"},
}


def main() -> None:
    """Run the rounds and print a table; exits with 1 where the bytes of two runs differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=4, help="times down and across")
    parser.add_argument("--model", default="buildings", help="a bundled name or a file")
    parser.add_argument("--block", default="2x2", help="windows of a block")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--outputs", choices=OUTPUTS, default="polygons")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="geohr-cluster-") as name:
        folder = Path(name)
        scene = repeated(SCENE, chosen.repeat, folder / "scene.tif")
        command = ["segment", str(scene), "--model", chosen.model, "--gsd", "native"]
        dask = {
            count: [*command, "--dask", f"local:{count}", "--block", chosen.block]
            for count in (1, 2)
        }
        rows: dict[str, list[float]] = {}
        seen = set()
        for turn in range(chosen.rounds):
            for label, commands in (
                ("without Dask, one core", [command]),
                ("two of these at once", [command, command]),
                ("one worker", [dask[1]]),
                ("two workers", [dask[2]]),
            ):
                outs = [folder / f"{turn}-{label}-{place}" for place in range(len(commands))]
                names = OUTPUTS[chosen.outputs]
                rows.setdefault(label, []).append(max(run(commands, outs, names)))
                seen |= {contents(out) for out in outs}
    middle = {label: statistics.median(seconds) for label, seconds in rows.items()}
    one, alone = middle["one worker"], middle["without Dask, one core"]
    times = {
        "two of these at once": 2 * alone / middle["two of these at once"],
        "two workers": one / middle["two workers"],
    }
    print(f"{'':24} {'s':>7} {'times one':>10}   rounds")
    for label, seconds in middle.items():
        ratio = f"{times[label]:10.2f}" if label in times else f"{'':10}"
        print(f"{label:24} {seconds:7.1f} {ratio}   {' '.join(f'{s:.1f}' for s in rows[label])}")
    print(f"same bytes: {'yes' if len(seen) == 1 else 'NO'}")
    sys.exit(len(seen) != 1)


def repeated(scene: Path, times: int, path: Path) -> Path:
    """A scene several times down and across, in one raster."""
    with rasterio.open(scene) as source:
        pixels = np.tile(source.read(), (1, times, times))
        profile = {
            "driver": "GTiff", "dtype": pixels.dtype, "count": pixels.shape[0],
            "height": pixels.shape[1], "width": pixels.shape[2], "crs": source.crs,
            "transform": source.transform, "tiled": True, "compress": "deflate",
        }  # fmt: skip
    with rasterio.open(path, "w", **profile) as target:
        target.write(pixels)
    return path


def run(
    commands: Sequence[Sequence[str]], outs: Sequence[Path], names: dict[str, str]
) -> list[float]:
    """Run commands at the same time; the seconds that each reports.

    A run without Dask is pinned to a core of its own; Dask's workers have one thread each.
    """
    running = []
    for core, command, out in zip(sorted(os.sched_getaffinity(0)), commands, outs, strict=False):
        out.mkdir()
        files = [part for option, name in names.items() for part in (option, str(out / name))]
        full = [sys.executable, "-m", "geohr_cli", *command, *files, "--log-format", "json"]
        pinned = full if "--dask" in command else ["taskset", "-c", str(core), *full]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        quiet = subprocess.DEVNULL
        running.append(subprocess.Popen(pinned, stdout=subprocess.PIPE, stderr=quiet, env=env))
    printed = [each.communicate()[0] for each in running]
    if any(each.returncode for each in running):
        raise SystemExit(f"a run failed: {commands}")
    return [float(json.loads(text.splitlines()[-1])["seconds"]) for text in printed]


def contents(folder: Path) -> tuple[bytes, ...]:
    """The bytes of all outputs in a folder, in the order of their names."""
    return tuple(path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file())


if __name__ == "__main__":
    main()
