"""Everything but the network, in million pixels a second: reading, stitching, writing, tracing.

`python -m benchmarks.stitching` runs a scene of houses through `geohr segment`'s own loop with a
predictor that takes no time, and names what the outputs cost beside reading and stitching alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.scenes import ReadOff, write_town
from geohr.engines.calibration import Calibration
from geohr.engines.cores import cores
from geohr.engines.predictor import Engine
from geohr.inference.executor import LocalExecutor
from geohr.inference.job import Job
from geohr.models.card import Card, ClassLabel
from geohr.options import SegmentOptions
from geohr.outputs.write import OutputPaths, write_outputs
from geohr.scene import Scene
from geohr.tiling.blocks import downward
from geohr.tiling.grid import Grid
from geohr.tiling.normalize import Normalizer

PROBS = "probs.tif"
OUTPUTS = {
    "rows alone": (),
    "classes.tif": ("classes.tif",),
    PROBS: (PROBS,),
    "objects.gpkg": ("objects.gpkg",),
    "all three": ("classes.tif", PROBS, "objects.gpkg"),
}


CARD = Card("houses", "none", "none", (ClassLabel("house", "#e6550d"),))
"""What a run asks of a model besides predicting."""


def fake_job(path: str | Path, *, polygons: bool = True) -> Job:
    """A run over a scene of `benchmarks.scenes` without a network."""
    options = SegmentOptions(tile=512, threshold=0.5, min_area=0.0)
    scene = Scene.open(path, options)
    grid = Grid(scene.height, scene.width, 512, round(512 * options.overlap))
    calibration = Calibration(scene, grid, Normalizer.of(CARD, None))
    engine = Engine(ReadOff.engine, 1)
    return Job(
        scene, CARD, "0" * 64, options, grid, downward(grid), calibration, engine, polygons=polygons
    )


def seconds(path: Path, folder: Path, names: tuple[str, ...]) -> tuple[float, float, int]:
    """Seconds to write some outputs, seconds of all cores together, and the objects found."""
    started, worked = time.perf_counter(), time.process_time()
    job = fake_job(path, polygons="objects.gpkg" in names)
    written = write_outputs(
        job,
        LocalExecutor(ReadOff(0.3, workers=cores())).chunks(job),
        OutputPaths(
            tuple(folder / name for name in names if name != PROBS),
            probs=folder / PROBS if PROBS in names else None,
        ),
    )
    taken, cpu = time.perf_counter() - started, time.process_time() - worked
    return taken, cpu, written.found.objects.total()


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
        best = dict.fromkeys(OUTPUTS, (float("inf"), float("inf")))
        objects = 0
        for _ in range(args.rounds):
            for label, names in OUTPUTS.items():
                taken, worked, found = seconds(path, Path(folder), names)
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
