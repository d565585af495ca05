"""Object-contextual representations (OCR): every pixel looks at a summary of each class.

Yuan, Chen, Wang, "Object-Contextual Representations for Semantic Segmentation", ECCV 2020,
section 3, with the sizes of the released HRNet code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from geohr.errors import UsageError
from geohr.hrnet.backbone import conv_bn
from geohr.hrnet.heads import concatenate

PUBLISHED_CHANNELS = 512
"""Channels of the pixel representations in the released code."""

AUXILIARY_WEIGHT = 0.4
"""Share of the auxiliary loss (paper, section 4.2)."""

DROPOUT = 0.05
"""Dropout of the merged representation, fixed in the released code."""


def default_channels(concatenated: int) -> int:
    """Channels of the pixel representations for a trunk: at most what is published.

    512 on a narrow trunk would widen it and triple W18's cost; its authors advise to stay a bit
    below the concatenated width there. A multiple of 64 suits every engine.
    """
    return min(PUBLISHED_CHANNELS, concatenated // 64 * 64)


def in_float32(like: Tensor) -> AbstractContextManager[object]:
    """A region that autocast leaves alone; where autocast is off, nothing that could be traced."""
    device = like.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def _wide(x: Tensor) -> Tensor:
    """Convert to float32, unless the type is finer already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def gather_regions(pixels: Tensor, logits: Tensor) -> Tensor:
    """Sum pixel representations into one per class (paper, equation 8).

    Weights are a softmax over all pixels, of which there may be 100,000s: in half precision most
    would be zero, so this is computed in float32.

    Args:
        pixels: Representations (n, channel, row, col).
        logits: Class logits (n, class, row, col).

    Returns:
        (n, channel, class, 1).
    """
    with in_float32(pixels):
        weights = _wide(logits.flatten(2)).softmax(dim=2)
        regions = torch.bmm(weights, _wide(pixels.flatten(2)).transpose(1, 2))
    return regions.transpose(1, 2).unsqueeze(3).to(pixels.dtype)


class ObjectAttention(nn.Module):
    """Cross-attention from pixels to class representations (paper, equations 9 to 11).

    Args:
        channels: Channels of pixels and regions.
        key_channels: Channels of queries, keys and values.
    """

    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.query = nn.Sequential(
            *conv_bn(channels, key_channels, kernel=1),
            *conv_bn(key_channels, key_channels, kernel=1),
        )
        self.key = nn.Sequential(
            *conv_bn(channels, key_channels, kernel=1),
            *conv_bn(key_channels, key_channels, kernel=1),
        )
        self.value = conv_bn(channels, key_channels, kernel=1)
        self.out = conv_bn(key_channels, channels, kernel=1)
        self.scale = key_channels**-0.5

    def forward(self, pixels: Tensor, regions: Tensor) -> Tensor:
        """Map (n, channel, row, col) and (n, channel, class, 1) to (n, channel, row, col)."""
        query, key, value = self.query(pixels), self.key(regions), self.value(regions)
        with in_float32(pixels):
            affinity = torch.bmm(_wide(query.flatten(2)).transpose(1, 2), _wide(key.flatten(2)))
            share = (affinity * self.scale).softmax(dim=2)
            context = torch.bmm(_wide(value.flatten(2)), share.transpose(1, 2))
        context = context.reshape(*context.shape[:2], *pixels.shape[-2:]).to(pixels.dtype)
        attended: Tensor = self.out(context)
        return attended


class OCRDecoder(nn.Module):
    """Streams to OCR-augmented pixel representations, with the auxiliary logits they rest on.

    Args:
        channels: Channels of the streams, finest first.
        classes: Classes of the auxiliary logits.
        ocr_channels: Channels of the representations; None for ``default_channels``.
        key_channels: Channels of queries, keys and values; None for half of those.
        align_corners: For the bilinear upsampling of the streams.

    Raises:
        UsageError: A channel count that is not positive.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        classes: int,
        ocr_channels: int | None,
        key_channels: int | None,
        align_corners: bool,
    ) -> None:
        super().__init__()
        total = sum(channels)
        self.align_corners = align_corners
        self.out_channels = default_channels(total) if ocr_channels is None else ocr_channels
        keys = self.out_channels // 2 if key_channels is None else key_channels
        if min(self.out_channels, keys) < 1:
            raise UsageError(
                "ocr_channels and key_channels must be positive, got "
                f"{self.out_channels} and {keys}"
            )
        self.aux_head = nn.Sequential(
            nn.Conv2d(total, total, 1),
            nn.BatchNorm2d(total),
            nn.ReLU(inplace=True),
            nn.Conv2d(total, classes, 1),
        )
        self.pixels = nn.Sequential(
            nn.Conv2d(total, self.out_channels, 3, padding=1),
            nn.BatchNorm2d(self.out_channels),
            nn.ReLU(inplace=True),
        )
        self.attention = ObjectAttention(self.out_channels, keys)
        self.merge = nn.Sequential(
            *conv_bn(2 * self.out_channels, self.out_channels, kernel=1), nn.Dropout2d(DROPOUT)
        )

    def forward(self, streams: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Map the streams to representations and auxiliary logits, both at stride 4."""
        joined = concatenate(streams, align_corners=self.align_corners)
        auxiliary = self.aux_head(joined)
        pixels = self.pixels(joined)
        context = self.attention(pixels, gather_regions(pixels, auxiliary))
        return self.merge(torch.cat([context, pixels], dim=1)), auxiliary


def auxiliary_loss(
    criterion: Callable[[Tensor, Tensor], Tensor],
    outputs: Tensor | tuple[Tensor, Tensor],
    target: Tensor,
    *,
    weight: float = AUXILIARY_WEIGHT,
) -> Tensor:
    """The loss of a network whose training output may carry auxiliary logits.

    Args:
        criterion: Takes logits and target to a loss, for example ``nn.CrossEntropyLoss()``.
        outputs: Logits, or logits and auxiliary logits as ``HRNetOCR`` gives in training.
        target: The target of the criterion.
        weight: Share of the auxiliary loss.
    """
    if isinstance(outputs, Tensor):
        return criterion(outputs, target)
    logits, auxiliary = outputs
    return criterion(logits, target) + weight * criterion(auxiliary, target)
