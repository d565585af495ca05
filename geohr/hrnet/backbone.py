"""The HRNet trunk: parallel streams at strides 4, 8, 16 and 32 that are fused again and again.

Parameter names are those of the released code, so that published checkpoints load by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from geohr.errors import UsageError
from geohr.hrnet.variants import (
    BOTTLENECK_EXPANSION,
    STEM_CHANNELS,
    STEM_STRIDES,
    Variant,
    get_variant,
)

PUBLISHED_STRIDE = 4
"""Stride of the finest stream in the paper's networks."""

FUSIONS = ("nearest", "bilinear")
"""How streams are upsampled: nearest in classification and pose, bilinear in segmentation."""


@dataclass(frozen=True, slots=True)
class Interpolation:
    """How streams are brought to the size of a finer one.

    Raises:
        UsageError: An unknown fusion.
    """

    fusion: str = "bilinear"
    """"nearest" or "bilinear"."""
    align_corners: bool = False
    """Whether corner pixels keep their centres; it has no meaning for nearest."""

    def __post_init__(self) -> None:
        """Check the fusion."""
        if self.fusion not in FUSIONS:
            raise UsageError(f"fusion must be one of {', '.join(FUSIONS)}, got {self.fusion!r}")

    def resize(self, streams: Tensor, size: Sequence[int]) -> Tensor:
        """Resize (n, channel, row, col) to the rows and columns of ``size``."""
        if self.fusion == "nearest":
            return functional.interpolate(streams, size=size, mode="nearest")
        return resize_bilinear(streams, size, align_corners=self.align_corners)


def resize_bilinear(streams: Tensor, size: Sequence[int], *, align_corners: bool) -> Tensor:
    """Resize (n, channel, row, col) to the rows and columns of ``size``, bilinearly."""
    return functional.interpolate(streams, size=size, mode="bilinear", align_corners=align_corners)


def conv_bn(
    in_channels: int, out_channels: int, *, kernel: int, stride: int = 1, relu: bool = True
) -> nn.Sequential:
    """A bias-free convolution that keeps ceil(size / stride), batch norm and, if asked, ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with an identity shortcut (He et al., 2016, figure 5 left)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channel, row, col) to the same shape."""
        out = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += x
        return functional.relu(out, inplace=True)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions with a shortcut (He et al., 2016, figure 5 right)."""

    def __init__(self, in_channels: int, planes: int, *, stride: int = 1) -> None:
        super().__init__()
        out_channels = planes * BOTTLENECK_EXPANSION
        self.conv1 = nn.Conv2d(in_channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if in_channels != out_channels:
            self.downsample = conv_bn(
                in_channels, out_channels, kernel=1, stride=stride, relu=False
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in channel, row, col) to (n, 4 * planes, row / stride, col / stride)."""
        out = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        out = functional.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return functional.relu(out, inplace=True)


def _fuse_layer(channels: Sequence[int], source: int, target: int) -> nn.Module:
    """The path of stream ``source`` into stream ``target``, before any upsampling."""
    if source == target:
        return nn.Identity()
    if source > target:
        # The 1x1 convolution comes before the upsampling: both are linear and interpolation
        # weights sum to one, so the order does not matter to the result, only to its cost.
        return conv_bn(channels[source], channels[target], kernel=1, relu=False)
    steps = target - source
    halvings = [
        conv_bn(
            channels[source],
            channels[target] if step == steps - 1 else channels[source],
            kernel=3,
            stride=2,
            relu=step < steps - 1,
        )
        for step in range(steps)
    ]
    return nn.Sequential(*halvings)


class HighResolutionModule(nn.Module):
    """Residual blocks per stream, then a fusion of all streams into each (paper, section 3.2)."""

    def __init__(
        self,
        channels: Sequence[int],
        *,
        blocks: int,
        outputs: int,
        interpolation: Interpolation,
    ) -> None:
        super().__init__()
        self.interpolation = interpolation
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(count) for _ in range(blocks))) for count in channels
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fuse_layer(channels, source, target) for source in range(len(channels)))
            for target in range(outputs)
        )

    def forward(self, streams: list[Tensor]) -> list[Tensor]:
        """Map the streams, finest first, to the fused streams that this module gives."""
        streams = [branch(stream) for branch, stream in zip(self.branches, streams, strict=True)]
        return [self._fuse(streams, target) for target in range(len(self.fuse_layers))]

    def _fuse(self, streams: list[Tensor], target: int) -> Tensor:
        layers = self.fuse_layers[target]
        assert isinstance(layers, nn.ModuleList)
        size = streams[target].shape[-2:]
        total: Tensor | None = None
        # The released code sums from the finest to the coarsest stream; float sums depend on it.
        for source, (layer, stream) in enumerate(zip(layers, streams, strict=True)):
            part = layer(stream)
            if source > target:
                part = self.interpolation.resize(part, size)
            total = part if total is None else total + part
        assert total is not None
        return functional.relu(total, inplace=True)


def _transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """Carry streams into the next stage and start one new stream from the coarsest."""
    layers: list[nn.Module] = []
    for old, new in zip(before, after, strict=False):
        layers.append(nn.Identity() if old == new else conv_bn(old, new, kernel=3))
    # The extra Sequential level is in the released parameter names (transition1.1.0.0.weight).
    layers.append(nn.Sequential(conv_bn(before[-1], after[len(before)], kernel=3, stride=2)))
    return nn.ModuleList(layers)


