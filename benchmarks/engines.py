"""Milliseconds a window on each engine and number format, beside a large matrix product.

`python -m benchmarks.engines` interleaves the engines in one run. The share is the network's
floating point operations, counted by torch on the plain network, over those of a float32 product
of two 2,048 x 2,048 matrices with all cores, in the same time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from geohr._runtime.threads import mapped
from geohr.encoding import Batch
from geohr.engines import open_predictor
from geohr.engines.calibration import Calibration
from geohr.engines.predictor import Predictor
from geohr.models.model import resolve_model
from geohr.options import EngineOptions
from geohr.scene import Scene
from geohr.tiling.grid import Grid
from geohr.tiling.normalize import Normalizer

SAMPLE = Path(__file__).parents[1] / "examples" / "data" / "kampala.tif"
SIDE = 2048
ENGINES = (
    EngineOptions(backend="torch"),
    EngineOptions(backend="onnx"),
    EngineOptions(backend="openvino"),
    EngineOptions(backend="openvino", precision="bfloat16"),
    EngineOptions(backend="openvino", precision="int8"),
)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def predict(predictor: Predictor, batches: Sequence[Batch]) -> object:
    """Scores of all batches, on as many threads as the engine takes."""
    return list(mapped(predictor.predict, batches, workers=predictor.workers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=None, help="a bundled name or a .safetensors file")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    model, tile = resolve_model(args.model), args.tile
    scene = Scene.open(SAMPLE)
    grid = Grid(scene.height, scene.width, tile, tile // 4)
    calibration = Calibration(scene, grid, Normalizer.of(model.card, None))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.network(torch.zeros(1, len(model.card.bands), tile, tile))
    operations = counter.get_total_flops()
    matrix = torch.randn(SIDE, SIDE)
    work: dict[str, tuple[Callable[[], object], int]] = {"matrix": (lambda: matrix @ matrix, 1)}
    for options in ENGINES:
        predictor = open_predictor(model, tile, options, calibration=calibration)
        windows = 4 * predictor.workers
        batch = np.zeros((predictor.batch, len(model.card.bands), tile, tile), np.float32)
        run = partial(predict, predictor, [batch] * windows)
        run()
        work[f"{options.backend} {options.precision}"] = (run, windows * predictor.batch)
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(args.rounds):
        for name, (run_once, count) in work.items():
            taken[name].append(seconds(run_once) / count)
    rate = 2 * SIDE**3 / float(np.median(taken.pop("matrix")))
    print(f"{operations / 1e9:.1f} GFLOP a window; matrix product {rate / 1e9:.0f} GFLOP/s")
    print(f"{'engine':<18}{'ms a window':>12}{'GFLOP/s':>9}{'share':>7}")
    for name, values in taken.items():
        each = float(np.median(values))
        speed = operations / each
        print(f"{name:<18}{each * 1e3:>12.1f}{speed / 1e9:>9.0f}{speed / rate:>7.2f}")


if __name__ == "__main__":
    main()
