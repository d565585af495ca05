"""The V1 network for keypoints: heatmaps from the high-resolution stream alone."""

from __future__ import annotations

from torch import Tensor, nn

from geohr.errors import UsageError
from geohr.hrnet.backbone import PUBLISHED_STRIDE, HRNet


class HRNetHeatmaps(HRNet):
    """HRNetV1: one heatmap a keypoint, at stride 4 (paper, section 4 and figure 4 a).

    Parameters are named as in the released pose code.

    Args:
        variant: Name in ``VARIANTS``.
        keypoints: Heatmaps of the output.
        in_channels: Bands of the input.
        fusion: Upsampling inside the trunk; the published weights were trained with "nearest".
        align_corners: For bilinear fusion.
        stem_stride: Stride of the finest stream.

    Raises:
        UsageError: An unknown variant or fusion, or a count below one.
    """

    def __init__(
        self,
        variant: str,
        *,
        keypoints: int = 1,
        in_channels: int = 3,
        fusion: str = "nearest",
        align_corners: bool = False,
        stem_stride: int = PUBLISHED_STRIDE,
    ) -> None:
        super().__init__(
            variant,
            in_channels=in_channels,
            fusion=fusion,
            align_corners=align_corners,
            streams=1,
            stem_stride=stem_stride,
        )
        if keypoints < 1:
            raise UsageError(f"keypoints must be at least 1, got {keypoints}")
        self.final_layer = nn.Conv2d(self.variant.width, keypoints, 1)

    def forward(self, pixels: Tensor) -> Tensor:  # type: ignore[override]
        """Map (n, band, row, col) to heatmaps (n, keypoint, row, col) at stride 4."""
        heatmaps: Tensor = self.final_layer(self.streams(self.stem(pixels)[1])[0])
        return heatmaps
