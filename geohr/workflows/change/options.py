"""The options of `change`."""

from __future__ import annotations

from dataclasses import dataclass

from geohr.options import Options, opt


@dataclass(frozen=True)
class ChangeOptions(Options):
    """The options with which two dates are compared; lengths in metres, areas in square metres."""

    shift: float = opt(
        3.0,
        "Largest shift between the two dates that is estimated and corrected, in metres; 0 "
        "corrects none.",
        low=0,
        high=100,
        metavar="M",
    )
    lean: float = opt(
        4.0,
        "Distance in metres that an object may move beyond the shift of its surroundings and still "
        "count as the same; roofs lean in images taken at an angle.",
        low=0,
        high=50,
        metavar="M",
    )
    grown: float = opt(
        0.25,
        "Relative change of area from which an object counts as grown or shrunk.",
        low=0.01,
        high=10,
    )
    min_change: float = opt(
        10.0, "Smallest change of area that is reported, in square metres.", low=0, metavar="M2"
    )
    certainty: float = opt(
        0.6, "Confidence below which a change is reported as unsure.", low=0, high=1
    )
