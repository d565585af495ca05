"""Pieces of outline linked into rings, and open outlines carried from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geohr.polygons.runs import Bools, Ints
from geohr.polygons.vertices import Ragged, join

_PIECES_MAX = 64
"""Arrays that an open outline may consist of before they are copied into one."""


@dataclass(frozen=True)
class Pieces:
    """Directed pieces of outline of one class, each with an upright side before and after it."""

    vertices: Ints
    """`(piece, 2)` packed vertices."""
    key_in: Ints
    """`(piece,)` where it comes in: sorts by column, then by line, then up before down."""
    key_out: Ints
    """`(piece,)` where it goes out."""


@dataclass(frozen=True)
class Open:
    """An outline whose two ends go down through the frame's last line."""

    column_in: int
    column_out: int
    parts: list[Ints]


def end_key(column: Ints, line: Ints, down: Bools, lines: int) -> Ints:
    """The sort key of an end: up a column, line by line; in one vertex the upper end first."""
    return (column * (lines + 1) + line) * 2 + down


def cycles(successor: Ints, priority: Ints) -> tuple[Ints, Ints]:
    """The cycles of a permutation, each beginning after its node of lowest priority.

    Every node learns the lowest node of a stretch ahead of it, doubled in each round (pointer
    jumping; Wyllie, "The Complexity of Parallel Computations", 1979).

    Args:
        successor: `(node,)` a permutation.
        priority: `(node,)` distinct numbers in [0, 2 * nodes).

    Returns:
        Nodes in order, cycle after cycle, and the offsets of the cycles.
    """
    count = len(successor)
    lowest, jump = priority, successor
    steps = np.zeros(count, np.int64)
    reach = 1
    while True:
        ahead = lowest[jump]
        better = ahead < lowest
        if not better.any():
            break
        steps = np.where(better, steps[jump] + reach, steps)
        lowest = np.where(better, ahead, lowest)
        jump = jump[jump]
        reach *= 2
    order = np.argsort(lowest * (count + 1) + (count - steps))
    grouped = lowest[order]
    starts = np.flatnonzero(np.concatenate([[True], grouped[1:] != grouped[:-1]])[:count])
    return order, np.append(starts, count)


class Chains:
    """Links the pieces of one class; holds the outlines that are still open."""

    def __init__(self) -> None:
        self._open: list[Open] = []

    def link(self, pieces: Pieces, lines: int) -> Ragged:
        """Take the pieces of the next frame.

        Args:
            pieces: All pieces of the frame.
            lines: Lattice lines in the frame; keys are made with it.

        Returns:
            The rings that are now closed, in no particular order.
        """
        new, old = len(pieces.key_in), len(self._open)
        count = new + old
        if count == 0:
            return Ragged.empty()
        key_in, key_out = self._ends(pieces, lines)
        key = np.concatenate([key_in, key_out])
        order = np.argsort(key)
        going_down = (key[order] & 1).astype(np.bool_)
        column = key[order] // (2 * (lines + 1))
        paired = going_down.copy()
        paired[:-1] &= column[1:] == column[:-1]
        paired[-1] = False
        first = np.flatnonzero(paired)
        one, other = order[first], order[first + 1]
        leaving = np.where(one >= count, one, other) - count
        successor = np.full(count, -1, np.int64)
        successor[leaving] = np.where(one >= count, other, one)
        pending = order[going_down & ~paired]
        heads, tails = pending[pending < count], pending[pending >= count] - count
        successor[tails] = heads
        is_tail = np.zeros(count, np.bool_)
        is_tail[tails] = True
        nodes, offsets = cycles(successor, np.arange(count) + count * ~is_tail)
        return self._collect(pieces.vertices, nodes, offsets, is_tail, key_in, key_out, lines)

    def _ends(self, pieces: Pieces, lines: int) -> tuple[Ints, Ints]:
        """Keys of all nodes: the new pieces, then the open outlines as ends above the frame."""
        if not self._open:
            return pieces.key_in, pieces.key_out
        above = np.zeros(len(self._open), np.int64)
        down = np.ones(len(self._open), np.bool_)
        came = np.array([chain.column_in for chain in self._open])
        went = np.array([chain.column_out for chain in self._open])
        return (
            np.concatenate([pieces.key_in, end_key(came, above, down, lines)]),
            np.concatenate([pieces.key_out, end_key(went, above, down, lines)]),
        )

    def _collect(
        self,
        vertices: Ints,
        nodes: Ints,
        offsets: Ints,
        is_tail: Bools,
        key_in: Ints,
        key_out: Ints,
        lines: int,
    ) -> Ragged:
        """Split the cycles into rings made of new pieces only, other rings, and open outlines."""
        new = len(vertices)
        special = (nodes >= new) | is_tail[nodes]
        is_plain = ~np.logical_or.reduceat(special, offsets[:-1])
        sizes = np.diff(offsets)
        plain = nodes[np.repeat(is_plain, sizes)]
        rings = [
            Ragged(
                vertices[plain].reshape(-1),
                np.concatenate([[0], 2 * np.cumsum(sizes[is_plain])]),
            )
        ]
        before, self._open = self._open, []
        for cycle in np.flatnonzero(~is_plain):
            members = nodes[offsets[cycle] : offsets[cycle + 1]]
            ends = np.flatnonzero(is_tail[members]) + 1
            if len(ends) == 0:
                whole = np.concatenate(_parts(vertices, members, before))
                rings.append(Ragged(whole, np.array([0, len(whole)])))
            for path in np.split(members, ends)[: len(ends)]:
                parts = _parts(vertices, path, before)
                if len(parts) > _PIECES_MAX:
                    parts = [np.concatenate(parts)]
                came, went = key_in[path[0]], key_out[path[-1]]
                unit = 2 * (lines + 1)
                self._open.append(Open(int(came // unit), int(went // unit), parts))
        return join(rings)


def _parts(vertices: Ints, path: Ints, before: list[Open]) -> list[Ints]:
    """The vertices along a path of new pieces and earlier outlines."""
    new = len(vertices)
    carried = np.flatnonzero(path >= new)
    parts: list[Ints] = []
    start = 0
    for position in carried.tolist():
        if position > start:
            parts.append(vertices[path[start:position]].reshape(-1))
        parts.extend(before[path[position] - new].parts)
        start = position + 1
    if start < len(path):
        parts.append(vertices[path[start:]].reshape(-1))
    return parts
