"""The ImageNet classification network, with whose weights every other one starts."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from geohr.errors import UsageError
from geohr.hrnet.backbone import PUBLISHED_STRIDE, Bottleneck, HRNet, initialize_trunk
from geohr.hrnet.variants import BOTTLENECK_EXPANSION

HEAD_PLANES = (32, 64, 128, 256)
"""Inner channels of the bottleneck that widens each stream."""

FEATURES = 2048
"""Channels that are pooled and classified."""


class HRNetClassifier(HRNet):
    """HRNet-W*-C: streams widened, added from fine to coarse, pooled (paper, appendix, figure 9).

    Parameters are named as in the released code and in timm's ``hrnet_*``.

    Args:
        variant: Name in ``VARIANTS``.
        classes: Classes of the output.
        in_channels: Bands of the input.
        fusion: Upsampling inside the trunk; the published weights were trained with "nearest".
        align_corners: For bilinear fusion.
        stem_stride: Stride of the finest stream.
        head_bias: Biases in the head's convolutions, absent from the SSLD weights.

    Raises:
        UsageError: An unknown variant or fusion, or a count below one.
    """

    def __init__(
        self,
        variant: str,
        *,
        classes: int = 1000,
        in_channels: int = 3,
        fusion: str = "nearest",
        align_corners: bool = False,
        stem_stride: int = PUBLISHED_STRIDE,
        head_bias: bool = True,
    ) -> None:
        super().__init__(
            variant,
            in_channels=in_channels,
            fusion=fusion,
            align_corners=align_corners,
            stem_stride=stem_stride,
        )
        if classes < 1:
            raise UsageError(f"classes must be at least 1, got {classes}")
        widened = [planes * BOTTLENECK_EXPANSION for planes in HEAD_PLANES]
        # One more Sequential level than needed, for the released parameter names.
        self.incre_modules = nn.ModuleList(
            nn.Sequential(Bottleneck(channels, planes))
            for channels, planes in zip(self.variant.channels, HEAD_PLANES, strict=True)
        )
        self.downsamp_modules = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(finer, coarser, 3, 2, 1, bias=head_bias),
                nn.BatchNorm2d(coarser),
                nn.ReLU(inplace=True),
            )
            for finer, coarser in pairwise(widened)
        )
        self.final_layer = nn.Sequential(
            nn.Conv2d(widened[-1], FEATURES, 1, bias=head_bias),
            nn.BatchNorm2d(FEATURES),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Linear(FEATURES, classes)
        for part in (self.incre_modules, self.downsamp_modules, self.final_layer):
            initialize_trunk(part)

    def forward(self, pixels: Tensor) -> Tensor:  # type: ignore[override]
        """Map (n, band, row, col) to class logits (n, class)."""
        streams = self.streams(self.stem(pixels)[1])
        widened = [widen(x) for widen, x in zip(self.incre_modules, streams, strict=True)]
        total = widened[0]
        for downsample, coarser in zip(self.downsamp_modules, widened[1:], strict=True):
            total = coarser + downsample(total)
        pooled = self.final_layer(total).mean(dim=(2, 3))
        logits: Tensor = self.classifier(pooled)
        return logits
