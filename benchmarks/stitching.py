"""Everything but the network, in million pixels a second: reading, stitching, writing, tracing.

`python -m benchmarks.stitching` runs a scene of houses through `geohr segment`'s own loop with a
predictor that takes no time, and names what the outputs cost beside reading and stitching alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.scenes import ReadOff, write_town
from geohr.engines.cores import cores
from geohr.inference.job import Job
from geohr.inference.postprocess import Products, finish_rows
from geohr.models.card import Card, ClassLabel
from geohr.options import SegmentOptions
from geohr.outputs.write import OutputPaths, write_outputs
from geohr.scene import Scene
from geohr.tiling.blocks import downward
from geohr.tiling.grid import Grid

PROBS = "probs.tif"
OUTPUTS = {
    "rows alone": (),
    "classes.tif": ("classes.tif",),
    PROBS: (PROBS,),
    "objects.gpkg": ("objects.gpkg",),
    "all three": ("classes.tif", PROBS, "objects.gpkg"),
}


class NoModel:
    """What a run asks of a model besides predicting."""

    card = Card("houses", "none", "none", (ClassLabel("house", "#e6550d"),))
    digest = "0" * 64


def fake_run(path: str | Path) -> Job:
    """A run over a scene of `benchmarks.scenes` without a network."""
    options = SegmentOptions(tile=512, threshold=0.5, min_area=0.0)
    scene = Scene.open(path, options)
    grid = Grid(scene.height, scene.width, 512, round(512 * options.overlap))
    predictor = ReadOff(0.3, workers=cores())
    model: Any = NoModel()
    return Job(scene, model, options, grid, predictor, downward(grid))


def seconds(run: Job, folder: Path, names: tuple[str, ...]) -> tuple[float, float, int]:
    """Seconds to write some outputs, seconds of all cores together, and the objects found."""
    started, worked = time.perf_counter(), time.process_time()
    wanted = Products(polygons="objects.gpkg" in names, rows=True)
    written = write_outputs(
        run,
        finish_rows(run, run.rows(None), wanted),
        OutputPaths(
            tuple(folder / name for name in names if name != PROBS),
            probs=folder / PROBS if PROBS in names else None,
        ),
    )
    return time.perf_counter() - started, time.process_time() - worked, written.objects


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=8192, help="rows and columns of the scene")
    parser.add_argument("--compress", default="jpeg", help="jpeg, deflate, lzw or none")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = write_town(
            Path(folder) / "town.tif", height=args.side, width=args.side, compress=args.compress
        )
        run = fake_run(path)
        best = dict.fromkeys(OUTPUTS, (float("inf"), float("inf")))
        objects = 0
        for _ in range(args.rounds):
            for label, names in OUTPUTS.items():
                taken, worked, found = seconds(run, Path(folder), names)
                best[label] = (min(best[label][0], taken), min(best[label][1], worked))
                objects = max(objects, found)
        pixels = args.side**2 / 1e6
        print(f"{pixels:.0f} Mpx, {args.compress}, {objects} objects, best of {args.rounds}")
        print(f"{'outputs':<14}{'seconds':>9}{'Mpx/s':>8}{'CPU s':>8}{'Mpx/CPU s':>11}")
        for label, (taken, worked) in best.items():
            print(
                f"{label:<14}{taken:>9.2f}{pixels / taken:>8.1f}{worked:>8.2f}"
                f"{pixels / worked:>11.1f}"
            )


if __name__ == "__main__":
    main()
