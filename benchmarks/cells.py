"""Cells of a mosaic against one run over it, by processes that are killed; 10,000 cells joined.

    python -m benchmarks.cells kill SCENE.tif [--side 2560] [--cells 5] [--processes 4]
    python -m benchmarks.cells join [--side 100]

`kill` cuts a part of a scene into 16 scenes that overlap, and segments them once as a VRT and once
in cells, which go to an S3-compatible server on this machine (moto). Its processes are killed at
random, with SIGKILL, and started again until all cells are done. Rasters must be the same pixels
and objects the same bytes. It needs gdalbuildvrt and the test extra.

`join` plans a square of side x side cells and fills them with made fragments: those of a class
raster of blobs that repeats every 8 cells. What is measured is planning, joining and status: time,
and the peak of memory. Up to 8 x 8 cells, the polygons must be those of one tracer over the raster;
beyond, fragments are moved copies, and finished objects are copies that are not moved.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window as RasterWindow

if TYPE_CHECKING:
    from geohr.geobox import Window
    from geohr.polygons.patches import Patch

SCENES = 4
"""Scenes down and across."""
OVERLAP = 96
"""Pixels by which scenes overlap, more or less."""
METRES = "EPSG:32645"


def main() -> None:
    """Run what was asked for; exits with 1 where results differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    kill = commands.add_parser("kill")
    kill.add_argument("scene", type=Path)
    kill.add_argument("--row", type=int, default=3000, help="first row of the part")
    kill.add_argument("--col", type=int, default=3000, help="first column of the part")
    kill.add_argument("--side", type=int, default=2560, help="pixels of the part's side")
    kill.add_argument("--cells", type=int, default=5, help="cells down and across")
    kill.add_argument("--processes", type=int, default=4)
    kill.add_argument("--alive", type=float, default=20.0, help="mean seconds until a kill")
    kill.add_argument("--kills", type=int, default=3, help="of each process, at least")
    kill.add_argument("options", nargs="*", help="options of geohr segment, after --")
    join = commands.add_parser("join")
    join.add_argument("--side", type=int, default=100, help="cells down and across")
    join.add_argument("--pixels", type=int, default=128, help="of a cell's side")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="geohr-cells-") as name:
        if chosen.command == "kill":
            run_killed(chosen, Path(name))
        else:
            join_many(chosen.side, chosen.pixels, Path(name))


def run_killed(chosen: argparse.Namespace, folder: Path) -> None:
    """Segment a mosaic once, and in cells by processes that are killed; compare."""
    from tests.imagery.servers import moto_server, put_object

    options = chosen.options or ["--tile", "256", "--instances", "1"]
    scenes, gsd = cut_scenes(chosen, folder)
    subprocess.run(
        ["gdalbuildvrt", "-q", folder / "mosaic.vrt", *scenes], check=True, stdout=sys.stderr
    )
    exact(folder / "mosaic.vrt", scenes[0])
    one = folder / "one"
    one.mkdir()
    outputs: list[str | Path] = ["--out", one / "b.parquet", "--out", one / "classes.tif"]
    started = time.monotonic()
    geohr("segment", folder / "mosaic.vrt", *outputs, "--probs", one / "p.tif", *options)
    alone = time.monotonic() - started
    print(f"| one run over the VRT | {alone:.0f} s |", flush=True)
    with moto_server() as server:
        os.environ.update(
            AWS_ENDPOINT_URL=f"http://{server}", AWS_ACCESS_KEY_ID="local",
            AWS_SECRET_ACCESS_KEY="local", AWS_DEFAULT_REGION="us-east-1",
        )  # fmt: skip
        put_object(f"http://{server}", "country", scenes[0])
        plan = folder / "plan.json"
        side = chosen.side / chosen.cells * gsd
        geohr(
            "cells", "plan", *scenes, "--cell", f"{side:.9f}m", "--probs", "--to",
            "s3://country/map", "--out", plan, *options,
        )  # fmt: skip
        started = time.monotonic()
        kills = killed_until_done(chosen, plan, folder)
        seconds = time.monotonic() - started
        status = json.loads(geohr("cells", "status", plan, "--json"))
        print(f"| cells | {status['cells']}, {status['done']} done |")
        print(f"| processes killed | {sum(kills)} times: {', '.join(map(str, kills))} |")
        print(f"| until all were done | {seconds:.0f} s |", flush=True)
        started = time.monotonic()
        out = folder / "map.parquet"
        print(geohr("cells", "join", plan, "--out", out).strip())
        print(f"| join | {time.monotonic() - started:.0f} s |", flush=True)
        compare(folder, one, out)


