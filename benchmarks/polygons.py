"""Tracing a mask into a file: geohr against GDAL, rasterio and the vectorisers of other tools.

    python -m benchmarks.polygons [--side 20000] [--objects 100000] [--peers geohr,shapes,...]
        [--python geoai=VENV/bin/python --python ftw=VENV/bin/python] [--folder FOLDER]

The mask holds turned rectangles, some with a courtyard, written once to a tiled, compressed
GeoTIFF; every contestant reads that file in a process of its own and writes a GeoPackage, so that
its peak memory is its own. `shapes` and `shapes-band` are `rasterio.features.shapes` on the array
and on `rasterio.band`, written by pyogrio; `gdal_polygonize` is the command (Debian's gdal-bin);
`geoai` (geoai-py) and `ftw` (ftw-tools, which cuts objects at every 2,048 pixels) are run by the
Python that `--python` names for them, which has them, rasterio and pyogrio, or by this one where
they can be imported; their rows otherwise say what is missing. geohr's rows carry all attributes.

The mask and a row for each contestant that has finished are kept in the folder, if one is given:
the same command goes on where it stopped, and `--peers` takes one contestant at a time. The last
lines compare geohr with the fastest peer, and its memory with that at a quarter of the height,
which `--flat` measures on the mask's upper part.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window

Bytes = NDArray[np.uint8]

TRANSFORM = Affine(0.3, 0, 300_000, 0, -0.3, 4_000_000)
STAMPS = 64


def stamps(side: int) -> Bytes:
    """`(stamp, row, col)` rectangles turned by any angle; one in eight has a courtyard."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side] - side / 2
    made = np.zeros((STAMPS, side, side), np.uint8)
    for index in range(STAMPS):
        turn = generator.uniform(0, np.pi)
        half = generator.uniform(side / 8, side / 2.9, 2)
        along = np.abs(columns * np.cos(turn) + rows * np.sin(turn)) / half[0]
        across = np.abs(rows * np.cos(turn) - columns * np.sin(turn)) / half[1]
        far = np.maximum(along, across)
        made[index] = (far < 1) & ((far > 0.4) | (index % 8 > 0))
    return made


def mask_rows(side: int, objects: int) -> Iterator[Bytes]:
    """Bands of rows of a square mask with about so many objects."""
    cell = int(side / np.sqrt(objects))
    made = stamps(cell)
    generator = np.random.default_rng(1)
    across = side // cell
    for top in range(0, side, cell):
        band = np.zeros((min(cell, side - top), side), np.uint8)
        if len(band) == cell:
            chosen = made[generator.integers(0, STAMPS, across)]
            band[:, : across * cell] = chosen.transpose(1, 0, 2).reshape(cell, -1)
        yield band


def write_mask(path: Path, side: int, objects: int) -> None:
    """The mask as a GeoTIFF, streamed."""
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=side,
        height=side,
        count=1,
        dtype="uint8",
        crs="EPSG:32636",
        transform=TRANSFORM,
        tiled=True,
        blockxsize=512,
        blockysize=512,
        compress="deflate",
        predictor=1,
        zlevel=1,
    ) as file:
        held: list[Bytes] = []
        top = 0
        for band in [*mask_rows(side, objects)] if side <= 20_000 else mask_rows(side, objects):
            held.append(band)
            rows = np.concatenate(held)
            whole = len(rows) // 512 * 512
            if whole:
                file.write(rows[:whole], 1, window=Window(0, top, side, whole))
                top += whole
            held = [rows[whole:]]
        file.write(held[0], 1, window=Window(0, top, side, len(held[0])))


def geohr_with(**changes: object) -> Callable[[Path, Path], None]:
    """`geohr vectorize` with the given options."""

    def run(mask: Path, out: Path) -> None:
        from geohr.api.options import VectorizeOptions
        from geohr.api.vectorize import vectorize

        vectorize(mask, out, options=VectorizeOptions.from_mapping(changes, source="benchmark"))

    return run


def trace_only(mask: Path, _: Path) -> None:
    """Tracing and measuring without a file, for what the writing costs."""
    from geohr.geobox import GeoBox
    from geohr.polygons import Tracer, TraceSettings

    with rasterio.open(mask) as source:
        geobox = GeoBox(source.crs, source.transform, source.height, source.width)
        tracer = Tracer(TraceSettings(geobox))
        for top in range(0, source.height, 512):
            window = Window(0, top, source.width, min(512, source.height - top))
            tracer.push(source.read(1, window=window))
        tracer.finish()


def shapes_of(mask: Path, out: Path, *, band: bool) -> None:
    """`rasterio.features.shapes`, and its result written in one go."""
    import geopandas
    import shapely
    from rasterio.features import shapes

    with rasterio.open(mask) as source:
        if band:
            found = shapes(rasterio.band(source, 1), transform=source.transform)
        else:
            values = source.read(1)
            found = shapes(values, mask=values != 0, transform=source.transform)
        rows = [(shapely.geometry.shape(shape), value) for shape, value in found if value]
        table = geopandas.GeoDataFrame(
            {"value": [value for _, value in rows]},
            geometry=[shape for shape, _ in rows],
            crs=source.crs,
        )
    table.to_file(out)


def gdal_polygonize(mask: Path, out: Path) -> None:
    """The command; the mask is its own mask, so that the background is left out."""
    command = ["gdal_polygonize.py", "-q", "-mask", str(mask), str(mask), "-f", "GPKG", str(out)]
    subprocess.run(command, check=True)


def geoai_vector(mask: Path, out: Path) -> None:
    """Geoai's raster_to_vector, without its limit of area."""
    module = importlib.import_module("geoai.utils.raster")
    module.raster_to_vector(str(mask), str(out), min_area=0, output_format="gpkg")


