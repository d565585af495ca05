"""One network over one scene: geohr beside torchgeo, geoai, Raster Vision and geo-inference.

`python -m benchmarks.peers` makes an environment for each peer in a cache folder (once, some
gigabytes each), gives all of them the same weights as TorchScript, and runs every tool in a
process of its own with the same number of threads. Speed is output pixels over seconds, whole
process; agreement is the share of pixels that get the class they get in one pass over a whole
crop, without tiles.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.windows import Window
from torch import Tensor, nn

from geohr.backends.machine import cores
from geohr.backends.scores import Scored
from geohr.model import Model, resolve_model
from geohr.mosaic import Rows
from geohr.quality import SeamMeter

PEERS = {
    "torchgeo": ("torchgeo==0.8.1 requests", "torchgeo_loop.py"),
    "geoai": ("geoai-py==0.40.1", "geoai_predict.py"),
    "rastervision": ("rastervision==0.31.1", "rastervision_slide.py"),
    "geo-inference": ("geo-inference==3.2.4", "geo_inference_run.py"),
}
"""What is installed for each peer, and the script that runs inside.

torchgeo imports requests without asking for it."""
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


class Raw(nn.Module):
    """Scores from pixels of 0 to 255: normalisation and network in one, as peers need it.

    Args:
        model: Network and card.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        card = model.card
        self.scored = Scored(model.network, background=card.background)
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
class Lines:
    """The windows of a peer, as far as a seam score asks."""

    height: int
    width: int
    row_starts: tuple[int, ...]
    col_starts: tuple[int, ...]
    tile: int = TILE


@dataclass(frozen=True)
class Measured:
    """One run of one tool."""

    tool: str
    seconds: float
    to_mask: float
    peak: float
    tiles: int
    mask: NDArray[np.uint8]


def environment(cache: Path, peer: str) -> Path:
    """The Python of a peer's environment, made where it is missing."""
    packages = PEERS[peer][0].split()
    folder = cache / "venvs" / packages[0].partition("==")[0]
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def timed(command: list[str], log: Path) -> tuple[float, float, str]:
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