def exact(vrt: Path, scene: Path) -> None:
    """Write the transform of a VRT with all its digits; gdalbuildvrt leaves out the last ones.

    One unit in the last place of a pixel's side moves some vertex by as much.
    """
    with rasterio.open(scene) as raster:
        numbers = ", ".join(repr(float(each)) for each in raster.transform.to_gdal())
    text = vrt.read_text("utf-8")
    text = re.sub(
        r"<GeoTransform>.*?</GeoTransform>", f"<GeoTransform>{numbers}</GeoTransform>", text
    )
    vrt.write_text(text, "utf-8")


def cut_scenes(chosen: argparse.Namespace, folder: Path) -> tuple[list[Path], float]:
    """Sixteen parts of a scene that overlap by various widths, and its resolution."""
    from geohr.scene import Scene

    generator = random.Random(0)
    step = chosen.side // SCENES
    paths = []
    with rasterio.open(chosen.scene) as scene:
        for row in range(SCENES):
            for col in range(SCENES):
                spans = []
                for place in (row, col):
                    first = max(0, place * step - generator.randrange(OVERLAP))
                    stop = min(chosen.side, (place + 1) * step + generator.randrange(OVERLAP))
                    spans.append((first, stop))
                (top, bottom), (left, right) = spans
                window = RasterWindow(
                    left + chosen.col, top + chosen.row, right - left, bottom - top
                )
                path = folder / f"scene{row}{col}.tif"
                profile = {
                    **scene.profile, "driver": "GTiff", "compress": "deflate", "tiled": True,
                    "blockxsize": 256, "blockysize": 256, "photometric": "rgb",
                    "height": bottom - top, "width": right - left,
                    "transform": scene.window_transform(window),
                }  # fmt: skip
                with rasterio.open(path, "w", **profile) as part:
                    part.write(scene.read(window=window))
                paths.append(path)
    return paths, float(Scene.open(paths[0]).gsd or 1.0)


def killed_until_done(chosen: argparse.Namespace, plan: Path, folder: Path) -> list[int]:
    """Run tasks that are killed at random, until all cells are done; how often each was."""
    generator = random.Random(1)
    kills = [0] * chosen.processes
    running: list[tuple[subprocess.Popen[bytes], float] | None] = [None] * chosen.processes
    finished = [False] * chosen.processes
    log = (folder / "tasks.log").open("wb")

    def start(task: int) -> None:
        options = ["--task", f"{task + 1}/{chosen.processes}", "--work-dir", str(folder / "work")]
        command = [sys.executable, "-m", "geohr_cli", "cells", "run", str(plan), *options]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        # A process that was killed often enough may end by itself.
        alive = generator.uniform(0.5, 1.5) * chosen.alive * (1 + 0.5 * kills[task])
        running[task] = (process, time.monotonic() + alive)

    while not all(finished):
        for task in range(chosen.processes):
            held = running[task]
            if finished[task]:
                continue
            if held is None:
                start(task)
                continue
            process, until = held
            if process.poll() is not None:
                finished[task] = process.returncode == 0
                running[task] = None
            elif time.monotonic() > until:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills[task] += 1
                running[task] = None
        time.sleep(0.2)
    log.close()
    return kills


def compare(folder: Path, one: Path, out: Path) -> None:
    """Compare rasters and objects; exits with 1 where they differ."""
    from geohr._runtime.stores import gdal_options

    wrong = 0
    with rasterio.Env(**gdal_options(os.environ)):
        for name, kind in (("classes", "classes"), ("p", "probabilities")):
            with (
                rasterio.open(one / f"{name}.tif") as whole,
                rasterio.open(folder / f"map.{kind}.vrt") as cells,
            ):
                differ = int((whole.read() != cells.read()).sum())
                print(f"| {kind}: pixels, and those that differ | {whole.width * whole.height}, "
                      f"{differ} |")  # fmt: skip
                wrong += differ
    first, second = rows_of(one / "b.parquet"), rows_of(out)
    print(f"| objects: one run, cells, not in both | {len(first)}, {len(second)}, "
          f"{len(first ^ second)} |")  # fmt: skip
    if wrong or first != second:
        sys.exit(1)


