"""Outlines of classes as linked pieces, along pixel sides or between pixel centres.

An outline runs with its object on the left as the raster is seen (down on the object's left side,
right along its bottom), so that exteriors are counterclockwise on a map with north up. There are
two algorithms:

*Corners and horizontal sides*, for outlines along pixel sides that nothing simplifies: work is done
only where an outline turns, which takes less than half the time (docs/polygons.md has the numbers).
Where two pixels of a class meet only at a corner, the outlines are kept apart; outlines of one and
the same object that meet so are rejoined when the ring is whole (see `rings`).

*Unit sides*, for contours, and for pixel outlines that will be simplified. Between two neighbouring
pixels of different class lies one vertex, where the difference of their two classes' probabilities
is zero on the line between the pixels' centres (marching squares; Lorensen and Cline, "Marching
Cubes", 1987, in the plane). Both outlines take the same vertex, so neighbours share their borders
to the bit. Where two classes meet corner to corner, the class with the greater mean of the four
pixels is joined through the corner, and the other is cut. Where three or more meet, all outlines
pass through the corner, so that no gap is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geohr.encoding import NODATA, Bools, Bytes, Ints
from geohr.polygons.rings import (
    DEPTH_MAX,
    HINT,
    JUNCTION,
    SADDLE,
    SUBPIXEL,
    Links,
    pack,
    with_depth,
)
from geohr.polygons.runs import Candidates, Field, Runs, Saddles

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
    """Join the sides of one class by the upright sides between them.

    In a column, every end that goes down meets the next end below it. `above` are the columns where
    outlines left open come in and go out, from `Chains.columns`; `top` is the scene's row that is
    row 0 of the frame.
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


# Least distance of a vertex from a pixel's centre: two vertices never fall together there.
_MARGIN = SUBPIXEL // 32
_DOWN, _RIGHT, _UP, _LEFT = range(4)
# The pixels ahead to the left and to the right, as (row, column) steps from a vertex, by direction.
_AHEAD_LEFT = np.array([[0, 0], [-1, 0], [-1, -1], [0, -1]])
_AHEAD_RIGHT = np.array([[0, -1], [0, 0], [-1, 0], [-1, -1]])


