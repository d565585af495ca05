"""HRNet segmentation networks as models of segmentation-models-pytorch."""

from __future__ import annotations

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.base import SegmentationModel
from segmentation_models_pytorch.base.hub_mixin import supports_config_loading
from torch import Tensor, nn

from geohr.errors import UsageError
from geohr.hrnet.backbone import resize_bilinear
from geohr.hrnet.encoder import build_encoder
from geohr.hrnet.heads import V2Decoder

FIRST_STREAM = 2
"""Where the streams start among an encoder's features, after the input and the stem."""


def check_classes(classes: int) -> None:
    """Refuse a number of classes that gives no logits.

    Raises:
        UsageError: Fewer than one class.
    """
    if classes < 1:
        raise UsageError(f"classes must be at least 1, got {classes}")


class HRNetV2(SegmentationModel):  # type: ignore[misc]
    """HRNetV2: semantic segmentation from all four streams (paper, section 3.3).

    Logits are computed at stride 4 and upsampled bilinearly to the size of the input, which may
    be any, odd ones included.

    Args:
        encoder_name: "hrnetv2_" and a variant, for example "hrnetv2_w48".
        encoder_weights: None draws new weights, "imagenet" fetches timm's from the hub.
        in_channels: Bands of the input.
        classes: Classes of the output.
        align_corners: For every bilinear upsampling, in the trunk and after it.
        fusion: Upsampling inside the trunk, "bilinear" or "nearest".
        extra_bands: How ImageNet weights serve other than 3 bands, a key of
            ``bands.EXTRA_BANDS``.

    Raises:
        UsageError: An unknown name or value.
    """

    _is_torch_scriptable = False
    requires_divisible_input_shape = False

    @supports_config_loading  # type: ignore[untyped-decorator]
    def __init__(
        self,
        encoder_name: str = "hrnetv2_w18_small_v2",
        *,
        encoder_weights: str | None = None,
        in_channels: int = 3,
        classes: int = 1,
        align_corners: bool = False,
        fusion: str = "bilinear",
        extra_bands: str = "mean",
    ) -> None:
        super().__init__()
        check_classes(classes)
        self.align_corners = align_corners
        self.encoder = build_encoder(
            encoder_name,
            encoder_weights=encoder_weights,
            in_channels=in_channels,
            fusion=fusion,
            align_corners=align_corners,
            extra_bands=extra_bands,
        )
        self.decoder = V2Decoder(self.encoder.variant.channels, align_corners=align_corners)
        self.segmentation_head = nn.Conv2d(self.decoder.out_channels, classes, 1)
        self.classification_head = None
        self.name = f"hrnetv2-{encoder_name}"
        self.initialize()

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (n, band, row, col) to logits (n, class, row, col) of the same rows and columns."""
        streams = self.encoder(pixels)[FIRST_STREAM:]
        logits = self.segmentation_head(self.decoder(streams))
        return resize_bilinear(logits, pixels.shape[-2:], align_corners=self.align_corners)


def register_models() -> None:
    """Let ``smp.create_model`` and ``smp.from_pretrained`` find the models; names taken stay."""
    for model in (HRNetV2,):
        smp.MODEL_ARCHITECTURES_MAPPING.setdefault(model.__name__.lower(), model)
        if not hasattr(smp, model.__name__):
            setattr(smp, model.__name__, model)
