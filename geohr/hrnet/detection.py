"""The V2p feature pyramid, for torchvision's detectors and others like them."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from geohr.errors import UsageError
from geohr.hrnet.backbone import PUBLISHED_STRIDE, HRNet
from geohr.hrnet.heads import concatenate

LEVELS = 5
"""Pyramid levels of the released codes: strides 4, 8, 16, 32 and 64."""


class HRNetV2p(nn.Module):
    """HRNetV2p: the V2 representation, pooled into a pyramid (paper, section 3.3, figure 4 c).

    The input must have at least ``stem_stride * 2**(levels - 1)`` rows and columns, 64 for five
    levels at stem stride 4.

    ``torchvision.models.detection.FasterRCNN(HRNetV2p("w18"), ...)`` takes it as a backbone; its
    anchor generator needs as many sizes as there are levels.

    Args:
        variant: Name in ``VARIANTS``.
        in_channels: Bands of the input.
        out_channels: Channels of every level.
        levels: Pyramid levels, strides ``stem_stride``, twice that, ...
        share_conv: One 3x3 convolution for all levels instead of one each.
        fusion: Upsampling inside the trunk, nearest in both released codes.
        align_corners: For every bilinear upsampling.
        stem_stride: Stride of the finest stream.

    Raises:
        UsageError: An unknown variant or fusion, or a count below one.
    """

    def __init__(
        self,
        variant: str,
        *,
        in_channels: int = 3,
        out_channels: int = 256,
        levels: int = LEVELS,
        share_conv: bool = False,
        fusion: str = "nearest",
        align_corners: bool = False,
        stem_stride: int = PUBLISHED_STRIDE,
    ) -> None:
        super().__init__()
        if min(out_channels, levels) < 1:
            raise UsageError(
                f"out_channels and levels must be at least 1, got {out_channels} and {levels}"
            )
        self.align_corners = align_corners
        self.out_channels = out_channels
        self.levels = levels
        self.trunk = HRNet(
            variant,
            in_channels=in_channels,
            fusion=fusion,
            align_corners=align_corners,
            stem_stride=stem_stride,
        )
        concatenated = sum(self.trunk.variant.channels)
        self.reduction_conv = nn.Conv2d(concatenated, out_channels, 1)
        self.fpn_conv = nn.ModuleList(
            nn.Conv2d(out_channels, out_channels, 3, padding=1)
            for _ in range(1 if share_conv else levels)
        )
        for layer in (self.reduction_conv, *self.fpn_conv):
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Map (n, band, row, col) to levels "0", "1", ... at strides 4, 8, ..., finest first."""
        joined = concatenate(self.trunk(pixels), align_corners=self.align_corners)
        base = self.reduction_conv(joined)
        pyramid: dict[str, Tensor] = {}
        for level in range(self.levels):
            pooled = functional.avg_pool2d(base, 2**level) if level else base
            pyramid[str(level)] = self.fpn_conv[level % len(self.fpn_conv)](pooled)
        return pyramid
