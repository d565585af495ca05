"""The options of `evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from geohr.errors import UsageError
from geohr.options import Options, listed, opt


@dataclass(frozen=True)
class EvaluateOptions(Options):
    """The options of `evaluate`: everything but the two layers and the outputs."""

    aoi: str | None = opt(
        None,
        "Area of interest: polygons, or a raster that is 255 outside; only what lies inside is "
        "scored.",
        metavar="FILE",
    )
    class_id: int | None = opt(
        None, "Class to score; by default everything that is not background.", low=1, high=254
    )
    gsd: float = opt(
        0.25,
        "Pixel size in metres, where neither input is a raster, or has a CRS.",
        low=0.001,
        metavar="M",
    )
    boundary: float = opt(
        1.0, "Width of the band along outlines for boundary IoU, in metres.", low=0.001, metavar="M"
    )
    by_size: bool = opt(False, "Also score objects by size class.")
    sizes: tuple[float, ...] = opt(
        (50.0, 200.0), "Areas in square metres that separate the size classes.", metavar="M2,M2"
    )
    replicates: int = opt(
        1000, "Bootstrap replicates for the 95% intervals; 0 turns them off.", low=0, high=100_000
    )
    seed: int = opt(0, "Random seed of the bootstrap.", low=0)

    def __post_init__(self) -> None:
        """Refuse sizes that do not ascend.

        Raises:
            UsageError: In one sentence.
        """
        super().__post_init__()
        limits = (0.0, *self.sizes)
        if any(low >= high for low, high in pairwise(limits)):
            raise UsageError(f"sizes must ascend from above 0; got {listed(self.sizes)}")