def rows_of(path: Path) -> set[tuple[Any, ...]]:
    """The objects of a file or data set: geometry to the bit, and attributes."""
    from pyarrow import parquet

    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    names = ("geometry", "class", "confidence", "area_m2", "perimeter_m", "vertices")
    rows: set[tuple[Any, ...]] = set()
    for each in files:
        columns = parquet.ParquetFile(each).read(columns=list(names)).to_pydict()
        rows |= set(zip(*(columns[name] for name in names), strict=True))
    return rows


def geohr(*arguments: str | Path) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "geohr_cli", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def join_many(side: int, pixels: int, folder: Path) -> None:
    """Plan, fill and join a square of cells."""
    scene = folder / "scene.tif"
    profile = {
        "driver": "GTiff", "dtype": "uint8", "count": 3, "height": side * pixels,
        "width": side * pixels, "crs": METRES, "sparse_ok": True, "tiled": True,
        "transform": Affine(0.5, 0, 300_000, 0, -0.5, 3_000_000), "compress": "deflate",
    }  # fmt: skip
    with rasterio.open(scene, "w", **profile):
        pass
    plan = folder / "plan.json"
    options = ["--cell", f"{pixels / 2}m", "--no-classes", "--instances", "1", "--no-regularize"]
    options += ["--outline", "contour", "--min-area", "0", "--gsd", "native"]
    seconds, peak = measured("cells", "plan", scene, "--out", plan, *options)
    size = plan.stat().st_size / 1e6
    print(f"| plan | {seconds:.0f} s, {peak / 1e6:.0f} MB, {size:.1f} MB of JSON |", flush=True)
    started = time.monotonic()
    fill(plan, pixels)
    print(f"| made fragments (not measured) | {time.monotonic() - started:.0f} s |", flush=True)
    out = folder / "map.parquet"
    seconds, peak = measured("cells", "join", plan, "--out", out)
    print(f"| join | {seconds:.0f} s, {peak / 1e6:.0f} MB |", flush=True)
    seconds, peak = measured("cells", "status", plan)
    print(f"| status | {seconds:.0f} s, {peak / 1e6:.0f} MB |", flush=True)
    if side * pixels > PERIOD:
        return
    found, expected = shapes_of(out), traced(plan, side * pixels)
    print(f"| objects: cells, one tracer, not in both | {len(found)}, {len(expected)}, "
          f"{len(found ^ expected)} |")  # fmt: skip
    if found != expected:
        sys.exit(1)


