"""What `evaluate` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from geohr.errors import UsageError
from geohr.options import Options, listed, opt


@dataclass(frozen=True)
class EvaluateOptions(Options):
    """Everything that `evaluate` can be told besides the two layers and the outputs."""

    aoi: str | None = opt(
        None,
        "Polygons, or a raster where it is not 255: only what lies inside counts.",
        metavar="FILE",
    )
    class_id: int | None = opt(
        None, "The class to score; by default everything that is not background.", low=1, high=254
    )
    gsd: float = opt(
        0.25, "Pixel side in metres, where no input is a raster.", low=0.001, metavar="M"
    )
    boundary: float = opt(
        1.0, "Width of the outline that boundary IoU compares, in metres.", low=0.001, metavar="M"
    )
    by_size: bool = opt(False, "Score objects by size class too.")
    sizes: tuple[float, ...] = opt(
        (50.0, 200.0), "Areas in square metres that part the size classes.", metavar="M2,M2"
    )
    replicates: int = opt(
        1000, "Bootstrap replicates for the 95% intervals; 0 for none.", low=0, high=100_000
    )
    seed: int = opt(0, "Seed of the bootstrap.", low=0)

    def __post_init__(self) -> None:
        """Refuse sizes that do not ascend.

        Raises:
            UsageError: In one sentence.
        """
        super().__post_init__()
        limits = (0.0, *self.sizes)
        if any(low >= high for low, high in pairwise(limits)):
            raise UsageError(f"sizes must ascend from above 0; got {listed(self.sizes)}")
