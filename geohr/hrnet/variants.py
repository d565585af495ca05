"""The published HRNet variants: widths and depths, as facts."""

from __future__ import annotations

from dataclasses import dataclass

from geohr.errors import UsageError

STEM_CHANNELS = 64
"""Channels of the stem (strides 2 and 4), the same for every variant."""

STEM_STRIDES = (1, 2, 4, 8)
"""Strides at which the finest stream can be kept; the paper and every published network use 4."""

BOTTLENECK_EXPANSION = 4
"""A bottleneck block gives four times its planes (He et al., 2016, table 1)."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One HRNet of the paper (Wang et al., TPAMI 2020, section 3 and appendix).

    Raises:
        UsageError: A count is not positive.
    """

    name: str
    width: int
    """Channels C of the stride-4 stream; stream b has C * 2**b channels at stride 4 * 2**b."""
    stage1_blocks: int = 4
    """Bottleneck blocks of stage 1."""
    stage1_planes: int = 64
    """Inner channels of those bottlenecks."""
    modules: tuple[int, int, int] = (1, 4, 3)
    """Multi-resolution modules (each ends in a full fusion) in stages 2, 3 and 4."""
    blocks: int = 4
    """Basic blocks per stream in every module."""

    def __post_init__(self) -> None:
        """Check the counts."""
        counts = (self.width, self.stage1_blocks, self.stage1_planes, *self.modules, self.blocks)
        if min(counts) < 1:
            raise UsageError(f"every count of variant {self.name!r} must be positive, got {counts}")

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Channels of the four streams, strides 4, 8, 16, 32."""
        return (self.width, 2 * self.width, 4 * self.width, 8 * self.width)

    @property
    def stage1_channels(self) -> int:
        """Channels that stage 1 hands to the first transition."""
        return self.stage1_planes * BOTTLENECK_EXPANSION


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        # The released "w18_small_v1" is 16 channels wide, whatever its name says.
        Variant("w18_small_v1", 16, 1, 32, (1, 1, 1), 2),
        Variant("w18_small_v2", 18, 2, 64, (1, 3, 2), 2),
        *(Variant(f"w{width}", width) for width in (18, 30, 32, 40, 44, 48, 64)),
    )
}
"""Every released variant by name."""


def get_variant(name: str) -> Variant:
    """Look a variant up by name.

    Raises:
        UsageError: No such variant.
    """
    if name not in VARIANTS:
        raise UsageError(f"unknown HRNet variant {name!r}, choose one of {', '.join(VARIANTS)}")
    return VARIANTS[name]
