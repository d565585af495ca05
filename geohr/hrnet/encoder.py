"""The HRNet trunk as an encoder of segmentation-models-pytorch (SMP)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.encoders import encoders, get_encoder

# SMP's decoders ask their encoder for what this class holds, and it has no public name.
from segmentation_models_pytorch.encoders._base import EncoderMixin
from torch import Tensor, nn
from torch.nn import functional

from geohr._runtime.messages import first_line
from geohr.errors import InputError, UsageError
from geohr.hrnet.backbone import PUBLISHED_STRIDE, HRNet
from geohr.hrnet.bands import RGB, adapt_bands, check_policy, replace_bands
from geohr.hrnet.variants import STEM_CHANNELS, STEM_STRIDES, VARIANTS

ENCODER_PREFIX = "hrnetv2_"
FULL_DEPTH = 5

TIMM_REPOSITORIES: dict[str, dict[str, str]] = {
    "imagenet": {
        "w18_small_v1": "timm/hrnet_w18_small.ms_in1k",
        "w18_small_v2": "timm/hrnet_w18_small_v2.ms_in1k",
        "w18": "timm/hrnet_w18.ms_aug_in1k",
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
    # The first W18 of the authors, before the longer training that timm takes by default.
    "ms": {"w18": "timm/hrnet_w18.ms_in1k"},
    "gluon": {
        "w18_small_v1": "timm/hrnet_w18_small.gluon_in1k",
        "w18_small_v2": "timm/hrnet_w18_small_v2.gluon_in1k",
    },
}
"""Where timm keeps ImageNet weights on the Hugging Face hub, by tag and variant: the authors' own
("imagenet", timm's default for each name), better ones that were distilled ("ssld"; Cui et al.,
"Beyond Self-Supervision", 2021), and others' ("ms", "gluon")."""

CLASSIFICATION_HEAD = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")
"""Prefixes of the parameters that only the classification network has."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Normalisation, on [0, 1], that the ImageNet weights were trained with."""