@dataclass(frozen=True)
class Crossings:
    """Vertices of the pixel grid round which not all four pixels are of one class."""

    vertex: Ints
    """Line * stride + column, ascending."""
    stride: int

    @classmethod
    def of(cls, frame: Bytes, change: Bools) -> Crossings:
        """Those of a frame.

        Args:
            frame: `(row, col)` class ids with a column of nodata on each side.
            change: `(row, width + 1)`, True where a pixel differs from its left neighbour.
        """
        falls = frame[1:] != frame[:-1]
        found = change[1:] | change[:-1] | falls[:, 1:] | falls[:, :-1]
        return cls(np.flatnonzero(found) + change.shape[1], change.shape[1])

    def distance(self, vertex: Ints, to_right: Bools) -> Ints:
        """Pixels from each of the given vertices, which are crossings, to the next on its line."""
        place = np.searchsorted(self.vertex, vertex) + np.where(to_right, 1, -1)
        other = self.vertex[np.clip(place, 0, len(self.vertex) - 1)]
        same = (other != vertex) & (other // self.stride == vertex // self.stride)
        return np.where(same, np.abs(other - vertex), DEPTH_MAX)


@dataclass(frozen=True)
class UnitEdges:
    """The directed unit sides of one class in a frame's fresh rows: upright ones, then level ones.

    An upright side of row r goes between the lines r and r + 1; a level one lies in its line and
    is known by its left end.
    """

    upright: Ints
    """`(edge,)` row * stride + column, ascending; down and up take turns."""
    level: Ints
    """`(edge,)` line * stride + column, ascending."""
    rightward: Bools
    """`(level edge,)` True where the class lies above."""

    @property
    def direction(self) -> Ints:
        """`(edge,)` of all sides."""
        up_down = np.tile([_DOWN, _UP], len(self.upright) // 2)
        return np.concatenate([up_down, np.where(self.rightward, _RIGHT, _LEFT)])


def unit_edges(field: Field, runs: Runs, label: int) -> UnitEdges:
    """All unit sides between a class and other classes."""
    own = (runs.label == label) & (runs.row > 0)
    upright = np.stack([runs.start[own], runs.stop[own]], axis=1).reshape(-1)
    inner = field.frame[:, 1:-1]
    is_label = inner == label
    changed = np.flatnonzero(is_label[1:] != is_label[:-1])
    row = changed // inner.shape[1]
    rightward = is_label.reshape(-1)[changed]
    return UnitEdges(upright, changed + row + field.stride, rightward)


def link_edges(
    edges: UnitEdges,
    field: Field,
    saddles: Saddles,
    *,
    label: int,
    above: tuple[Ints, Ints],
    top: int,
    contour: bool,
    crossings: Crossings | None,
) -> Links:
    """Join unit sides at their ends.

    Args:
        edges: The unit sides of one class.
        field: The classes and probabilities of the frame.
        saddles: The saddles of the frame.
        label: The class id.
        above: Columns where outlines left open come in and go out, from `Chains.columns`.
        top: The scene's row that is row 0 of the frame.
        contour: Whether vertices lie between pixel centres; otherwise at the corners where the
            outline turns or three classes meet.
        crossings: Of the frame, for outlines that will be simplified: they get a hint wherever
            they cross a line of the pixel grid.
    """
    stride, rows = field.stride, len(field.frame) - 1
    direction = np.concatenate([edges.direction, np.full(len(above[1]), _DOWN)])
    line, column = _ends(edges, stride)
    line = np.concatenate([line, np.ones(len(above[1]), np.int64)])
    column = np.concatenate([column, above[1]])
    count = len(direction)
    successor = np.full(count, -1, np.int64)
    going = np.flatnonzero(line <= rows)  # the others leave through the frame's last line
    line, column, facing = line[going], column[going], direction[going]
    left = _is_label(field, label, line, column, _AHEAD_LEFT[facing])
    right = _is_label(field, label, line, column, _AHEAD_RIGHT[facing])
    vertex = line * stride + column
    crossing = right & ~left
    to_right = right & (left | saddles.joins(vertex, label))
    turn = np.where(to_right, -1, np.where(left, 0, 1))
    successor[going] = _find(edges, vertex, (facing + turn) % 4, stride, above[0])
    meeting, bare = _meetings(field, line, column)
    corner = pack((line + top) * SUBPIXEL, column * SUBPIXEL)
    touching = crossing & ~to_right
    at_corner = turn != 0
    if contour:
        at_corner = meeting | bare & at_corner
    elif crossings is not None:
        at_corner = meeting | at_corner
    corner |= np.where(touching & at_corner, SADDLE, 0)
    shared = meeting | crossing & ~at_corner | touching & at_corner
    corner |= np.where(shared, JUNCTION, 0)
    if crossings is not None:
        # Where the outline goes straight on or turns round its own pixel, its outside is ahead.
        outward = crossings.distance(vertex, (facing == _RIGHT) | (facing == _UP))
        corner = np.where(turn >= 0, with_depth(corner, outward), corner)
        corner |= np.where(at_corner, 0, HINT)
        at_corner |= (turn != 0) | (facing == _DOWN) | (facing == _UP)
    column_in = np.concatenate([edges.upright % stride, edges.level % stride, above[0]])
    column_out = np.concatenate([edges.upright % stride, edges.level % stride, above[1]])
    # What lies at the corner comes as a piece of its own, after the side that leads there.
    after = np.flatnonzero(at_corner)
    own = _between(edges, field, top) if contour else np.full(len(edges.direction), -1)
    return _insert(own, corner[after], going[after], successor, column_in, column_out)


def _insert(
    vertices: Ints, extra: Ints, after: Ints, successor: Ints, column_in: Ints, column_out: Ints
) -> Links:
    """Put more pieces behind the given nodes; they are numbered after the other pieces."""
    pieces, more = len(vertices), len(extra)
    shifted = np.where(successor >= pieces, successor + more, successor)
    shifted_after = np.where(after >= pieces, after + more, after)
    none = np.zeros(more, np.int64)
    successor = np.concatenate([shifted[:pieces], shifted[after], shifted[pieces:]])
    successor[shifted_after] = pieces + np.arange(more)
    return Links(
        np.concatenate([vertices, extra])[:, None],
        successor,
        np.concatenate([column_in[:pieces], none, column_in[pieces:]]),
        np.concatenate([column_out[:pieces], none, column_out[pieces:]]),
    )


def _ends(edges: UnitEdges, stride: int) -> tuple[Ints, Ints]:
    """Line and column of the vertex that each side leads to."""
    row, column = np.divmod(edges.upright, stride)
    row[0::2] += 1
    line, left = np.divmod(edges.level, stride)
    return np.concatenate([row, line]), np.concatenate([column, left + edges.rightward])


def _is_label(field: Field, label: int, line: Ints, column: Ints, step: Ints) -> Bools:
    """Whether the pixel a step away from each vertex is of the class."""
    return np.asarray(field.label(line + step[:, 0], column + step[:, 1]) == label, np.bool_)


def _find(edges: UnitEdges, vertex: Ints, direction: Ints, stride: int, open_in: Ints) -> Ints:
    """The node that leaves each vertex in the given direction."""
    node = np.empty(len(vertex), np.int64)
    uprights, pieces = len(edges.upright), len(edges.upright) + len(edges.level)
    up, down = direction == _UP, direction == _DOWN
    upright = up | down
    place = vertex - np.where(up, stride, np.where(direction == _LEFT, 1, 0))
    node[upright] = np.searchsorted(edges.upright, place[upright])
    node[~upright] = uprights + np.searchsorted(edges.level, place[~upright])
    carried = np.flatnonzero(up & (place < stride))
    order = np.argsort(open_in)
    found = np.searchsorted(open_in, place[carried], sorter=order)
    node[carried] = pieces + order[found]
    return node


def _meetings(field: Field, line: Ints, column: Ints) -> tuple[Bools, Bools]:
    """Whether three or more classes meet at each vertex, and whether one of them is nodata."""
    around = np.stack(
        [field.label(line + row, column + step) for row in (-1, 0) for step in (-1, 0)]
    )
    around = np.sort(around, axis=0)
    return (around[1:] != around[:-1]).sum(axis=0) >= 2, around[3] == NODATA


def _between(edges: UnitEdges, field: Field, top: int) -> Ints:
    """The vertex on the line between the centres of the two pixels beside each side."""
    stride = field.stride
    row, column = np.divmod(edges.upright, stride)
    part = _crossing(field, (row, column - 1), (row, column))
    upright = pack((row + top) * SUBPIXEL + SUBPIXEL // 2, column * SUBPIXEL - SUBPIXEL // 2 + part)
    line, column = np.divmod(edges.level, stride)
    part = _crossing(field, (line - 1, column), (line, column))
    level = pack((line + top) * SUBPIXEL - SUBPIXEL // 2 + part, column * SUBPIXEL + SUBPIXEL // 2)
    return np.concatenate([upright, level])


def _crossing(field: Field, first: tuple[Ints, Ints], second: tuple[Ints, Ints]) -> Ints:
    """The distance from the first centre at which both classes are equally probable, in 1/64."""
    one, other = field.label(*first), field.label(*second)
    lead, trail = field.margin(one, other, *first), field.margin(one, other, *second)
    slope = lead - trail
    part = np.full(len(slope), 0.5)
    np.divide(lead, slope, out=part, where=slope != 0)
    steps = np.clip(np.rint(part * SUBPIXEL), _MARGIN, SUBPIXEL - _MARGIN).astype(np.int64)
    steps[(one == NODATA) | (other == NODATA)] = SUBPIXEL // 2
    return np.asarray(steps, np.int64)


def owner(edges: UnitEdges, piece: Ints, stride: int) -> Ints:
    """The pixel of the class beside each piece, as `Runs.at` takes it.

    A piece at a corner has none; the given pieces must be sides.
    """
    uprights = len(edges.upright)
    is_upright = piece < uprights
    pixel = np.empty(len(piece), np.int64)
    chosen = piece[is_upright]
    pixel[is_upright] = edges.upright[chosen] - chosen % 2
    chosen = piece[~is_upright] - uprights
    pixel[~is_upright] = edges.level[chosen] - np.where(edges.rightward[chosen], stride, 0)
    return pixel
