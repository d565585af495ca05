"""HRNet segmentation networks as models of segmentation-models-pytorch (SMP)."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar, Self

import segmentation_models_pytorch as smp
from segmentation_models_pytorch.base import SegmentationModel
from segmentation_models_pytorch.base.hub_mixin import supports_config_loading
from torch import Tensor, nn

from geohr.errors import UsageError
from geohr.hrnet.backbone import PUBLISHED_STRIDE, resize_bilinear
from geohr.hrnet.encoder import build_encoder
from geohr.hrnet.fuse import fuse
from geohr.hrnet.heads import FinestStream, V2Decoder
from geohr.hrnet.ocr import OCRDecoder

DEFAULT_ENCODER = "hrnetv2_w18_small_v2"


class HRNetSegmentation(SegmentationModel):  # type: ignore[misc]
    """The base class of segmentation networks: any input size, logits of that size, ``fuse``."""

    _is_torch_scriptable = False
    requires_divisible_input_shape = False

    align_corners: bool

    # SMP's mixin for the hub notes the arguments of any network in its own `__new__`, which each
    # call therefore passes through with whatever it was given.
    def __new__(cls, *args: object, **kwargs: object) -> Self:
        """Refuse an argument that is not there, by the network's name and with what is meant.

        Raises:
            TypeError: As Python would, but of this class and not of one that it is made from.
        """
        known = set(inspect.signature(cls.__init__).parameters)
        for name in kwargs.keys() - known:
            if not name.startswith("_"):
                near = get_close_matches(name, known, n=1)
                hint = (
                    f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
                )
                raise TypeError(f"{cls.__name__} takes no argument {name!r}; {hint}")
        made: Self = super().__new__(cls, *args, **kwargs)
        return made

    def _finish(self, *, channels: int, classes: int, name: str) -> None:
        """Add the 1x1 classifier and draw the weights of decoder and head."""
        if classes < 1:
            raise UsageError(f"classes must be at least 1, got {classes}")
        self.segmentation_head = nn.Conv2d(channels, classes, 1)
        self.classification_head = None
        self.name = name
        self.initialize()
        # What save_pretrained writes holds the weights: loading it must not fetch others first.
        self._hub_mixin_config["encoder_weights"] = None

    def _logits(self, representation: Tensor, pixels: Tensor) -> Tensor:
        return self._upsample(self.segmentation_head(representation), pixels)

    def _upsample(self, logits: Tensor, pixels: Tensor) -> Tensor:
        return resize_bilinear(logits, pixels.shape[-2:], align_corners=self.align_corners)

    def _streams(self, pixels: Tensor) -> list[Tensor]:
        features: list[Tensor] = self.encoder(pixels)
        return features[self.encoder.first_stream :]

    def _save_pretrained(self, save_directory: Path) -> None:
        if isinstance(self.encoder.bn1, nn.Identity):
            raise UsageError(
                "a fused network cannot be saved for from_pretrained, as its parameters have "
                "other names: save the network that it was made from, and fuse after loading"
            )
        super()._save_pretrained(save_directory)

    def fuse(self) -> Self:
        """The inference form of this network, a copy; see ``geohr.hrnet.fuse``."""
        return fuse(self)


class OneHead(HRNetSegmentation):
    """HRNet with a decoder of streams to one representation; what V1 and V2 share.

    Args:
        encoder_name: "hrnetv2_" and a variant, for example "hrnetv2_w48".
        encoder_weights: A tag of ``TIMM_REPOSITORIES``, whose weights are fetched from the hub, or
            None for new ones; "imagenet" unless said otherwise, as in all of SMP.
        in_channels: Bands of the input.
        classes: Classes of the output.
        align_corners: For every bilinear upsampling, in the trunk and after it.
        fusion: Upsampling inside the trunk, "bilinear" or "nearest".
        extra_bands: How ImageNet weights serve other than 3 bands, a key of
            ``bands.EXTRA_BANDS``.
        stem_stride: Stride of the finest stream: 1, 2, 4 or 8. A finer one sees smaller objects,
            a coarser one is quicker; the tensors are the same.

    Raises:
        UsageError: An unknown name or value.
    """

    streams: ClassVar[int | None] = None
    """Streams that the last module of the trunk fuses into, the finest ones; None for all."""

    @supports_config_loading  # type: ignore[untyped-decorator]
    def __init__(
        self,
        encoder_name: str = DEFAULT_ENCODER,
        *,
        encoder_weights: str | None = "imagenet",
        in_channels: int = 3,
        classes: int = 1,
        align_corners: bool = False,
        fusion: str = "bilinear",
        extra_bands: str = "mean",
        stem_stride: int = PUBLISHED_STRIDE,
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.encoder = build_encoder(
            encoder_name,
            encoder_weights=encoder_weights,
            in_channels=in_channels,
            fusion=fusion,
            align_corners=align_corners,
            extra_bands=extra_bands,
            stem_stride=stem_stride,
            streams=self.streams,
        )
        self.decoder, channels = self._build_decoder()
        name = f"{type(self).__name__.lower()}-{encoder_name}"
        self._finish(channels=channels, classes=classes, name=name)

    def _build_decoder(self) -> tuple[nn.Module, int]:
        """The decoder and the channels that it gives."""
        raise NotImplementedError

    def forward(self, pixels: Tensor) -> Tensor:
        """Map (n, band, row, col) to logits (n, class, row, col) of the same rows and columns."""
        return self._logits(self.decoder(self._streams(pixels)), pixels)


class HRNetV1(OneHead):
    """HRNetV1 for segmentation: the high-resolution stream alone, for comparison with V2.

    Logits are computed at stride 4 and upsampled bilinearly to the size of the input. Arguments
    are those of ``HRNetV2``.
    """

    streams = 1

    def _build_decoder(self) -> tuple[nn.Module, int]:
        return FinestStream(), self.encoder.variant.width


class HRNetV2(OneHead):
    """HRNetV2: semantic segmentation from all four streams (paper, section 3.3).

    Logits are computed at stride 4 and upsampled bilinearly to the size of the input, which may
    be any, odd ones included.
    """

    def _build_decoder(self) -> tuple[nn.Module, int]:
        decoder = V2Decoder(self.encoder.variant.channels, align_corners=self.align_corners)
        return decoder, decoder.out_channels


class HRNetOCR(HRNetSegmentation):
    """HRNetV2 with object-contextual representations (paper, section 5.2; Yuan et al., 2020).

    Args:
        encoder_name: See ``HRNetV2``, as those that are not listed here.
        encoder_weights: As for ``HRNetV2``.
        in_channels: Bands of the input.
        classes: Classes of the output.
        align_corners: For every bilinear upsampling; the released OCR weights need True.
        fusion: Upsampling inside the trunk.
        extra_bands: The policy for ImageNet weights with other than 3 bands.
        ocr_channels: Channels of the pixel representations; None for 512, less on narrow trunks.
        key_channels: Channels of the attention; None for half of those.
        stem_stride: Stride of the finest stream.

    Raises:
        UsageError: An unknown name or value.
    """

    @supports_config_loading  # type: ignore[untyped-decorator]
    def __init__(
        self,
        encoder_name: str = DEFAULT_ENCODER,
        *,
        encoder_weights: str | None = "imagenet",
        in_channels: int = 3,
        classes: int = 1,
        align_corners: bool = False,
        fusion: str = "bilinear",
        extra_bands: str = "mean",
        ocr_channels: int | None = None,
        key_channels: int | None = None,
        stem_stride: int = PUBLISHED_STRIDE,
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.encoder = build_encoder(
            encoder_name,
            encoder_weights=encoder_weights,
            in_channels=in_channels,
            fusion=fusion,
            align_corners=align_corners,
            extra_bands=extra_bands,
            stem_stride=stem_stride,
        )
        self.decoder = OCRDecoder(
            self.encoder.variant.channels,
            classes=classes,
            ocr_channels=ocr_channels,
            key_channels=key_channels,
            align_corners=align_corners,
        )
        channels = self.decoder.out_channels
        self._finish(channels=channels, classes=classes, name=f"hrnetocr-{encoder_name}")

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map (n, band, row, col) to logits (n, class, row, col) of the same rows and columns.

        In training mode the auxiliary logits, of the same shape, come second; see
        ``auxiliary_loss``.
        """
        representation, auxiliary = self.decoder(self._streams(pixels))
        logits = self._logits(representation, pixels)
        if self.training:
            return logits, self._upsample(auxiliary, pixels)
        return logits


def register_models() -> None:
    """Let ``smp.create_model`` and ``smp.from_pretrained`` find the models; names taken stay."""
    for model in (HRNetV1, HRNetV2, HRNetOCR):
        smp.MODEL_ARCHITECTURES_MAPPING.setdefault(model.__name__.lower(), model)
        # create_model looks in the mapping, from_pretrained for a class of that name in the module;
        # SMP has no call that registers a model.
        if not hasattr(smp, model.__name__):
            setattr(smp, model.__name__, model)
