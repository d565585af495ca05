"""Corners of the pixel staircase, and the horizontal sides between them.

An outline runs with its object on the left as the raster is seen (down on the object's left side,
right along its bottom), so that exteriors are counterclockwise on a map with north up. Where two
pixels of a class meet only at a corner, the outlines are kept apart; outlines of one and the same
object that meet so are rejoined when the ring is whole (see `rings`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geohr.encoding import Bools, Bytes, Ints
from geohr.polygons.chains import Links
from geohr.polygons.vertices import SADDLE, SUBPIXEL, pack

_TL, _TR, _BL, _BR = 1, 2, 4, 8


def _table(masks: dict[int, tuple[bool, bool, bool]]) -> Bytes:
    """Lookup from the mask of four pixels to bits: 1 corner, 2 right, 4 down, 8 arrives upright."""
    table = np.zeros(16, np.uint8)
    for mask, (right, down, upright_in) in masks.items():
        table[mask] = 1 | right << 1 | down << 2 | upright_in << 3
    return table


# For each mask of the class in the four pixels around a vertex: does the horizontal side go to the
# right, does the upright side go down, does the outline arrive by the upright side?
_CORNER = _table(
    {
        _BR: (True, True, False),
        _BL: (False, True, True),
        _TR: (True, False, True),
        _TL: (False, False, False),
        _TL | _TR | _BL: (True, True, True),
        _TL | _TR | _BR: (False, True, False),
        _TL | _BL | _BR: (True, False, False),
        _TR | _BL | _BR: (False, False, True),
    }
)
# The two corners of a diagonal, the one whose horizontal side goes left first.
_DIAGONAL = {_TL | _BR: (_TL, _BR), _TR | _BL: (_BL, _TR)}


@dataclass(frozen=True)
class Sides:
    """Directed horizontal sides of one class, from corner to corner, in raster order."""

    line: Ints
    """The lattice line: 1 is between the frame's rows 0 and 1."""
    column_in: Ints
    """Vertex column where the outline comes in by an upright side."""
    column_out: Ints
    """Vertex column where it goes on by an upright side."""
    down_in: Bools
    """Whether the upright side at the start lies below the line."""
    down_out: Bools
    saddle_in: Bools
    """Whether a second outline of the class touches at the start."""
    saddle_out: Bools

    @property
    def owner(self) -> tuple[Ints, Ints]:
        """Row of the frame and column of a pixel of the object beside each side."""
        rightward = self.column_out > self.column_in
        return self.line - rightward, np.minimum(self.column_in, self.column_out)


@dataclass(frozen=True)
class Candidates:
    """Vertices where an outline may turn, in raster order."""

    line: Ints
    """1 is between the frame's rows 0 and 1."""
    column: Ints
    around: Bytes
    """`(4, vertex)` classes of the pixels above left, above right, below left, below right."""

    @property
    def labels(self) -> list[int]:
        """All classes that occur."""
        return np.flatnonzero(np.bincount(self.around.reshape(-1), minlength=256)).tolist()


def candidates(frame: Bytes, change: Bools) -> Candidates:
    """Vertices with a change both across and along."""
    below = frame[1:] != frame[:-1]
    turning = (below[:, 1:] | below[:, :-1]) & (change[1:] | change[:-1])
    vertex = np.flatnonzero(turning)
    line, column = np.divmod(vertex, change.shape[1])
    flat, width = frame.reshape(-1), frame.shape[1]
    corner = vertex + line
    around = np.stack([flat[corner + step] for step in (0, 1, width, width + 1)])
    return Candidates(line + 1, column, around)


def sides(found: Candidates, label: int) -> Sides:
    """The horizontal sides of one class."""
    is_label = (found.around == label).view(np.uint8)
    mask = is_label[0] | is_label[1] << 1 | is_label[2] << 2 | is_label[3] << 3
    diagonal = (mask == (_TL | _BR)) | (mask == (_TR | _BL))
    kept = np.flatnonzero((_CORNER[mask] != 0) | diagonal)
    kept = np.repeat(kept, 1 + diagonal[kept])
    saddle = diagonal[kept]
    mask = mask[kept]
    second = np.concatenate([[False], kept[1:] == kept[:-1]])
    for both, (left, right) in _DIAGONAL.items():
        mask = np.where(saddle & (mask == both), np.where(second, right, left), mask)
    bits = _CORNER[mask]
    down, upright_in = bits & 4 != 0, bits & 8 != 0
    # In a row, corners come in pairs: a side that begins and the one that ends it.
    start = np.where(upright_in[0::2], np.arange(0, len(kept), 2), np.arange(1, len(kept), 2))
    end = start ^ 1
    line, column = found.line, found.column
    return Sides(
        line=line[kept[start]],
        column_in=column[kept[start]],
        column_out=column[kept[end]],
        down_in=down[start],
        down_out=down[end],
        saddle_in=saddle[start],
        saddle_out=saddle[end],
    )


def link_sides(side: Sides, *, above: tuple[Ints, Ints], top: int) -> Links:
    """Join sides by the upright sides between them.

    In a column, every end that goes down meets the next end below it.

    Args:
        side: Of one class.
        above: Columns where outlines left open come in and go out, from `Chains.columns`.
        top: The scene's row that is row 0 of the frame.
    """
    lifted = np.zeros(len(above[0]), np.int64)
    down = np.concatenate([side.down_in, lifted == 0, side.down_out, lifted == 0])
    column_in = np.concatenate([side.column_in, above[0]])
    column_out = np.concatenate([side.column_out, above[1]])
    line = np.concatenate([side.line, lifted])
    count = len(line)
    lines = int(line.max(initial=0)) + 1
    # In one vertex, the end that goes up comes before the one that goes down.
    key = (np.concatenate([column_in, column_out]) * lines + np.tile(line, 2)) * 2 + down
    order = np.argsort(key)
    column = key[order] // (2 * lines)
    meets = down[order]
    meets[:-1] &= column[1:] == column[:-1]
    meets[-1:] = False
    first = np.flatnonzero(meets)
    one, other = order[first], order[first + 1]
    outward = one >= count
    successor = np.full(count, -1, np.int64)
    successor[np.where(outward, one, other) - count] = np.where(outward, other, one)
    y = (side.line + top) * SUBPIXEL
    vertices = [
        pack(y, column * SUBPIXEL) | np.where(saddle, SADDLE, 0)
        for column, saddle in (
            (side.column_in, side.saddle_in),
            (side.column_out, side.saddle_out),
        )
    ]
    return Links(np.stack(vertices, axis=1), successor, column_in, column_out)
