"""The options of `check`."""

from __future__ import annotations

from dataclasses import dataclass

from geohr.options import Options, opt


@dataclass(frozen=True)
class SampleOptions(Options):
    """The options of drawing a sample."""

    minutes: float = opt(20.0, "Minutes that judging the sample may take.", low=1, high=10_000)
    half_width: float | None = opt(
        None,
        "Half width of the intervals wanted, such as 0.03; it sets the size of the sample instead "
        "of --minutes.",
        low=0.005,
        high=0.5,
    )
    seed: int = opt(1, "Random seed of the sample.", low=0)


@dataclass(frozen=True)
class NextOptions(Options):
    """The options of choosing what to label next."""

    windows: int = opt(20, "Number of windows to label.", low=1, high=10_000)


@dataclass(frozen=True)
class EstimateOptions(Options):
    """The options of the estimate."""

    cost: float = opt(
        1.0,
        "Number of missed objects that are as bad as one false object; sets the threshold.",
        low=0.01,
        high=100,
    )
