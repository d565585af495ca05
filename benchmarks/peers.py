"""One network over one scene: geohr beside torchgeo, geoai, Raster Vision and geo-inference.

`python -m benchmarks.peers` makes an environment for each peer in a cache folder (once, some
gigabytes each), gives all of them the same weights as TorchScript, and runs every tool in a
process of its own with the same number of threads, in rounds. What was measured is kept in
`--results`; the same command goes on with what is missing, and prints the table in the end.

Speed is output pixels over seconds, whole process to polygons. Memory is the peak above that of
the same process with libraries imported and the network loaded. Agreement is the share of pixels
that get the class they get in one pass over a whole crop, without tiles. What the engine alone
takes for geohr's windows is measured in each round, too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from torch import Tensor, nn

from geohr._runtime.threads import mapped
from geohr.engines.cores import cores
from geohr.engines.torch import ScoreNetwork
from geohr.inference.executor import LocalExecutor
from geohr.inference.prepare import prepare
from geohr.models.model import Model, resolve_model
from geohr.options import SegmentOptions
from geohr.stitching.seams import SeamMeter
from geohr.tiling.grid import Grid

PEERS = {
    "torchgeo": ("torchgeo==0.8.1 requests", "torchgeo_loop.py"),
    "geoai": ("geoai-py==0.40.1", "geoai_predict.py"),
    "rastervision": ("rastervision==0.31.1", "rastervision_slide.py"),
    "geo-inference": ("geo-inference==3.2.4", "geo_inference_run.py"),
}
"""What is installed for each peer, and the script that runs inside.

