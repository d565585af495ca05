"""Pieces of outline linked into rings, and open outlines carried from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geohr.encoding import Bools, Ints
from geohr.polygons.runs import Runs
from geohr.polygons.vertices import Ragged, join

_PIECES_MAX = 64
"""Arrays that an open outline may consist of before they are copied into one."""


@dataclass(frozen=True)
class Open:
    """An outline whose two ends go down through the frame's last line."""

    column_in: int
    """Vertex column of the end where it comes in."""
    column_out: int
    """Vertex column of the end where it goes out."""
    parts: list[Ints]


@dataclass(frozen=True)
class Links:
    """Pieces of outline of one class in a frame, and what follows each.

    Nodes are the frame's pieces, then the outlines left open above it.
    """

    vertices: Ints
    """`(piece, k)` packed vertices; -1 where a piece has fewer than k."""
    successor: Ints
    """`(node,)` the node that follows; -1 where an outline leaves through the last line."""
    column_in: Ints
    """`(node,)` vertex column; read where nothing comes before a node."""
    column_out: Ints
    """`(node,)` vertex column; read where the successor is -1."""


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
    """Links the pieces of one class; holds the outlines that are still open.

    Args:
        outlines: Those that are open from the start.

    Attributes:
        open: Outlines that are still open.
        marked: Rings that are closed but for the parts above the first row.
    """

    def __init__(self, outlines: Sequence[Open] = ()) -> None:
        self.open: list[Open] = list(outlines)
        self.marked: list[Ints] = []

    @classmethod
    def below(cls, runs: Runs, label: int) -> Chains:
        """Outlines below a row of which the parts above are not known.

        They are taken to go round each run from its end back to its start, which is no vertex
        but a mark: the run's number, inverted, so that it is negative.
        """
        return cls(
            [
                Open(int(runs.stop[run]), int(runs.start[run]), [np.array([~run])])
                for run in np.flatnonzero(runs.label == label)
            ]
        )

    @property
    def columns(self) -> tuple[Ints, Ints]:
        """Columns of the open outlines' ends, in and out."""
        return (
            np.array([each.column_in for each in self.open], np.int64),
            np.array([each.column_out for each in self.open], np.int64),
        )

    def link(self, links: Links) -> tuple[Ragged, Ints]:
        """Take the pieces of the next frame.

        Returns:
            The rings that are now closed, in no particular order, and a piece of each.
        """
        count = len(links.successor)
        if count == 0:
            return Ragged.empty(), np.zeros(0, np.int64)
        is_tail = links.successor < 0
        is_head = np.ones(count, np.bool_)
        is_head[links.successor[~is_tail]] = False
        # Tails are joined to heads, so that open outlines are cycles too, and cut there again.
        successor = links.successor.copy()
        successor[is_tail] = np.flatnonzero(is_head)
        nodes, offsets = cycles(successor, np.arange(count) + count * ~is_tail)
        return self._collect(links, nodes, offsets, is_tail)

    def _collect(
        self, links: Links, nodes: Ints, offsets: Ints, is_tail: Bools
    ) -> tuple[Ragged, Ints]:
        """Split the cycles into rings made of new pieces only, other rings, and open outlines."""
        new = len(links.vertices)
        special = (nodes >= new) | is_tail[nodes]
        is_plain = ~np.logical_or.reduceat(special, offsets[:-1])
        sizes = np.diff(offsets)
        plain = nodes[np.repeat(is_plain, sizes)]
        rings = [_present(links.vertices[plain], sizes[is_plain])]
        # The lowest piece of a cycle: sides come before pieces at a corner.
        least = np.minimum.reduceat(nodes, offsets[:-1])
        pieces = least[is_plain].tolist()
        before, self.open = self.open, []
        for cycle in np.flatnonzero(~is_plain):
            members = nodes[offsets[cycle] : offsets[cycle + 1]]
            ends = (np.flatnonzero(is_tail[members]) + 1).tolist()
            if not ends:
                whole = np.concatenate(_parts(links.vertices, members, before))
                if (whole < 0).any():
                    self.marked.append(whole)
                    continue
                rings.append(Ragged(whole, np.array([0, len(whole)])))
                pieces.append(int(least[cycle]))
            for start, stop in zip([0, *ends], ends, strict=False):
                path = members[start:stop]
                parts = _parts(links.vertices, path, before)
                if len(parts) > _PIECES_MAX:
                    parts = [np.concatenate(parts)]
                came, went = links.column_in[path[0]], links.column_out[path[-1]]
                self.open.append(Open(int(came), int(went), parts))
        return join(rings), np.array(pieces, np.int64)


def _present(vertices: Ints, sizes: Ints) -> Ragged:
    """Rings of so many pieces each, without the places that hold no vertex."""
    ends = np.concatenate([[0], np.cumsum(sizes)]) * vertices.shape[1]
    flat = vertices.reshape(-1)
    there = flat >= 0
    if there.all():
        return Ragged(flat, ends)
    return Ragged(flat[there], np.concatenate([[0], np.cumsum(there)])[ends])


def _parts(vertices: Ints, path: Ints, before: list[Open]) -> list[Ints]:
    """The vertices along a path of new pieces and earlier outlines."""
    new = len(vertices)
    parts: list[Ints] = []
    start = 0
    for position in [*np.flatnonzero(path >= new).tolist(), len(path)]:
        if position > start:
            stretch = vertices[path[start:position]].reshape(-1)
            parts.append(stretch[stretch >= 0])
        if position < len(path):
            parts.extend(before[path[position] - new].parts)
        start = position + 1
    return parts