def read_mask(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as raster:
        mask: NDArray[np.uint8] = (raster.read(1) == 1).astype(np.uint8)
    return mask


def run_peer(peer: str, cache: Path, scene: Path, network: Path, folder: Path) -> Measured:
    """One run of a peer."""
    mask, polygons = folder / f"{peer}.tif", folder / f"{peer}.gpkg"
    mask.unlink(missing_ok=True)
    polygons.unlink(missing_ok=True)
    command = [str(environment(cache, peer)), str(SCRIPTS / PEERS[peer][1]), str(scene)]
    command += [str(network), str(mask), str(polygons), str(TILE), str(STRIDE)]
    seconds, peak, told = timed(command, folder / f"{peer}.log")
    found = json.loads(told.strip().splitlines()[-1])
    # What a script measures begins after Python started; the difference is the same for all.
    return Measured(peer, seconds, found["mask"], peak, found["tiles"], read_mask(mask))


def run_geohr(precision: str, model: Path, scene: Path, folder: Path) -> Measured:
    """One run of `geohr segment`, polygons and mask at once."""
    mask = folder / f"geohr-{precision}.tif"
    command = [sys.executable, "-m", "geohr_cli", "segment", str(scene), "--overwrite"]
    command += ["--out", str(mask), "--out", str(mask.with_suffix(".gpkg"))]
    command += ["--model", str(model), "--precision", precision, "--min-area", "0"]
    command += ["--threshold", "0.5", "--log-format", "json"]
    seconds, peak, told = timed(command, folder / f"geohr-{precision}.log")
    summary = json.loads(told.strip().splitlines()[-1])
    tiles = int(summary["predicted"])
    return Measured(f"geohr {precision}", seconds, seconds, peak, tiles, read_mask(mask))


def whole_pass(model: Model, scene: Path, side: int) -> NDArray[np.uint8]:
    """Classes of the scene's upper left corner, predicted in one pass by plain torch."""
    with rasterio.open(scene) as raster:
        pixels = raster.read([1, 2, 3], window=Window(0, 0, side, side))
    with torch.inference_mode():
        scores = Raw(model).eval()(torch.from_numpy(pixels[None]).float())
    found: NDArray[np.uint8] = (scores[0, 0] >= 0.5).numpy().astype(np.uint8)
    return found


def seam_score(mask: NDArray[np.uint8], stride: int) -> float | None:
    """Of a mask whose windows begin at multiples of `stride`."""
    height, width = mask.shape
    starts = [tuple(range(0, max(side - TILE, 0) + stride, stride)) for side in mask.shape]
    meter = SeamMeter(Lines(height, width, starts[0], starts[1]))  # type: ignore[arg-type]
    meter.add(Rows(0, mask[None] * np.uint8(254), 0), mask)
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
    copies = (1, -(-side // rows), -(-side // cols))
    pixels = np.tile(pixels, copies)[:, :side, :side]
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "height": side, "width": side}
    layout = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    with rasterio.open(path, "w", crs=crs, transform=transform, **profile, **layout) as raster:
        raster.write(pixels)


def show(runs: list[Measured], whole: NDArray[np.uint8], side: int) -> None:
    """Print the table: medians over rounds."""
    pixels = side * side / 1e6
    print(
        f"{'tool':<16}{'Mpx/s':>8}{'to mask s':>11}{'polygons s':>12}{'peak GB':>9}{'tiles':>7}"
        f"{'agrees':>9}{'seams':>7}"
    )
    fastest = 0.0
    for tool in dict.fromkeys(run.tool for run in runs):
        mine = [run for run in runs if run.tool == tool]
        seconds, to_mask = (
            float(np.median([getattr(run, name) for run in mine]))
            for name in ("seconds", "to_mask")
        )
        part = mine[0].mask[: len(whole), : len(whole)]
        inside = slice(64, -64)
        same = float((part == whole)[inside, inside].mean())
        stride = TILE // 2 if tool == "geo-inference" else STRIDE
        seams = seam_score(mine[0].mask, stride)
        print(
            f"{tool:<16}{pixels / seconds:>8.2f}{to_mask:>11.1f}{seconds:>12.1f}"
            f"{max(run.peak for run in mine):>9.2f}{mine[0].tiles:>7}{same:>9.4f}"
            f"{'-' if seams is None else f'{seams:.2f}':>7}"
        )
        if not tool.startswith("geohr"):
            fastest = max(fastest, pixels / seconds)
    for tool in dict.fromkeys(run.tool for run in runs if run.tool.startswith("geohr")):
        seconds = float(np.median([run.seconds for run in runs if run.tool == tool]))
        if fastest:
            print(f"{tool}: {pixels / seconds / fastest:.2f} times the fastest peer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scene", type=Path, default=SAMPLE, help="a raster of three bands")
    parser.add_argument("--side", type=int, default=4096, help="pixels of the square taken")
    parser.add_argument("--model", default=None, help="a bundled name or a .safetensors file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", nargs="*", default=list(PEERS))
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "geohr-benchmarks")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    model = resolve_model(args.model)
    with tempfile.TemporaryDirectory(dir=args.cache) as name:
        folder = Path(name)
        scene, network, file = folder / "scene.tif", folder / "network.pt", folder / "m.safetensors"
        write_scene(args.scene, args.side, scene)
        model.save(file)
        torch.jit.trace(Raw(model).eval(), torch.zeros(1, 3, TILE, TILE)).save(network)
        whole = whole_pass(model, scene, min(WHOLE, args.side))
        for precision in ("float32", "int8"):
            # Fills the cache of compiled networks, which is made once for a model.
            run_geohr(precision, file, scene, folder)
        print("networks compiled", file=sys.stderr, flush=True)
        runs: list[Measured] = []
        for _ in range(args.rounds):
            for peer in args.peers:
                runs.append(run_peer(peer, args.cache, scene, network, folder))
                print(f"{peer}: {runs[-1].seconds:.1f} s", file=sys.stderr, flush=True)
            for precision in ("float32", "int8"):
                runs.append(run_geohr(precision, file, scene, folder))
                print(f"geohr {precision}: {runs[-1].seconds:.1f} s", file=sys.stderr, flush=True)
        show(runs, whole, args.side)


if __name__ == "__main__":
    main()
