"""Time and memory of `geohr change` by the number of objects: `python -m benchmarks.change_size N`.

Footprints over a city, each turned and drawn anew for the later date with corners that are 0.3 m
off, all a metre to the east; 5 in 100 are gone, and as many are new.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from pyogrio.raw import write

from geohr.workflows.change.compare import Date, compare

UTM = "EPSG:32636"
GAP = 25.0
"""Metres from house to house."""
CHANGED = 0.05
CARELESS = 0.3
"""Metres by which corners of the later date are off."""


def houses(count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """`(count, 4, 2)` corners of houses on a loose grid, each turned by its own angle."""
    side = int(np.ceil(count**0.5))
    row, col = np.divmod(np.arange(count), side)
    middle = np.column_stack([col, row]) * GAP + random.uniform(0, 5, (count, 2))
    half = random.uniform(3, 7, (count, 1, 2)) * [[-1, -1], [1, -1], [1, 1], [-1, 1]]
    angle = random.uniform(0, np.pi / 2, count)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.einsum("ijn,nkj->nki", turn, half) + middle[:, None]
    return np.asarray(corners + np.array([450_000, 30_000]), np.float64)


def write_footprints(path: Path, corners: NDArray[np.float64]) -> None:
    """Write houses to a GeoPackage."""
    shapes = shapely.polygons(corners)
    write(
        path, shapely.to_wkb(shapes), [], np.zeros(0, object), layer="objects", driver="GPKG",
        geometry_type="Polygon", crs=UTM,
    )  # fmt: skip


def write_dates(folder: Path, count: int) -> None:
    """Write `before.gpkg` and `after.gpkg`."""
    random = np.random.default_rng(0)
    changed = round(CHANGED * count)
    corners = houses(count + changed, random)
    random.shuffle(corners)
    write_footprints(folder / "before.gpkg", corners[:count])
    later = corners[changed:] + random.normal(0, CARELESS, (count, 4, 2)) + np.array([1.0, 0.0])
    write_footprints(folder / "after.gpkg", later)


def main() -> None:
    """Print the line of a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own, so that its memory is not counted.
        maker = multiprocessing.get_context("spawn").Process(
            target=write_dates, args=(Path(folder), count)
        )
        maker.start()
        maker.join()
        begun, cpu = time.monotonic(), time.process_time()
        before, after = (str(Path(folder) / name) for name in ("before.gpkg", "after.gpkg"))
        counts = compare(Date(before), Date(after), Path(folder) / "changes.gpkg")
        spent, cpu = time.monotonic() - begun, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = ", ".join(f"{number} {kind}" for kind, number in counts.objects.items() if number)
    print("| objects on each date | time | CPU time | largest memory | found |")
    print("|---|---|---|---|---|")
    print(f"| {count:,} | {spent:.0f} s | {cpu:.0f} s | {peak / 1024:.0f} MB | {told} |")


if __name__ == "__main__":
    main()
