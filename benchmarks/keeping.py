"""What keeping finished blocks costs a run that nothing disturbs.

    python -m benchmarks.keeping [--rounds 3] [--tile 256]

The sample scene is segmented with and without --resume in turns, in one process with the engine
compiled. Processor seconds are compared, which other programs on the machine change little, and
beside them the seconds on the clock.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from geohr.api.segment import segment_to_files
from geohr.models.model import resolve_model
from geohr.options import SegmentOptions

SCENE = Path(__file__).parent.parent / "examples" / "data" / "kampala.tif"


def main() -> None:
    """Measure and print a table."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--tile", type=int, default=256)
    chosen = arguments.parse_args()
    model, options = resolve_model(None), SegmentOptions(tile=chosen.tile)
    spent: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    blocks = 0
    with tempfile.TemporaryDirectory() as folder:
        # The first two runs fill caches and do not count.
        for number in range(2 + 2 * chosen.rounds):
            keeps = number % 2 == 0
            started, worked = time.perf_counter(), time.process_time()
            summary = segment_to_files(
                SCENE,
                [Path(folder) / f"{number}.gpkg"],
                model=model,
                options=options,
                resume=keeps,
            )
            blocks = summary.blocks
            if number >= 2:
                seconds = time.process_time() - worked, time.perf_counter() - started
                spent[keeps].append(seconds)
    print(f"{SCENE.name}, {blocks} blocks, {chosen.rounds} rounds, medians")
    print(f"{'':16}{'processor s':>12}{'clock s':>10}")
    medians = {}
    for keeps, name in ((False, "without blocks"), (True, "with blocks")):
        worked, clock = (statistics.median(column) for column in zip(*spent[keeps], strict=True))
        medians[keeps] = worked
        print(f"{name:16}{worked:12.2f}{clock:10.2f}")
    print(f"{'more':16}{medians[True] / medians[False] - 1:12.1%}")


if __name__ == "__main__":
    main()
