"""The HRNet trunk as an encoder of segmentation-models-pytorch (SMP)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from segmentation_models_pytorch.encoders import encoders, get_encoder

# SMP's decoders ask their encoder for what this class holds, and it has no public name.
from segmentation_models_pytorch.encoders._base import EncoderMixin
from torch import Tensor, nn

from geohr.errors import UsageError
from geohr.hrnet.backbone import HRNet
from geohr.hrnet.bands import RGB, adapt_bands, check_policy, replace_bands
from geohr.hrnet.variants import STEM_CHANNELS, VARIANTS

ENCODER_PREFIX = "hrnetv2_"
FULL_DEPTH = 5

TIMM_REPOSITORIES: dict[str, dict[str, str]] = {
    "imagenet": {
        "w18_small_v1": "timm/hrnet_w18_small.ms_in1k",
        "w18_small_v2": "timm/hrnet_w18_small_v2.ms_in1k",
        "w18": "timm/hrnet_w18.ms_in1k",
        "w30": "timm/hrnet_w30.ms_in1k",
        "w32": "timm/hrnet_w32.ms_in1k",
        "w40": "timm/hrnet_w40.ms_in1k",
        "w44": "timm/hrnet_w44.ms_in1k",
        "w48": "timm/hrnet_w48.ms_in1k",
        "w64": "timm/hrnet_w64.ms_in1k",
    },
    "ssld": {
        "w18": "timm/hrnet_w18_ssld.paddle_in1k",
        "w48": "timm/hrnet_w48_ssld.paddle_in1k",
    },
}
"""Where timm keeps ImageNet weights on the Hugging Face hub: the authors' own, and better ones
that were distilled (Cui et al., "Beyond Self-Supervision", 2021)."""

CLASSIFICATION_HEAD = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")
"""Prefixes of the parameters that only the classification network has."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Normalisation, on [0, 1], that the ImageNet weights were trained with."""


class HRNetEncoder(HRNet, EncoderMixin):  # type: ignore[misc]
    """HRNet with the interface that every SMP decoder expects.

    Features are the input, the first half of the stem (64 channels, stride 2) and the streams at
    strides 4 to ``2**depth``. A smaller depth stops after an earlier stage and builds no more.

    Args:
        variant: Name in ``VARIANTS``.
        depth: 3, 4 or 5 downsamplings.
        output_stride: Accepted for SMP's sake; only what 32 means is possible.
        in_channels: Bands of the input.
        fusion: See ``HRNet``.
        align_corners: See ``HRNet``.
        multi_scale: See ``HRNet``; False gives no feature beyond stride 4.

    Raises:
        UsageError: A depth out of range, or what ``HRNet`` refuses.
    """

    _is_torch_scriptable = False

    def __init__(
        self,
        variant: str,
        *,
        depth: int = FULL_DEPTH,
        output_stride: int = 32,
        in_channels: int = 3,
        fusion: str = "bilinear",
        align_corners: bool = False,
        multi_scale: bool = True,
    ) -> None:
        if depth not in (3, 4, FULL_DEPTH):
            raise UsageError(f"the depth of an HRNet encoder must be 3, 4 or 5, got {depth}")
        super().__init__(
            variant,
            in_channels=in_channels,
            fusion=fusion,
            align_corners=align_corners,
            stages=depth - 1,
            multi_scale=multi_scale,
        )
        self._depth = depth
        self._in_channels = in_channels
        self._out_channels = [
            in_channels,
            STEM_CHANNELS,
            *self.variant.channels[: self.out_streams],
        ]
        self._output_stride = output_stride

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Map (n, band, row, col) to depth + 1 features at strides 1, 2, 4, ..."""
        half = self.stem_half(pixels)
        return [pixels, half, *self.streams(half)]

    def set_in_channels(
        self, in_channels: int, pretrained: bool = True, *, extra_bands: str = "mean"
    ) -> None:
        """Change the number of input bands.

        Args:
            in_channels: Bands of the input, 1 or more.
            pretrained: Derive the filters from those for RGB; else draw new ones.
            extra_bands: How they are derived, a key of ``bands.EXTRA_BANDS``.

        Raises:
            UsageError: No band, or a policy that is unknown or cannot serve so few bands.
        """
        if in_channels < 1:
            raise UsageError(f"in_channels must be at least 1, got {in_channels}")
        if in_channels == self._in_channels:
            return
        if pretrained:
            weight = adapt_bands(self.conv1.weight.detach(), in_channels, policy=extra_bands)
        else:
            weight = torch.empty(STEM_CHANNELS, in_channels, *self.conv1.kernel_size)
            nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
        replace_bands(self.conv1, weight)
        self._in_channels = in_channels
        self._out_channels[0] = in_channels

    def make_dilated(self, output_stride: int) -> None:
        """Refuse: there is nothing to dilate in a network that keeps its resolution.

        Raises:
            UsageError: Always.
        """
        raise UsageError(
            f"an HRNet encoder cannot be dilated to output stride {output_stride}: it keeps a "
            "stride-4 stream throughout. Use HRNetV2, HRNetOCR, Unet, UnetPlusPlus, MAnet, "
            "Linknet, FPN, PSPNet, UPerNet or Segformer, or PAN with encoder_output_stride=32"
        )

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load trunk weights, leaving out a classification head and stages that were not built."""
        unbuilt = self._unbuilt()
        trunk = {
            key: value
            for key, value in state_dict.items()
            if not key.startswith((*CLASSIFICATION_HEAD, *unbuilt))
        }
        return super().load_state_dict(trunk, strict=strict, assign=assign)

    def _unbuilt(self) -> tuple[str, ...]:
        """Prefixes of the parameters that the full trunk has and this one does not."""
        later = range(self.stages + 1, FULL_DEPTH)
        last = f"stage{self.stages}.{self.variant.modules[self.stages - 2] - 1}"
        return (
            *(f"transition{stage - 1}." for stage in later),
            *(f"stage{stage}." for stage in later),
            *(f"{last}.fuse_layers.{out}." for out in range(self.out_streams, self.stages)),
        )