class HRNet(nn.Module):
    """The HRNet trunk (Wang et al., "Deep High-Resolution Representation Learning", section 3).

    Any input size works; stream b has ceil(size / (stem_stride * 2**b)) rows and columns.

    Args:
        variant: Name in ``VARIANTS``, for example "w18" or "w18_small_v2".
        in_channels: Bands of the input.
        fusion: Upsampling between streams, "nearest" (ImageNet and pose weights) or "bilinear".
        align_corners: For bilinear fusion (True in the released OCR code, else False).
        stages: Stages that are built: 4 gives four streams, 3 three, 2 two.
        streams: Streams that the last stage gives, the finest ones; None for all, 1 for the V1 of
            the paper.
        stem_stride: Stride of the finest stream, one of 1, 2, 4 and 8. The tensors are the same at
            any of them, so published weights (made at 4) load at all.

    Raises:
        UsageError: An unknown variant or fusion, or counts out of range.
    """

    def __init__(
        self,
        variant: str,
        *,
        in_channels: int = 3,
        fusion: str = "bilinear",
        align_corners: bool = False,
        stages: int = 4,
        streams: int | None = None,
        stem_stride: int = PUBLISHED_STRIDE,
    ) -> None:
        super().__init__()
        if in_channels < 1:
            raise UsageError(f"in_channels must be at least 1, got {in_channels}")
        if stages not in (2, 3, 4):
            raise UsageError(f"stages must be 2, 3 or 4, got {stages}")
        if stem_stride not in STEM_STRIDES:
            raise UsageError(f"stem_stride must be 1, 2, 4 or 8, got {stem_stride}")
        self.variant: Variant = get_variant(variant)
        self.interpolation = Interpolation(fusion, align_corners)
        self.stages = stages
        self.out_streams = stages if streams is None else streams
        self.stem_stride = stem_stride
        first, second, self._stage1_stride = _stem_steps(stem_stride)
        self.conv1 = nn.Conv2d(in_channels, STEM_CHANNELS, 3, first, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.conv2 = nn.Conv2d(STEM_CHANNELS, STEM_CHANNELS, 3, second, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(STEM_CHANNELS)
        self.layer1 = self._stage1()
        before: Sequence[int] = (self.variant.stage1_channels,)
        for stage in range(2, stages + 1):
            after = self.variant.channels[:stage]
            self.add_module(f"transition{stage - 1}", _transition(before, after))
            self.add_module(
                f"stage{stage}", self._stage(stage, self.out_streams if stage == stages else stage)
            )
            before = after
        initialize_trunk(self)

    def _stage1(self) -> nn.Sequential:
        planes, channels = self.variant.stage1_planes, self.variant.stage1_channels
        blocks = [
            Bottleneck(channels if index else STEM_CHANNELS, planes, stride=stride)
            for index, stride in enumerate(
                (self._stage1_stride, *[1] * (self.variant.stage1_blocks - 1))
            )
        ]
        return nn.Sequential(*blocks)

    def _stage(self, stage: int, outputs: int) -> nn.ModuleList:
        channels = self.variant.channels[:stage]
        count = self.variant.modules[stage - 2]
        return nn.ModuleList(
            HighResolutionModule(
                channels,
                blocks=self.variant.blocks,
                outputs=outputs if index == count - 1 else stage,
                interpolation=self.interpolation,
            )
            for index in range(count)
        )

    def stem(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Map (n, band, row, col) to what the two stem convolutions give, 64 channels each."""
        first = functional.relu(self.bn1(self.conv1(pixels)), inplace=True)
        return first, functional.relu(self.bn2(self.conv2(first)), inplace=True)

    def streams(self, stem: Tensor) -> list[Tensor]:
        """From the second feature of ``stem`` to the streams, finest first."""
        streams = [self.layer1(stem)]
        for stage in range(2, self.stages + 1):
            transition = self.get_submodule(f"transition{stage - 1}")
            assert isinstance(transition, nn.ModuleList)
            # Only the new stream, and in transition 1 both, differ from what is there already.
            carried = [*streams, streams[-1]]
            streams = [layer(x) for layer, x in zip(transition, carried, strict=True)]
            modules = self.get_submodule(f"stage{stage}")
            assert isinstance(modules, nn.ModuleList)
            for module in modules:
                streams = module(streams)
        return streams

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Map (n, band, row, col) to the streams at strides 4, 8, 16, 32 with C to 8C channels."""
        return self.streams(self.stem(pixels)[1])


def _stem_steps(stem_stride: int) -> tuple[int, int, int]:
    """The strides of the two stem convolutions and of stage 1, whose product is ``stem_stride``."""
    # Beyond 4 the first bottleneck takes the step, as in a ResNet: a 3x3 convolution of stride 4
    # would skip every fourth pixel.
    return {1: (1, 1, 1), 2: (2, 1, 1), 4: (2, 2, 1), 8: (2, 2, 2)}[stem_stride]


def initialize_trunk(module: nn.Module) -> None:
    """Kaiming initialisation (He et al., 2015) of every convolution, batch norms as identity.

    The released segmentation code draws from N(0, 0.001) because ImageNet weights overwrite it;
    from scratch that starves the deep streams.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)


__all__ = [
    "FUSIONS",
    "BasicBlock",
    "Bottleneck",
    "HRNet",
    "HighResolutionModule",
    "Interpolation",
    "conv_bn",
    "initialize_trunk",
    "resize_bilinear",
]
