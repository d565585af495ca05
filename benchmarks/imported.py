"""An imported model from file to GPKG and COG by two commands, beside geoai with the same network.

`python -m benchmarks.imported --scene SCENE` writes a U-Net on resnet34 for 15 classes under the
names that IGN's FLAIR networks have, lets it learn for a moment to tell steps of brightness, so
that its map has areas as maps have and no noise, imports it, and segments a square of the scene on
torch and on OpenVINO. geoai's `predict_geotiff`, in its own
environment, gets the same network and windows, and makes a mask alone. Every run is a process of
its own on one core, in rounds; the table has medians of its processor seconds, which a shared
machine hardly changes, its peak memory, and the share of pixels with the class that torch in
float32 gives.
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
from pathlib import Path
from statistics import median

import rasterio
import segmentation_models_pytorch as smp
import torch
from scipy import ndimage
from torch import nn

from benchmarks.peers import environment, write_scene
from geohr.models.registry import remote_models

TILE, STRIDE = 512, 384
CLASSES = 15
STEPS, BATCH, LEARNT = 60, 2, 128
"""How long the network learns, from how many windows at a time, and their side."""
BLUR = 12
"""Pixels over which the classes that it learns are smooth."""
ROW = remote_models()["flair-rgb-15"]
WATCH = (
    "import os, json, resource, subprocess, sys; os.sched_setaffinity(0, {0}); "
    "code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL); "
    "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
    "print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6])); sys.exit(code)"
)
"""Runs a command on one core and prints its processor seconds and peak memory in GB."""


class Scores(nn.Module):
    """The network as geoai blends it: softmax and no logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map normalised `(n, band, row, col)` to scores `(n, class, row, col)`."""
        scores: torch.Tensor = self.network(pixels).softmax(1)
        return scores


def brightness_classes(scene: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised pixels, and as classes the steps of their brightness, each as frequent."""
    with rasterio.open(scene) as raster:
        pixels = torch.from_numpy(raster.read([1, 2, 3])).float() / 255
    smooth = torch.from_numpy(ndimage.gaussian_filter(pixels.mean(0).numpy(), BLUR))
    edges = torch.quantile(smooth.flatten()[::97], torch.linspace(0, 1, CLASSES + 1)[1:-1])
    pixels = (pixels - torch.tensor(ROW.mean)[:, None, None]) / torch.tensor(ROW.std)[:, None, None]
    return pixels, torch.bucketize(smooth, edges)


def draw_window(pixels: torch.Tensor, classes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A window to learn from."""
    row, col = (int(torch.randint(size - LEARNT + 1, ())) for size in classes.shape)
    part = slice(row, row + LEARNT), slice(col, col + LEARNT)
    return pixels[:, *part], classes[part]


def write_networks(scene: Path, folder: Path) -> None:
    """The checkpoint, and the same network as TorchScript for geoai."""
    torch.manual_seed(0)
    network = smp.Unet("resnet34", encoder_weights=None, classes=CLASSES).train()
    pixels, classes = brightness_classes(scene)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for _ in range(STEPS):
        windows = [draw_window(pixels, classes) for _ in range(BATCH)]
        seen, wanted = (torch.stack(each) for each in zip(*windows, strict=True))
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(seen), wanted).backward()
        optimizer.step()
    network.eval()
    state = {f"model.seg_model.{key}": value for key, value in network.state_dict().items()}
    state["criterion.weight"] = torch.ones(CLASSES)
    torch.save({"state_dict": state}, folder / "flair.ckpt")
    torch.jit.trace(Scores(network), torch.zeros(1, 3, TILE, TILE)).save(folder / "flair.pt")


def watched(command: Sequence[object]) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak memory of a process."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    started = time.perf_counter()
    told = subprocess.run(
        [sys.executable, "-c", WATCH, *map(str, command)],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=variables,
    ).stdout
    used, peak = json.loads(told)
    return time.perf_counter() - started, used, peak


def commands(scene: Path, folder: Path, python: Path) -> dict[str, list[object]]:
    """What is run, by tool."""
    geohr = [sys.executable, "-m", "geohr_cli", "segment", scene, "--model"]
    geohr += [folder / "flair.safetensors", "--gsd", "native", "--overwrite", "--no-resume"]
    listed: dict[str, list[object]] = {}
    for backend, precision in (
        ("torch", "float32"), ("openvino", "float32"), ("openvino", "bfloat16"),
        ("openvino", "int8"),
    ):  # fmt: skip
        name = f"geohr {backend} {precision}"
        outputs = [folder / f"{name}.tif", folder / f"{name}.gpkg"]
        listed[name] = [
            *geohr, "--backend", backend, "--precision", precision, "--min-area", 10,
            "--out", outputs[0], "--out", outputs[1],
        ]  # fmt: skip
    script = Path(__file__).parent / "peer_scripts" / "geoai_classes.py"
    numbers = (",".join(map(str, values)) for values in (ROW.mean, ROW.std))
    listed["geoai"] = [
        python, script, scene, folder / "flair.pt", folder / "geoai.tif", CLASSES, TILE, STRIDE,
        *numbers,
    ]  # fmt: skip
    return listed


def agreement(path: Path, other: Path, shift: int) -> float:
    """Share of pixels of the same class; `shift` is the number of the first class in `path`."""
    with rasterio.open(path) as one, rasterio.open(other) as two:
        return float((one.read(1) + 1 - shift == two.read(1)).mean())


def main() -> None:
    """Write, import, run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scene", type=Path, required=True)
    # Both tools cut a square of 1,920 pixels into 25 windows of 512 with 128 shared.
    parser.add_argument("--side", type=int, default=1920)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "geohr-benchmarks")
    parser.add_argument("--folder", type=Path, help="keeps what is made, for the next call")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = args.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        scene = folder / "scene.tif"
        write_scene(args.scene, args.side, scene)
        if not (folder / "flair.pt").exists():
            write_networks(scene, folder)
        brought = [sys.executable, "-m", "geohr_cli", "models", "import", folder / "flair.ckpt"]
        brought += ["--architecture", "unet", "--encoder", "resnet34", "--gsd", "0.05,0.3"]
        for option in ("mean", "std"):
            brought += [f"--{option}", ",".join(map(str, getattr(ROW, option)))]
        brought += ["--classes", ",".join(ROW.classes[:CLASSES]), "--overwrite"]
        watched([*brought, "--out", folder / "flair.safetensors"])
        listed = commands(scene, folder, environment(args.cache, "geoai"))
        runs: dict[str, list[tuple[float, float, float]]] = {tool: [] for tool in listed}
        for _ in range(args.rounds):
            for tool, command in listed.items():
                runs[tool].append(watched(command))
                print(tool, runs[tool][-1], file=sys.stderr, flush=True)
        print("| tool | processor s | wall s | peak GB | same class as torch |")
        print("|---|---|---|---|---|")
        for tool, each in runs.items():
            wall, used, peak = (median(column) for column in zip(*each, strict=True))
            first = folder / "geohr torch float32.tif"
            same = agreement(folder / f"{tool}.tif", first, 0 if tool == "geoai" else 1)
            print(f"| {tool} | {used:.1f} | {wall:.0f} | {peak:.2f} | {same:.4f} |")


if __name__ == "__main__":
    main()
