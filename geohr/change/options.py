"""What `change` can be told."""

from __future__ import annotations

from dataclasses import dataclass

from geohr.options import Options, opt


@dataclass(frozen=True)
class ChangeOptions(Options):
    """The options with which two dates are compared; lengths in metres, areas in square metres."""

    shift: float = opt(
        3.0,
        "Largest shift in metres between the two dates that is estimated and taken out; 0 takes "
        "them as they lie.",
        low=0,
        high=100,
        metavar="M",
    )
    lean: float = opt(
        4.0,
        "Largest distance in metres that one object may move beyond the shift of its surroundings "
        "and still count as the same, as roofs lean in images taken at an angle.",
        low=0,
        high=50,
        metavar="M",
    )
    grown: float = opt(
        0.25,
        "Share of its area by which an object must grow or shrink to count as changed.",
        low=0.01,
        high=10,
    )
    min_change: float = opt(
        10.0, "Smallest change of area that counts, in square metres.", low=0, metavar="M2"
    )
    certainty: float = opt(
        0.6, "Confidence below which a change is reported as unsure.", low=0, high=1
    )
