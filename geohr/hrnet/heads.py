"""What reads the streams: the V1, V2 and V2p heads and the classification head of the paper."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from geohr.hrnet.backbone import resize_bilinear


def concatenate(streams: Sequence[Tensor], *, align_corners: bool) -> Tensor:
    """Upsample every stream to the finest one and concatenate, finest first (paper, figure 4 b).

    Args:
        streams: (n, channel, row, col) each, finest first.
        align_corners: For the bilinear upsampling.

    Returns:
        (n, sum of channels, row, col) at the size of the finest stream.
    """
    size = streams[0].shape[-2:]
    upsampled = [resize_bilinear(x, size, align_corners=align_corners) for x in streams[1:]]
    return torch.cat([streams[0], *upsampled], dim=1)


class V2Decoder(nn.Module):
    """All streams, concatenated at stride 4 and mixed by a 1x1 convolution (HRNetV2).

    Args:
        channels: Channels of the streams, finest first.
        align_corners: For the bilinear upsampling.
    """

    def __init__(self, channels: Sequence[int], *, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.channels = tuple(channels)
        self.out_channels = sum(channels)
        self.project = nn.Sequential(
            nn.Conv2d(self.out_channels, self.out_channels, 1),
            nn.BatchNorm2d(self.out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, streams: Sequence[Tensor]) -> Tensor:
        """Map the streams to (n, 15 * C, row, col) at stride 4."""
        mixed: Tensor = self.project(concatenate(streams, align_corners=self.align_corners))
        return mixed


class SplitV2Decoder(nn.Module):
    """``V2Decoder`` for inference: the coarsest stream is mixed before it is upsampled.

    A 1x1 convolution and a bilinear upsampling commute, and the convolution of a concatenation is
    the sum of convolutions of its parts. The coarsest stream holds 8 of the 15 C channels, so its
    share costs 1/64 at its own size. Splitting the finer streams off too saves few operations
    more and adds passes over the widest tensor of the network.

    Args:
        mix: The 1x1 convolution of a ``V2Decoder``, its batch norm folded in.
        channels: Channels of the streams, finest first.
        align_corners: For the bilinear upsampling.
    """

    def __init__(self, mix: nn.Conv2d, channels: Sequence[int], *, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.out_channels = mix.out_channels
        finer = sum(channels[:-1])
        self.finer = nn.Conv2d(finer, mix.out_channels, 1)
        self.coarsest = nn.Conv2d(channels[-1], mix.out_channels, 1, bias=False)
        weight, bias = mix.weight.detach(), mix.bias
        assert bias is not None
        self.finer.weight = nn.Parameter(weight[:, :finer].clone())
        self.finer.bias = nn.Parameter(bias.detach().clone())
        self.coarsest.weight = nn.Parameter(weight[:, finer:].clone())

    def forward(self, streams: Sequence[Tensor]) -> Tensor:
        """Map the streams to (n, 15 * C, row, col) at stride 4."""
        mixed: Tensor = self.finer(concatenate(streams[:-1], align_corners=self.align_corners))
        mixed += resize_bilinear(
            self.coarsest(streams[-1]), mixed.shape[-2:], align_corners=self.align_corners
        )
        return functional.relu(mixed, inplace=True)
