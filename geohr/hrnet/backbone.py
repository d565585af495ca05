"""The HRNet trunk: parallel streams at strides 4, 8, 16 and 32 that are fused again and again.

Parameter names are those of the released code, so that published checkpoints load by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from geohr.errors import UsageError
from geohr.hrnet.variants import BOTTLENECK_EXPANSION, STEM_CHANNELS, Variant, get_variant

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

    def __init__(self, in_channels: int, planes: int) -> None:
        super().__init__()
        out_channels = planes * BOTTLENECK_EXPANSION
        self.conv1 = nn.Conv2d(in_channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if in_channels != out_channels:
            self.downsample = conv_bn(in_channels, out_channels, kernel=1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in channel, row, col) to (n, 4 * planes, row, col)."""
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

    Any input size works; stream b has ceil(size / (4 * 2**b)) rows and columns.

    Args:
        variant: Name in ``VARIANTS``, for example "w18" or "w18_small_v2".
        in_channels: Bands of the input.
        fusion: Upsampling between streams, "nearest" (ImageNet and pose weights) or "bilinear".
        align_corners: For bilinear fusion (True in the released OCR code, else False).
        stages: Stages that are built: 4 gives four streams, 3 three, 2 two.
        multi_scale: False ends in the stride-4 stream alone (the V1 of the paper).

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
        multi_scale: bool = True,
    ) -> None:
        super().__init__()
        if in_channels < 1:
            raise UsageError(f"in_channels must be at least 1, got {in_channels}")
        if stages not in (2, 3, 4):
            raise UsageError(f"stages must be 2, 3 or 4, got {stages}")
        self.variant: Variant = get_variant(variant)
        self.interpolation = Interpolation(fusion, align_corners)
        self.stages = stages
        self.conv1 = nn.Conv2d(in_channels, STEM_CHANNELS, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.conv2 = nn.Conv2d(STEM_CHANNELS, STEM_CHANNELS, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(STEM_CHANNELS)
        self.layer1 = self._stage1()
        before: Sequence[int] = (self.variant.stage1_channels,)
        for stage in range(2, stages + 1):
            after = self.variant.channels[:stage]
            last = stage == stages
            self.add_module(f"transition{stage - 1}", _transition(before, after))
            self.add_module(
                f"stage{stage}", self._stage(stage, multi_scale=multi_scale or not last)
            )
            before = after
        initialize_trunk(self)

    @property
    def out_streams(self) -> int:
        """How many streams ``forward`` gives."""
        last = self.get_submodule(f"stage{self.stages}.{self.variant.modules[self.stages - 2] - 1}")
        assert isinstance(last, HighResolutionModule)
        return len(last.fuse_layers)

    def _stage1(self) -> nn.Sequential:
        planes, channels = self.variant.stage1_planes, self.variant.stage1_channels
        blocks = [
            Bottleneck(STEM_CHANNELS if index == 0 else channels, planes)
            for index in range(self.variant.stage1_blocks)
        ]
        return nn.Sequential(*blocks)

    def _stage(self, stage: int, *, multi_scale: bool) -> nn.ModuleList:
        channels = self.variant.channels[:stage]
        count = self.variant.modules[stage - 2]
        return nn.ModuleList(
            HighResolutionModule(
                channels,
                blocks=self.variant.blocks,
                outputs=stage if multi_scale or index < count - 1 else 1,
                interpolation=self.interpolation,
            )
            for index in range(count)
        )

    def stem_half(self, pixels: Tensor) -> Tensor:
        """The first half of the stem: (n, band, row, col) to 64 channels at stride 2."""
        return functional.relu(self.bn1(self.conv1(pixels)), inplace=True)

    def streams(self, half: Tensor) -> list[Tensor]:
        """From the stride-2 feature of ``stem_half`` to the streams, finest first."""
        quarter = functional.relu(self.bn2(self.conv2(half)), inplace=True)
        streams = [self.layer1(quarter)]
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
        return self.streams(self.stem_half(pixels))


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
