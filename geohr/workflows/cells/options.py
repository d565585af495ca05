"""The options of a plan of cells."""

from __future__ import annotations

import re
from dataclasses import dataclass

from geohr.errors import UsageError
from geohr.options import Options, is_length, opt

# What a length ends in, and how many metres that is.
UNITS = {"km": 1000.0, "m": 1.0}


@dataclass(frozen=True)
class CellOptions(Options):
    """How a mosaic is cut into cells, and what each of them writes."""

    cell: str = opt("10km", "Side of a cell, such as 10km or 60m.", metavar="LENGTH")
    grid: str = opt(
        "scene",
        "Grid of the pixels and cells: that of the first scene (scene), the UTM zones that scenes "
        "lie in (utm), or a projected CRS in metres.",
        metavar="scene|utm|CRS",
    )
    classes: bool = opt(True, "Write a raster of classes for each cell.")
    probs: bool = opt(False, "Write a raster of probabilities for each cell.")
    polygons: bool = opt(True, "Write the objects of each cell.")
    price: float = opt(
        0.05, "Price of an hour of one core, for the estimate.", low=0, metavar="PRICE"
    )

    def __post_init__(self) -> None:
        """Refuse a side that is no length, and cells that would write nothing.

        Raises:
            UsageError: In one sentence.
        """
        super().__post_init__()
        if not self.cell_metres > 0:
            raise UsageError(f"cell must be a length such as 10km or 60m; got {self.cell!r}")
        if not (self.classes or self.probs or self.polygons):
            raise UsageError("cells would write nothing; leave out --no-classes or --no-polygons")

    @property
    def cell_metres(self) -> float:
        """The side of a cell in metres; 0 where it is no length."""
        found = re.fullmatch(r"([0-9.]+) ?(km|m)", self.cell)
        if found is None or not is_length(found[1]):
            return 0.0
        return float(found[1]) * UNITS[found[2]]
