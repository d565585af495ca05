"""How a first convolution made for red, green and blue serves another number of bands."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from geohr.errors import UsageError

RGB = 3


def _mean(weight: Tensor, bands: int) -> Tensor:
    """Keep the RGB filters, give every further band their mean; fewer than 3 bands all get it.

    A band beyond the visible then starts as brightness. Copying red into near-infrared, which
    segmentation-models-pytorch does, starts vegetation as red's opposite.
    """
    mean = weight.mean(dim=1, keepdim=True)
    if bands < RGB:
        return mean.expand(-1, bands, -1, -1) * (RGB / bands)
    extra = mean.expand(-1, bands - RGB, -1, -1)
    # Scaled so that the filters sum to what they did: activations keep their size.
    return torch.cat([weight, extra], dim=1) * (RGB / bands)


def _zero(weight: Tensor, bands: int) -> Tensor:
    """Keep the RGB filters as they are and start every further band at zero."""
    if bands < RGB:
        raise UsageError(f"extra_bands='zero' needs at least {RGB} bands, got {bands}; use 'mean'")
    extra = weight.new_zeros(weight.shape[0], bands - RGB, *weight.shape[2:])
    return torch.cat([weight, extra], dim=1)


def _cycle(weight: Tensor, bands: int) -> Tensor:
    """Band i gets the filter of RGB[i mod 3]: what segmentation-models-pytorch does."""
    if bands == 1:
        return weight.sum(dim=1, keepdim=True)
    index = torch.arange(bands) % RGB
    return weight[:, index] * (RGB / bands)


EXTRA_BANDS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "mean": _mean,
    "zero": _zero,
    "cycle": _cycle,
}
"""Policies by name: filters (out, 3, row, col) and a band count to (out, band, row, col)."""


def check_policy(name: str) -> None:
    """Refuse a name that is no policy for extra bands.

    Raises:
        UsageError: The name is not in ``EXTRA_BANDS``.
    """
    if name not in EXTRA_BANDS:
        raise UsageError(f"extra_bands must be one of {', '.join(EXTRA_BANDS)}, got {name!r}")


def adapt_bands(weight: Tensor, bands: int, *, policy: str) -> Tensor:
    """Turn filters for RGB into filters for ``bands`` bands.

    Args:
        weight: (out, 3, row, col).
        bands: Number of input bands wanted, 1 or more.
        policy: A key of ``EXTRA_BANDS``.

    Returns:
        (out, bands, row, col).

    Raises:
        UsageError: An unknown policy, or one that cannot serve so few bands.
    """
    check_policy(policy)
    return weight if bands == RGB else EXTRA_BANDS[policy](weight, bands).contiguous()


def replace_bands(conv: nn.Conv2d, weight: Tensor) -> None:
    """Put filters for another number of bands into a convolution."""
    conv.in_channels = weight.shape[1]
    conv.weight = nn.Parameter(weight.detach().clone())
