"""The square tiles that maps on the web are cut into."""

from __future__ import annotations

import math
from dataclasses import dataclass

from affine import Affine

HALF = 20_037_508.342789244
"""Half the side of the web Mercator plane in its metres: pi times the earth's major axis."""
ZOOM_MAX = 24


@dataclass(frozen=True)
class WebTile:
    """One tile: at zoom z the plane is 2**z tiles wide and high, counted from the north-west.

    Attributes:
        zoom: From 0 to `ZOOM_MAX`.
        col: From the west.
        row: From the north.
    """

    zoom: int
    col: int
    row: int

    def __post_init__(self) -> None:
        """Refuse a place that is not on the plane.

        Raises:
            ValueError: Naming it.
        """
        if not 0 <= self.zoom <= ZOOM_MAX or not all(
            0 <= place < 2**self.zoom for place in (self.col, self.row)
        ):
            raise ValueError(f"no tile {self.zoom}/{self.col}/{self.row}")

    @property
    def side(self) -> float:
        """Length in metres of web Mercator."""
        return 2 * HALF / float(2**self.zoom)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right and top in web Mercator."""
        left, top = self.col * self.side - HALF, HALF - self.row * self.side
        return left, top - self.side, left + self.side, top

    def transform(self, pixels: int) -> Affine:
        """From (col, row) of a picture of the tile to web Mercator.

        Args:
            pixels: The picture's side.
        """
        left, _, _, top = self.bounds
        step = self.side / pixels
        return Affine(step, 0, left, 0, -step, top)


def zoom_for(step: float, pixels: int) -> int:
    """The zoom at which tiles are as fine as pixels of the side `step`, or just finer.

    Args:
        step: In metres of web Mercator.
        pixels: Side of a tile's picture.
    """
    zoom = math.ceil(math.log2(2 * HALF / (pixels * step)) - 1e-6)
    return min(max(zoom, 0), ZOOM_MAX)
