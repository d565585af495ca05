"""V1 learns the centres of real buildings as heatmaps."""

from __future__ import annotations

import torch
from torch import Tensor

from geohr.hrnet import HRNetHeatmaps
from tests.hrnet.tiles import tile

SIZE, STRIDE = 128, 4
SPREAD = 2.0
"""Standard deviation of a target peak in heatmap pixels, as in the released pose code."""


def centre_heatmap(boxes: Tensor) -> Tensor:
    """A Gaussian peak of height one at each centre: (1, 1, row, col) at stride 4."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / (2 * STRIDE)
    axis = torch.arange(SIZE // STRIDE) + 0.5
    across = (axis - centres[:, :1]) ** 2
    down = (axis - centres[:, 1:]) ** 2
    peaks = torch.exp(-(down[:, :, None] + across[:, None, :]) / (2 * SPREAD**2))
    return peaks.amax(0)[None, None]


def test_heatmaps_fit_the_buildings_of_one_tile() -> None:
    torch.manual_seed(0)
    pixels, boxes = tile(row=0, col=0, size=SIZE)
    target = centre_heatmap(boxes)
    network = HRNetHeatmaps("w18_small_v1").train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    blank = float((target**2).mean())
    for _ in range(40):
        heatmaps = network(pixels[None])
        assert heatmaps.shape == target.shape
        loss = ((heatmaps - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # Far below the error of an empty heatmap: the peaks themselves are fitted.
    assert float(loss.detach()) < 0.1 * blank
    peak = heatmaps.detach().flatten().argmax()
    assert float(target.flatten()[peak]) > 0.5