torchgeo imports requests without asking for it."""
Precision = Literal["float32", "bfloat16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8")
SCRIPTS = Path(__file__).parent / "peer_scripts"
SAMPLE = Path(__file__).parents[1] / "examples" / "data" / "kampala.tif"
TILE, STRIDE = 512, 384
WATCH = (
    "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
    "print(); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
)
"""Runs a command and prints its peak memory in kB. A child of this process itself would be counted
with all that this process has."""
WHOLE = 2048
"""Side of the crop that is predicted in one pass."""
ROWS = 512
"""Rows of a mask that are looked at together."""


class Raw(nn.Module):
    """Scores from pixels of 0 to 255: normalisation and network in one, as peers need it.

    Args:
        model: Network and card.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, model: Model) -> None:
        super().__init__()
        card = model.card
        self.scored = ScoreNetwork(model.network, background=card.background)
        span = card.range[1] - card.range[0]
        scale = torch.tensor(card.std) * span
        self.register_buffer("scale", scale[:, None, None])
        self.register_buffer(
            "offset", (torch.tensor(card.mean) * span + card.range[0])[:, None, None]
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Map `(n, band, row, col)` to scores `(n, 1, row, col)`."""
        scores: Tensor = self.scored((pixels - self.offset) / self.scale)
        return scores


@dataclass(frozen=True)
class Measured:
    """One run of one tool.

    Attributes:
        tool: Its name, and for geohr the number format.
        round: Which round it was in.
        seconds: Whole process, to polygons.
        to_mask: Whole process, to the mask; geohr writes both at once.
        peak: Memory in GB.
        idle: Memory in GB with libraries imported and the network loaded.
        tiles: Windows that were predicted.
        engine: Seconds that geohr's engine alone takes for them; None for a peer.
        agrees: Share of pixels with the class of one pass over the crop.
        seams: How much likelier a class change is at the lines of windows.
    """

    tool: str
    round: int
    seconds: float
    to_mask: float
    peak: float
    idle: float
    tiles: int
    engine: float | None
    agrees: float
    seams: float | None


@dataclass(frozen=True)
class Case:
    """What all tools are given.

    Attributes:
        scene: A square of the scene.
        side: Of it, in pixels.
        model: The network as a file of geohr's.
        network: The same as TorchScript.
        whole: `(row, col)` classes of its upper left corner, predicted in one pass.
        folder: For what the tools write.
        cache: For their environments.
    """

    scene: Path
    side: int
    model: Path
    network: Path
    whole: NDArray[np.uint8]
    folder: Path
    cache: Path


def environment(cache: Path, peer: str) -> Path:
    """The Python of a peer's environment, made where it is missing."""
    packages = PEERS[peer][0].split()
    folder = cache / "venvs" / packages[0].partition("==")[0]
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def timed(command: Sequence[str], log: Path) -> tuple[float, float, str]:
    """Seconds and peak memory in GB of a process with all cores, and what it printed."""
    threads = str(cores())
    variables = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    started = time.perf_counter()
    with log.open("w") as errors:
        process = subprocess.run(
            [sys.executable, "-c", WATCH, *command],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=variables,
        )
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{log.read_text()[-2000:]}")
    told, _, peak = process.stdout.rstrip().rpartition("\n")
    return time.perf_counter() - started, int(peak) / 1e6, told


def run_peer(case: Case, peer: str, number: int) -> Measured:
    """One run of a peer."""
    mask, polygons = case.folder / f"{peer}.tif", case.folder / f"{peer}.gpkg"
    mask.unlink(missing_ok=True)
    polygons.unlink(missing_ok=True)
    log = case.folder / f"{peer}.log"
    command = [str(environment(case.cache, peer)), str(SCRIPTS / PEERS[peer][1])]
    files = [str(case.network), str(mask), str(polygons), str(TILE), str(STRIDE)]
    _, idle, _ = timed([*command, "idle", *files], log)
    seconds, peak, told = timed([*command, str(case.scene), *files], log)
    found = json.loads(told.strip().splitlines()[-1])
    # What a script measures begins after Python started; the difference is the same for all.
    return Measured(
        peer,
        number,
        seconds,
        found["mask"],
        peak,
        idle,
        found["tiles"],
        None,
        agreement(mask, case.whole),
        seam_score(mask, TILE // 2 if peer == "geo-inference" else STRIDE),
    )


def run_geohr(case: Case, precision: Precision, number: int) -> Measured:
    """One run of `geohr segment`, polygons and mask at once."""
    mask = case.folder / f"geohr-{precision}.tif"
    log = case.folder / f"geohr-{precision}.log"
    idle_command = [sys.executable, "-m", "benchmarks.idle"]
    _, idle, _ = timed([*idle_command, str(case.scene), str(case.model), precision], log)
    command = [sys.executable, "-m", "geohr_cli", "segment", str(case.scene), "--overwrite"]
    command += ["--out", str(mask), "--out", str(mask.with_suffix(".gpkg"))]
    command += ["--model", str(case.model), "--precision", precision, "--min-area", "0"]
    command += ["--threshold", "0.5", "--instances", "1", "--gsd", "native", "--log-format", "json"]
    seconds, peak, told = timed(command, log)
    tiles = int(json.loads(told.strip().splitlines()[-1])["predicted"])
    return Measured(
        f"geohr {precision}",
        number,
        seconds,
        seconds,
        peak,
        idle,
        tiles,
        tiles * engine_seconds(case, precision),
        agreement(mask, case.whole),
        seam_score(mask, STRIDE),
    )


def run_tool(case: Case, tool: str, number: int) -> Measured:
    """One run of a peer, or of geohr with one of its number formats."""
    for precision in PRECISIONS:
        if tool == f"geohr {precision}":
            return run_geohr(case, precision, number)
    return run_peer(case, tool, number)


def engine_seconds(case: Case, precision: Precision) -> float:
    """Seconds a window of geohr's engine with nothing else to do."""
    options = SegmentOptions(precision=precision, gsd="native")
    executor = LocalExecutor()
    prepare(case.scene, resolve_model(case.model), options, executor)
    predictor = executor.predictor
    batch = np.zeros((predictor.batch, 3, TILE, TILE), np.float32)
    several = [batch] * (8 * predictor.workers)
    list(mapped(predictor.predict, several[: predictor.workers], workers=predictor.workers))
    started = time.perf_counter()
    list(mapped(predictor.predict, several, workers=predictor.workers))
    return (time.perf_counter() - started) / (len(several) * predictor.batch)


def whole_pass(model: Model, scene: Path, side: int) -> NDArray[np.uint8]:
    """Classes of the scene's upper left corner, predicted in one pass by plain torch."""
    with rasterio.open(scene) as raster:
        pixels = raster.read([1, 2, 3], window=Window(0, 0, side, side))
    with torch.inference_mode():
        scores = Raw(model).eval()(torch.from_numpy(pixels[None]).float())
    found: NDArray[np.uint8] = (scores[0, 0] >= 0.5).numpy().astype(np.uint8)
    return found


def agreement(path: Path, whole: NDArray[np.uint8]) -> float:
    """Share of the crop's pixels, without its rim, that have the class of one pass."""
    with rasterio.open(path) as raster:
        part = raster.read(1, window=Window(0, 0, whole.shape[1], whole.shape[0])) == 1
    return float((part == whole)[64:-64, 64:-64].mean())


def seam_score(path: Path, stride: int) -> float | None:
    """Of a mask whose windows begin at multiples of `stride`."""
    with rasterio.open(path) as raster:
        height, width = raster.height, raster.width
        rows, cols = (tuple(range(0, max(n - TILE, 0) + stride, stride)) for n in (height, width))
        meter = SeamMeter(
            Grid(height, width, TILE, TILE - stride, given_rows=rows, given_cols=cols)
        )
        for start in range(0, height, ROWS):
            window = Window(0, start, width, min(ROWS, height - start))
            mask = (raster.read(1, window=window) == 1).astype(np.uint8)
            meter.add(mask[None] * np.uint8(254), mask)
    return meter.score().score


def write_scene(source: Path, side: int, path: Path) -> None:
    """A square of a scene as a tiled GeoTIFF; a smaller scene is repeated."""
    with rasterio.open(source) as raster:
        rows, cols = min(side, raster.height), min(side, raster.width)
        first = [
            (length - taken) // 2 for length, taken in ((raster.height, rows), (raster.width, cols))
        ]
        window = Window(first[1], first[0], cols, rows)
        pixels = raster.read([1, 2, 3], window=window)
        crs, transform = raster.crs, raster.window_transform(window)
    pixels = np.tile(pixels, (1, 1, -(-side // cols)))[:, :, :side]
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "height": side, "width": side}
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    with rasterio.open(path, "w", crs=crs, transform=transform, **profile, **layout) as raster:
        for start in range(0, side, rows):
            height = min(rows, side - start)
            raster.write(pixels[:, :height], window=Window(0, start, side, height))


def show(runs: Sequence[Measured], side: int) -> None:
    """Print the table, medians over rounds, and geohr's ratios to the peers."""
    pixels = side * side / 1e6
    print(
        f"{'tool':<16}{'Mpx/s':>8}{'to mask s':>11}{'polygons s':>12}{'engine s':>10}{'peak GB':>9}"
        f"{'idle GB':>9}{'tiles':>7}{'agrees':>9}{'seams':>7}"
    )
    tools = {run.tool: [each for each in runs if each.tool == run.tool] for run in runs}

    def median(tool: str, name: str) -> float:
        return float(np.median([getattr(run, name) for run in tools[tool]]))

    for tool, mine in tools.items():
        first = mine[0]
        engine = "-" if first.engine is None else f"{median(tool, 'engine'):.1f}"
        seams = "-" if first.seams is None else f"{first.seams:.2f}"
        print(
            f"{tool:<16}{pixels / median(tool, 'seconds'):>8.2f}{median(tool, 'to_mask'):>11.1f}"
            f"{median(tool, 'seconds'):>12.1f}{engine:>10}{median(tool, 'peak'):>9.2f}"
            f"{median(tool, 'idle'):>9.2f}{first.tiles:>7}{first.agrees:>9.4f}{seams:>7}"
        )
    peers = [tool for tool in tools if not tool.startswith("geohr")]
    for tool in (tool for tool in tools if tool.startswith("geohr") and peers):
        fastest = min(median(peer, "seconds") for peer in peers) / median(tool, "seconds")
        above = median(tool, "peak") - median(tool, "idle")
        smallest = min(median(peer, "peak") - median(peer, "idle") for peer in peers)
        print(
            f"{tool}: {fastest:.2f} times the fastest peer; {above / smallest:.2f} of the memory "
            "of the one that takes least; "
            f"{median(tool, 'seconds') / median(tool, 'engine'):.2f} times the engine alone"
        )


def measure(case: Case, peers: Sequence[str], rounds: int, results: Path) -> list[Measured]:
    """All rounds; those that `results` holds are not run again."""
    runs = []
    if results.exists():
        runs = [Measured(**json.loads(line)) for line in results.read_text().splitlines()]
    known = {(run.tool, run.round) for run in runs}
    for precision in PRECISIONS:
        # Fills the cache of compiled networks, which is made once for a model.
        engine_seconds(case, precision)
    tools = [*peers, *(f"geohr {precision}" for precision in PRECISIONS)]
    for number, tool in product(range(rounds), tools):
        if (tool, number) in known:
            continue
        runs.append(run_tool(case, tool, number))
        with results.open("a") as lines:
            lines.write(json.dumps(asdict(runs[-1])) + "\n")
        print(f"{tool}: {runs[-1].seconds:.1f} s", file=sys.stderr, flush=True)
    return runs


def main() -> None:
    """Make the case, run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scene", type=Path, default=SAMPLE, help="a raster of three bands")
    parser.add_argument("--side", type=int, default=4096, help="pixels of the square taken")
    parser.add_argument("--model", default=None, help="a bundled name or a .safetensors file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "geohr-benchmarks")
    parser.add_argument("--results", type=Path, help="by default in the cache, by model and size")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    model = resolve_model(args.model)
    results = args.results or args.cache / f"{args.scene.stem}-{args.side}-{model.digest[:12]}.json"
    with tempfile.TemporaryDirectory(dir=args.cache) as name:
        folder = Path(name)
        scene, network, file = folder / "scene.tif", folder / "network.pt", folder / "m.safetensors"
        write_scene(args.scene, args.side, scene)
        model.save(file)
        torch.jit.trace(Raw(model).eval(), torch.zeros(1, 3, TILE, TILE)).save(network)
        whole = whole_pass(model, scene, min(WHOLE, args.side))
        case = Case(scene, args.side, file, network, whole, folder, args.cache)
        show(measure(case, args.peers, args.rounds, results), args.side)


if __name__ == "__main__":
    main()
