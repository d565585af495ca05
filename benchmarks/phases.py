"""How much a prediction depends on where its window begins.

`python -m benchmarks.phases --scene SCENE` predicts a crop in one pass, and again moved by a few
pixels, and prints the share of pixels that both give the same class. A network whose coarsest
stream has a stride of 32 sees the same only when it is moved by multiples of 32.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.windows import Window

from benchmarks.peers import SAMPLE, Raw
from geohr.models.model import resolve_model

SIDE, RIM = 960, 96
MOVES = (4, 8, 13, 16, 32, 64)


def main() -> None:
    """Predict, move, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scene", type=Path, default=SAMPLE, help="a raster of three bands")
    parser.add_argument("--model", default=None, help="a bundled name or a .safetensors file")
    args = parser.parse_args()
    network = Raw(resolve_model(args.model)).eval()
    with rasterio.open(args.scene) as raster:
        row, col = (raster.height - SIDE) // 2, (raster.width - SIDE) // 2
        side = SIDE + max(MOVES)
        pixels = raster.read([1, 2, 3], window=Window(col, row, side, side))

    def found(move: int) -> NDArray[np.bool_]:
        crop = pixels[:, move : move + SIDE, move : move + SIDE].copy()
        with torch.inference_mode():
            scores = network(torch.from_numpy(crop[None]).float())
        return np.asarray(scores[0, 0].numpy() >= 0.5)

    still = found(0)
    for move in MOVES:
        same = still[move:, move:] == found(move)[: SIDE - move, : SIDE - move]
        print(f"moved by {move:>2} pixels: {same[RIM:-RIM, RIM:-RIM].mean():.4f} the same")


if __name__ == "__main__":
    main()