def build_encoder(
    encoder_name: str,
    *,
    encoder_weights: str | None,
    in_channels: int,
    fusion: str,
    align_corners: bool,
    extra_bands: str,
    multi_scale: bool = True,
) -> HRNetEncoder:
    """Build a full-depth encoder by its registered name, with weights if asked for.

    Raises:
        UsageError: An unknown name, weights or policy.
    """
    variant = variant_of(encoder_name)
    check_policy(extra_bands)
    encoder = HRNetEncoder(
        variant,
        in_channels=in_channels if encoder_weights is None else RGB,
        fusion=fusion,
        align_corners=align_corners,
        multi_scale=multi_scale,
    )
    if encoder_weights is not None:
        known = encoders[encoder_name]["pretrained_settings"]
        if encoder_weights not in known:
            raise UsageError(
                f"encoder_weights must be None or one of {', '.join(known)}, "
                f"got {encoder_weights!r}"
            )
        encoder.load_state_dict(get_encoder(encoder_name, weights=encoder_weights).state_dict())
        encoder.set_in_channels(in_channels, extra_bands=extra_bands)
    return encoder


def variant_of(encoder_name: str) -> str:
    """The variant behind a registered encoder name.

    Raises:
        UsageError: Not one of the names that ``register`` gives.
    """
    variant = encoder_name.removeprefix(ENCODER_PREFIX)
    if encoder_name == variant or variant not in VARIANTS:
        known = ", ".join(ENCODER_PREFIX + name for name in VARIANTS)
        raise UsageError(f"unknown HRNet encoder {encoder_name!r}, choose one of {known}")
    return variant


def register_encoders() -> None:
    """Add the encoders to SMP's registry; a name that is taken already is left alone."""
    for variant in VARIANTS:
        encoders.setdefault(
            ENCODER_PREFIX + variant,
            {
                "encoder": HRNetEncoder,
                "pretrained_settings": {
                    tag: {"repo_id": repositories[variant], "revision": "main"}
                    for tag, repositories in TIMM_REPOSITORIES.items()
                    if variant in repositories
                },
                "params": {"variant": variant},
            },
        )