class HRNetEncoder(HRNet, EncoderMixin):  # type: ignore[misc]
    """HRNet with the interface that every SMP decoder expects.

    Features are the input, the first half of the stem (64 channels, stride 2) and the streams at
    strides 4 to ``2**depth``. A smaller depth stops after an earlier stage and builds no more.

    Feature i has stride ``2**i`` at any stem stride, so that every decoder fits: a finer stem puts
    streams in place of stem features and the coarsest stream, pooled, beyond; a coarser one has
    both stem features and leaves the coarsest stream to the fusion. At stem stride 1 the finest
    stream is feature 0, which SMP's own decoders do not read.

    Args:
        variant: Name in ``VARIANTS``.
        depth: Downsamplings, at least 3 and at most 5, or what all four streams need.
        output_stride: Accepted for SMP's sake; only what 32 means is possible.
        in_channels: Bands of the input.
        fusion: See ``HRNet``.
        align_corners: See ``HRNet``.
        streams: See ``HRNet``; None for what the depth asks for.
        stem_stride: See ``HRNet``.

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
        streams: int | None = None,
        stem_stride: int = PUBLISHED_STRIDE,
    ) -> None:
        deepest = max(FULL_DEPTH, full_depth(stem_stride))
        if not 3 <= depth <= deepest:
            allowed = ", ".join(map(str, range(3, deepest)))
            raise UsageError(
                f"the depth of an HRNet encoder must be {allowed} or {deepest}, got {depth}"
            )
        self.first_stream = _exponent(stem_stride)
        wanted = depth + 1 - self.first_stream
        stages = 4 if depth >= FULL_DEPTH else min(max(wanted, 2), 4)
        super().__init__(
            variant,
            in_channels=in_channels,
            fusion=fusion,
            align_corners=align_corners,
            stages=stages,
            streams=min(stages, wanted) if streams is None else streams,
            stem_stride=stem_stride,
        )
        stems = max(self.first_stream - 1, 0)
        given = self.variant.channels[: self.out_streams]
        self._pooled = 0 if streams is not None else wanted - self.out_streams
        self._depth = depth
        self._in_channels = in_channels
        self._out_channels = [
            *([in_channels] if self.first_stream else []),
            *[STEM_CHANNELS] * stems,
            *given,
            *[given[-1]] * self._pooled,
        ]
        self._output_stride = output_stride

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Map (n, band, row, col) to depth + 1 features at strides 1, 2, 4, ...; see the class."""
        first, second = self.stem(pixels)
        features = [pixels, first, second][: self.first_stream] + self.streams(second)
        for _ in range(self._pooled):
            features.append(functional.avg_pool2d(features[-1], 2, ceil_mode=True))
        return features

    def set_in_channels(
        self, in_channels: int, pretrained: bool = True, *, extra_bands: str = "mean"
    ) -> None:
        """Change the number of input bands.

        Args:
            in_channels: Bands of the input, 1 or more.
            pretrained: Derive the filters from those for RGB; else draw new ones.
            extra_bands: The policy for other than 3 bands, a key of ``bands.EXTRA_BANDS``.

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
        if self.first_stream:
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
        later = range(self.stages + 1, len(self.variant.channels) + 1)
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
    stem_stride: int,
    streams: int | None = None,
) -> HRNetEncoder:
    """Build an encoder that gives all streams by its registered name, with weights if asked for.

    Raises:
        KeyError: Unknown weights; SMP's own.
        InputError: The hub that holds them cannot be reached.
        UsageError: An unknown name or policy.
    """
    variant = variant_of(encoder_name)
    check_policy(extra_bands)
    encoder = HRNetEncoder(
        variant,
        in_channels=in_channels if encoder_weights is None else RGB,
        fusion=fusion,
        align_corners=align_corners,
        depth=full_depth(stem_stride),
        streams=streams,
        stem_stride=stem_stride,
    )
    if encoder_weights is not None:
        try:
            published = get_encoder(encoder_name, weights=encoder_weights)
        except OSError as error:
            raise InputError(
                f"the {encoder_weights} weights of {encoder_name} cannot be fetched "
                f"({first_line(error)}); "
                "without a hub pass encoder_weights=None and "
                "load_trunk(model.encoder, FILE), or name a mirror with HF_ENDPOINT"
            ) from error
        encoder.load_state_dict(published.state_dict())
        encoder.set_in_channels(in_channels, extra_bands=extra_bands)
    return encoder


def full_depth(stem_stride: int) -> int:
    """The encoder depth at which feature ``depth`` is the coarsest of the four streams.

    Raises:
        UsageError: Not a stride that ``HRNet`` takes.
    """
    return _exponent(stem_stride) + 3


def _exponent(stem_stride: int) -> int:
    if stem_stride not in STEM_STRIDES:
        raise UsageError(f"stem_stride must be 1, 2, 4 or 8, got {stem_stride}")
    return STEM_STRIDES.index(stem_stride)


def encoder_at(encoder_name: str, stem_stride: int) -> str:
    """The registered name of an encoder of ours at a stem stride."""
    return encoder_name + ("" if stem_stride == PUBLISHED_STRIDE else f"_stride{stem_stride}")


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
    """Add the encoders to SMP's registry; a name that is taken already is left alone.

    SMP's own models hand no argument on to an encoder, so that each stem stride beside the
    published one is a name of its own, "hrnetv2_w18_stride2".
    """
    for variant in VARIANTS:
        for stem_stride in STEM_STRIDES:
            encoders.setdefault(
                encoder_at(ENCODER_PREFIX + variant, stem_stride),
                {
                    "encoder": HRNetEncoder,
                    "pretrained_settings": {
                        tag: {"repo_id": repositories[variant], "revision": "main"}
                        for tag, repositories in TIMM_REPOSITORIES.items()
                        if variant in repositories
                    },
                    "params": {"variant": variant, "stem_stride": stem_stride},
                },
            )
    _teach_preprocessing()


def _teach_preprocessing() -> None:
    """Let SMP's recipe, ``get_preprocessing_fn(encoder_name, "imagenet")``, know our encoders.

    SMP reads mean and std at the top of the hub's config.json, where timm does not keep them. The
    one place for a function that knows them is SMP's own module, in which ``get_preprocessing_fn``
    looks it up.
    """
    theirs = smp.encoders.get_preprocessing_params
    if getattr(theirs, "knows_hrnet", False):
        return

    @functools.wraps(theirs)
    def get_preprocessing_params(encoder_name: str, pretrained: str = "imagenet") -> Any:
        entry = encoders.get(encoder_name, {})
        if (
            entry.get("encoder") is not HRNetEncoder
            or pretrained not in entry["pretrained_settings"]
        ):
            return theirs(encoder_name, pretrained)
        return {
            "input_space": "RGB",
            "input_range": [0, 1],
            "mean": list(IMAGENET_MEAN),
            "std": list(IMAGENET_STD),
        }

    get_preprocessing_params.knows_hrnet = True  # type: ignore[attr-defined]
    smp.encoders.get_preprocessing_params = get_preprocessing_params