def measured(*arguments: str | Path) -> tuple[float, int]:
    """Seconds and peak of memory, in bytes, of a command."""
    started = time.monotonic()
    command = [sys.executable, "-m", "geohr_cli", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: ended with {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - started, usage.ru_maxrss * 1024


PERIOD = 1024
"""Pixels after which the made raster repeats."""


def blobs() -> NDArray[np.uint8]:
    """Probabilities `(1, row, col)` of blobs that repeat in both directions."""
    from scipy import ndimage

    noise = np.random.default_rng(0).normal(size=(PERIOD, PERIOD))
    smooth = ndimage.gaussian_filter(noise, 8, mode="wrap")
    return np.asarray(np.clip(smooth / smooth.std() * 50 + 110, 0, 254), np.uint8)[None]


def part_of(made: NDArray[np.uint8], rows: range, cols: range) -> NDArray[np.uint8]:
    """A part of the raster that repeats."""
    return made[:, np.array(rows)[:, None] % PERIOD, np.array(cols)[None] % PERIOD]


def fill(path: Path, pixels: int) -> None:
    """Write the files of all cells of a plan, as runs would have."""
    from geohr._runtime.file_store import FolderStore
    from geohr.models.model import resolve_model
    from geohr.outputs.write import vector_writer
    from geohr.polygons import concatenate
    from geohr.polygons.fragments import Fragment, RectangleTracer
    from geohr.stitching.mosaic import classify
    from geohr.workflows.cells.files import FRAGMENTS, objects_name
    from geohr.workflows.cells.plan import read_plan
    from geohr.workflows.cells.run import CellResult
    from geohr.workflows.cells.scene import cell_view, zone_job

    plan, made = read_plan(path), blobs()
    zone = plan.zones[0]
    job = zone_job(plan, zone, zone.scenes, resolve_model(plan.model))
    store = plan.store
    assert isinstance(store, FolderStore)
    kinds: dict[tuple[int, ...], tuple[Fragment, Path, int, Window]] = {}
    repeat, last = PERIOD // pixels, len(zone.rows) - 2
    for cell in plan.cells:
        place = cell.place(zone)
        target = store.root / objects_name(cell.name)
        target.parent.mkdir(parents=True)
        ends = [(each == 0) + 2 * (each == last) for each in (cell.row, cell.col)]
        kind = (cell.row % repeat, cell.col % repeat, *ends)
        if kind not in kinds:
            reach = cell_view(job, place, place).reach
            scores = part_of(
                made, range(reach.row, reach.row_stop), range(reach.col, reach.col_stop)
            )
            tracer = RectangleTracer(job.trace_settings, place, reach)
            done = tracer.push(classify(scores, job.options.threshold), scores)
            rest, fragment = tracer.finish()
            polygons = concatenate([each for each, _ in (*done, *rest)])
            with vector_writer(job, target) as writer:
                writer.write(polygons)
            kinds[kind] = (fragment, target, len(polygons), place)
        else:
            target.hardlink_to(kinds[kind][1])
        fragment, _, count, origin = kinds[kind]
        patch = moved(fragment.patch, origin, place, job.geobox.width)
        result = CellResult(cell.name, count, 1, cell.km2, 1.0, "made", time.time())
        paths = [store.root / each for each in (f"{FRAGMENTS}/{cell.name}.npz", plan.marker(cell))]
        for each in paths:
            each.parent.mkdir(exist_ok=True)
        np.savez_compressed(paths[0], **replace(fragment, patch=patch).to_arrays())
        paths[1].write_text(json.dumps(vars(result)), encoding="utf-8")


def moved(patch: Patch, origin: Window, place: Window, width: int) -> Patch:
    """The patch of a rectangle as it would be in another place."""
    from geohr.polygons.rings import SUBPIXEL, RaggedArray, pack

    down, right = place.row - origin.row, place.col - origin.col
    # Both parts of a packed vertex are sums, and so are the numbers of sides and vertices.
    shift = int(pack(np.array(down * SUBPIXEL), np.array(0))) + (right * SUBPIXEL << 11)
    number = down * (width + 1) + right

    def items(each: RaggedArray) -> RaggedArray:
        return RaggedArray(each.flat + shift, each.offsets)

    statistics = replace(
        patch.statistics,
        first=patch.statistics.first + down * width + right,
        bottom=patch.statistics.bottom + down,
    )
    return replace(
        patch,
        statistics=statistics,
        rings=(items(patch.rings[0]), patch.rings[1]),
        strands=items(patch.strands),
        begin=patch.begin + number * 4,
        end=patch.end + number * 4,
        contacts=patch.contacts + number * 8,
    )


def traced(path: Path, size: int) -> set[bytes]:
    """The outlines that one tracer finds in the whole raster."""
    import shapely

    from geohr.models.model import resolve_model
    from geohr.polygons import Tracer
    from geohr.stitching.mosaic import classify
    from geohr.workflows.cells.plan import read_plan
    from geohr.workflows.cells.scene import zone_job

    plan, made = read_plan(path), blobs()
    job = zone_job(plan, plan.zones[0], plan.zones[0].scenes, resolve_model(plan.model))
    tracer, found = Tracer(job.trace_settings), set()
    for row in range(0, size, 256):
        scores = part_of(made, range(row, min(row + 256, size)), range(size))
        done = tracer.push(classify(scores, job.options.threshold), scores)
        found |= {bytes(each) for each in shapely.to_wkb(done.geometry)}
    return found | {bytes(each) for each in shapely.to_wkb(tracer.finish().geometry)}


def shapes_of(dataset: Path) -> set[bytes]:
    """The outlines of a data set."""
    from pyarrow import parquet

    found = set()
    for path in sorted(dataset.rglob("*.parquet")):
        column = parquet.ParquetFile(path).read(columns=["geometry"])["geometry"]
        found |= set(column.to_pylist())
    return found


if __name__ == "__main__":
    main()
