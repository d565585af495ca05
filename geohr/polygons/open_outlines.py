"""What a part of a scene leaves open, as arrays that can be kept and sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from geohr.encoding import Floats, Ints
from geohr.polygons.objects import Statistics
from geohr.polygons.rings import SUBPIXEL, RaggedArray, unpack

# Fields that are several arrays each.
_RAGGED = ("rings", "shapes", "strands")


@dataclass(frozen=True)
class OpenOutlines:
    """The objects of a part of a scene that may go on beyond it, numbered within the part.

    Pixels that share sides form a part of an object; an object has several where corners join
    them. Fields that are added by other classes are arrays.
    """

    statistics: Statistics
    """The statistics of the objects."""
    rings: tuple[RaggedArray, Ints]
    """Closed rings, and the part of each."""
    shapes: tuple[RaggedArray, Ints]
    """Closed parts of open objects, and the object of each."""
    strands: RaggedArray
    """Pieces of outline that begin and end at the edge."""
    begin: Ints
    """Where each strand begins, `(strand,)`; how it is numbered is for other classes to say."""
    end: Ints
    """Where each strand ends, `(strand,)`, numbered likewise."""

    @classmethod
    def _plain(cls) -> list[str]:
        """The names of fields that are one array each."""
        return [each.name for each in fields(cls) if each.name not in ("statistics", *_RAGGED)]

    def to_arrays(self) -> dict[str, Any]:
        """The fields as named arrays."""
        arrays = {name: getattr(self, name) for name in self._plain()}
        arrays |= self.statistics.to_arrays("open_")
        for name, items in zip(_RAGGED, (self.rings[0], self.shapes[0], self.strands), strict=True):
            arrays |= {f"{name}_flat": items.flat, f"{name}_offsets": items.offsets}
        return arrays | {"rings_of": self.rings[1], "shapes_of": self.shapes[1]}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Read what `to_arrays` made."""
        rings, shapes, strands = (
            RaggedArray(arrays[f"{name}_flat"], arrays[f"{name}_offsets"]) for name in _RAGGED
        )
        return cls(
            statistics=Statistics.from_arrays(arrays, "open_"),
            rings=(rings, arrays["rings_of"]),
            shapes=(shapes, arrays["shapes_of"]),
            strands=strands,
            **{name: arrays[name] for name in cls._plain()},
        )

    def boxes_between(self, begin: tuple[Ints, Ints], end: tuple[Ints, Ints]) -> Floats:
        """`(item, 4)` left, top, right and bottom of all that is open, in pixels of the scene.

        Args:
            begin: Rows and columns near which strands begin, to a pixel; they go straight from
                there to their first vertex.
            end: Where they end, likewise.
        """
        strands = _boxes(self.strands)
        for row, col in (begin, end):
            strands[:, :2] = np.minimum(strands[:, :2], np.stack([col, row], axis=1) - 1)
            strands[:, 2:] = np.maximum(strands[:, 2:], np.stack([col, row], axis=1) + 1)
        return np.concatenate([_boxes(self.rings[0]), _boxes(self.shapes[0]), strands])


def _boxes(items: RaggedArray) -> Floats:
    """`(item, 4)` left, top, right, bottom of vertices in pixels; infinite where there is none."""
    boxes = np.tile([np.inf, np.inf, -np.inf, -np.inf], (len(items), 1))
    filled = np.flatnonzero(items.lengths)
    if len(filled):
        y, x = unpack(items.flat)
        starts = items.offsets[:-1][filled]
        for column, each in enumerate((x, y)):
            boxes[filled, column] = np.minimum.reduceat(each, starts) / SUBPIXEL
            boxes[filled, column + 2] = np.maximum.reduceat(each, starts) / SUBPIXEL
    return boxes