def ftw_polygonize(mask: Path, out: Path) -> None:
    """ftw-tools' polygonize, without simplification or limits of area; it cuts at 2,048 pixels."""
    module = importlib.import_module("ftw_cli.polygonize")
    module.polygonize(str(mask), str(out), 0, 0, None, True, False)


CONTESTANTS: dict[str, Callable[[Path, Path], None]] = {
    "geohr": geohr_with(),
    "geohr-trace": trace_only,
    "geohr-contour": geohr_with(outline="contour"),
    "geohr-simplify": geohr_with(simplify=0.5),
    "geohr-regularize": geohr_with(regularize=True),
    "shapes": lambda mask, out: shapes_of(mask, out, band=False),
    "shapes-band": lambda mask, out: shapes_of(mask, out, band=True),
    "gdal_polygonize": gdal_polygonize,
    "geoai": geoai_vector,
    "ftw": ftw_polygonize,
}


def measure(python: str, name: str, mask: Path, out: Path) -> tuple[float, float, float]:
    """Seconds, seconds of processor and peak megabytes, in a process of its own."""
    command = [python, "-m", "benchmarks.polygons", "--run", name, str(mask), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    seconds, busy, peak = done.stdout.split()[-3:]
    return float(seconds), float(busy), float(peak)


def run_one(name: str, mask: Path, out: Path) -> None:
    """Run one contestant here and print what `measure` reads."""
    begun = time.perf_counter()
    CONTESTANTS[name](mask, out)
    seconds = time.perf_counter() - begun
    child = name == "gdal_polygonize"
    used = resource.getrusage(resource.RUSAGE_CHILDREN if child else resource.RUSAGE_SELF)
    peak = used.ru_maxrss if child else own_peak()
    print(seconds, used.ru_utime + used.ru_stime, peak / 1024)


def own_peak() -> int:
    """Peak memory of this process in kB; what getrusage says holds that of its parent, too."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--peers", default=",".join(CONTESTANTS))
    parser.add_argument("--folder", type=Path, help="Keeps the mask and finished rows.")
    parser.add_argument("--flat", action="store_true", help="Compare memory at two heights.")
    parser.add_argument(
        "--python", action="append", default=[], metavar="NAME=FILE", help="Runs that contestant."
    )
    parser.add_argument("--run", nargs=3, metavar=("NAME", "MASK", "OUT"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.run:
        run_one(chosen.run[0], Path(chosen.run[1]), Path(chosen.run[2]))
        return
    pythons = dict(each.split("=", 1) for each in chosen.python)
    folder = chosen.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        mask = folder / f"mask_{chosen.side}_{chosen.objects}.tif"
        made = mask.with_suffix(".json")
        if not made.exists():
            write_mask(mask, chosen.side, chosen.objects)
            made.write_text("{}", encoding="utf-8")
        print(f"{chosen.side} x {chosen.side}, about {chosen.objects} objects")
        print(f"{'':18}{'s':>8}{'cpu s':>8}{'Mpx/s':>8}{'MB':>8}{'polygons':>10}")
        for name in chosen.peers.split(","):
            rows = json.loads(made.read_text(encoding="utf-8"))
            if name not in rows:
                try:
                    rows[name] = row_of(name, pythons.get(name, sys.executable), mask)
                except RuntimeError as error:
                    print(f"{name:18}{'-':>8}  {error}")
                    continue
                made.write_text(json.dumps(rows), encoding="utf-8")
            seconds, busy, peak, count = rows[name]
            speed = chosen.side**2 / seconds / 1e6
            print(
                f"{name:18}{seconds:8.1f}{busy:8.1f}{speed:8.1f}{peak:8.0f}{count:10.0f}",
                flush=True,
            )
        compare(json.loads(made.read_text(encoding="utf-8")))
        if chosen.flat:
            flatness(mask, folder)
    finally:
        if chosen.folder is None:
            shutil.rmtree(folder)


def row_of(name: str, python: str, mask: Path) -> list[float]:
    """Seconds, seconds of processor, megabytes and polygons of one contestant."""
    out = mask.with_name(f"{name}.gpkg")
    out.unlink(missing_ok=True)
    try:
        row = [*measure(python, name, mask, out), 0.0]
        if out.exists():
            layer = pyogrio.list_layers(out)[0][0]
            row[3] = pyogrio.read_info(out, layer=layer, force_feature_count=True)["features"]
        return row
    finally:
        out.unlink(missing_ok=True)


def compare(rows: dict[str, list[float]]) -> None:
    """Print how many times faster geohr is than the fastest peer that has finished."""
    peers = {name: row for name, row in rows.items() if not name.startswith("geohr")}
    if not peers or "geohr" not in rows:
        return
    fastest = min(peers, key=lambda name: peers[name][0])
    clock, busy = (peers[fastest][column] / rows["geohr"][column] for column in (0, 1))
    print(
        f"geohr is {clock:.2f} times as fast as the fastest peer, {fastest}, "
        f"and takes {1 / busy:.2f} times its seconds of processor"
    )


def flatness(mask: Path, folder: Path) -> None:
    """Print geohr's peak memory on the mask and on its upper quarter."""
    part = folder / "quarter.tif"
    with rasterio.open(mask) as source:
        height = source.height // 4 // 512 * 512
        profile = {**source.profile, "height": height}
        with rasterio.open(part, "w", **profile) as file:
            for top in range(0, height, 512):
                window = Window(0, top, source.width, 512)
                file.write(source.read(1, window=window), 1, window=window)
    peaks = [row_of("geohr", sys.executable, each)[2] for each in (part, mask)]
    part.unlink()
    print(f"geohr: {peaks[0]:.0f} MB at a quarter of the height, {peaks[1]:.0f} MB at all of it")


if __name__ == "__main__":
    main()
