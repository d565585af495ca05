"""What reads the streams: the V1, V2 and V2p heads and the classification head of the paper."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from geohr.hrnet.backbone import resize_bilinear

TOGETHER = 2
"""The number of the finest streams that the split head concatenates."""


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


class FinestStream(nn.Module):
    """The high-resolution stream as it is (HRNetV1)."""

    def forward(self, streams: Sequence[Tensor]) -> Tensor:
        """The first of the streams, (n, C, row, col) at stride 4."""
        return streams[0]


class V2Decoder(nn.Module):
    """The decoder of HRNetV2: all streams, concatenated at stride 4 and mixed by a 1x1 convolution.

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
    """``V2Decoder`` for inference: the two coarsest streams are mixed before they are upsampled.

    A 1x1 convolution and a bilinear upsampling commute, and the convolution of a concatenation is
    the sum of convolutions of its parts. The two coarsest streams hold 12 of the 15 C channels;
    their shares cost 1/16 and 1/64 at their own size. The finer two stay together: splitting them
    saves few operations more and adds a pass over the widest tensor of the network.

    Args:
        mix: The 1x1 convolution of a ``V2Decoder``, its batch norm folded in.
        channels: Channels of the streams, finest first.
        align_corners: For the bilinear upsampling.
    """

    def __init__(self, mix: nn.Conv2d, channels: Sequence[int], *, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.out_channels = mix.out_channels
        finer = sum(channels[:TOGETHER])
        groups = torch.split(mix.weight.detach(), [finer, *channels[TOGETHER:]], dim=1)
        convs = [nn.Conv2d(group.shape[1], self.out_channels, 1, bias=False) for group in groups]
        for conv, group in zip(convs, groups, strict=True):
            conv.weight = nn.Parameter(group.clone())
        convs[0].bias = mix.bias
        self.finer = convs[0]
        self.coarser = nn.ModuleList(convs[1:])

    def forward(self, streams: Sequence[Tensor]) -> Tensor:
        """Map the streams to (n, 15 * C, row, col) at stride 4."""
        mixed: Tensor = self.finer(
            concatenate(streams[:TOGETHER], align_corners=self.align_corners)
        )
        size = mixed.shape[-2:]
        for conv, stream in zip(self.coarser, streams[TOGETHER:], strict=True):
            mixed += resize_bilinear(conv(stream), size, align_corners=self.align_corners)
        return functional.relu(mixed, inplace=True)
