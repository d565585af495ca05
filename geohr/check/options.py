"""What `check` can be told."""

from __future__ import annotations

from dataclasses import dataclass

from geohr.options import Options, opt


@dataclass(frozen=True)
class SampleOptions(Options):
    """How much is looked at."""

    minutes: float = opt(
        20.0, "Minutes of a person's time that the sample may take.", low=1, high=10_000
    )
    half_width: float | None = opt(
        None,
        "Half width of the intervals wanted, such as 0.03; the sample is as large as that needs, "
        "whatever --minutes says.",
        low=0.005,
        high=0.5,
    )
    seed: int = opt(1, "Seed of the draw: the same seed draws the same sample.", low=0)


@dataclass(frozen=True)
class EstimateOptions(Options):
    """What the estimate is made for."""

    cost: float = opt(
        1.0,
        "How many missed objects are as bad as one false object; the threshold follows from it.",
        low=0.01,
        high=100,
    )
