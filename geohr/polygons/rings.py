"""Rings of vertices: pieces of outline linked, open outlines carried on, closed rings measured.

A vertex is one integer of 63 bits, `y << 37 | x << 11 | depth << 4 | flags`, x and y in 1/64 of a
pixel from the scene's upper left corner. So vertices sort in raster order, neighbouring outlines
share them to the bit, and a ring is one array.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geohr.encoding import Bools, Floats, Ints

# The number of steps in a pixel.
SUBPIXEL = 64
# The largest scene side, in pixels, that fits.
SIDE_MAX = 2**26 // SUBPIXEL
# The largest depth that fits; it stands for itself and all above.
DEPTH_MAX = 127

# Flag: two pixels of the class meet here corner to corner.
SADDLE = 1
# Flag: the first vertex of a ring, where several rings are stored one after the other.
RING_START = 2
# Flag: other outlines meet here, so that the vertex stays.
JUNCTION = 4
# Flag: no vertex of the outline, but says what lies beside it.
HINT = 8
_BELOW = 2**11 - 1


def pack(y: Ints, x: Ints) -> Ints:
    """Vertices from coordinates in 1/64 of a pixel."""
    return (y << 37) | (x << 11)


def unpack(vertices: Ints) -> tuple[Ints, Ints]:
    """Coordinates (y, x) in 1/64 of a pixel."""
    return vertices >> 37, (vertices >> 11) & (2**26 - 1)


def place(vertices: Ints) -> Ints:
    """The vertices without depth and flags: equal where they lie in one place."""
    return vertices & ~_BELOW


def with_depth(vertices: Ints, pixels: Ints) -> Ints:
    """Vertices that say how far it is, outside their object, to the next border on their line."""
    return vertices | (np.minimum(pixels, DEPTH_MAX) << 4)


def depth(vertices: Ints) -> Ints:
    """The depth that `with_depth` put into marks."""
    return (vertices >> 4) & DEPTH_MAX


@dataclass(frozen=True)
class RaggedArray:
    """Several lists of vertices, one after the other: item i is [offsets[i], offsets[i + 1])."""

    flat: Ints
    offsets: Ints

    @classmethod
    def empty(cls) -> RaggedArray:
        """An empty sequence of items."""
        return cls(np.zeros(0, np.int64), np.zeros(1, np.int64))

    def __len__(self) -> int:
        """The number of items."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        """`(item,)` how many vertices each has."""
        return np.diff(self.offsets)

    @property
    def item_of(self) -> Ints:
        """`(vertex,)` the item that each vertex belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, items: Ints) -> RaggedArray:
        """The given items, in the given order."""
        lengths = self.lengths[items]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        shift = np.repeat(self.offsets[items] - offsets[:-1], lengths)
        return RaggedArray(self.flat[np.arange(offsets[-1]) + shift], offsets)


def join(parts: list[RaggedArray]) -> RaggedArray:
    """Items of all parts, in order."""
    parts = [part for part in parts if len(part)]
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return RaggedArray.empty()
    lengths = np.concatenate([part.lengths for part in parts])
    return RaggedArray(
        np.concatenate([part.flat for part in parts]), np.concatenate([[0], np.cumsum(lengths)])
    )


# Arrays that an open outline may consist of before they are copied into one.
_PIECES_MAX = 64


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
    """Links the pieces of one class; holds the outlines that are still open."""

    def __init__(self) -> None:
        self._open: list[Open] = []

    @property
    def columns(self) -> tuple[Ints, Ints]:
        """Columns of the open outlines' ends, in and out."""
        return (
            np.array([each.column_in for each in self._open], np.int64),
            np.array([each.column_out for each in self._open], np.int64),
        )

    def link(self, links: Links) -> tuple[RaggedArray, Ints]:
        """Take the pieces of the next frame.

        Returns:
            The rings that are now closed, in no particular order, and a piece of each.
        """
        count = len(links.successor)
        if count == 0:
            return RaggedArray.empty(), np.zeros(0, np.int64)
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
    ) -> tuple[RaggedArray, Ints]:
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
        before, self._open = self._open, []
        for cycle in np.flatnonzero(~is_plain):
            members = nodes[offsets[cycle] : offsets[cycle + 1]]
            ends = (np.flatnonzero(is_tail[members]) + 1).tolist()
            if not ends:
                whole = np.concatenate(_parts(links.vertices, members, before))
                rings.append(RaggedArray(whole, np.array([0, len(whole)])))
                pieces.append(int(least[cycle]))
            for start, stop in zip([0, *ends], ends, strict=False):
                path = members[start:stop]
                parts = _parts(links.vertices, path, before)
                if len(parts) > _PIECES_MAX:
                    parts = [np.concatenate(parts)]
                came, went = links.column_in[path[0]], links.column_out[path[-1]]
                self._open.append(Open(int(came), int(went), parts))
        return join(rings), np.array(pieces, np.int64)


def _present(vertices: Ints, sizes: Ints) -> RaggedArray:
    """Rings of so many pieces each, without the places that hold no vertex."""
    ends = np.concatenate([[0], np.cumsum(sizes)]) * vertices.shape[1]
    flat = vertices.reshape(-1)
    there = flat >= 0
    if there.all():
        return RaggedArray(flat, ends)
    return RaggedArray(flat[there], np.concatenate([[0], np.cumsum(there)])[ends])


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


def split_touching(rings: RaggedArray) -> tuple[RaggedArray, Ints]:
    """Cut rings that pass twice through a vertex into rings that do not.

    With objects of 4-connected pixels, the two passes of one ring through a saddle always belong
    to one object, so exchanging what follows them separates the background on both sides: a valid
    polygon whose rings meet in points.

    Returns:
        Simple rings, and for each the ring that it was part of.
    """
    marked = np.flatnonzero(rings.flat & SADDLE)
    ring_of = np.searchsorted(rings.offsets, marked, side="right") - 1
    order = np.lexsort((place(rings.flat[marked]), ring_of))
    marked, ring_of = marked[order], ring_of[order]
    here = place(rings.flat[marked])
    twice = np.flatnonzero((here[1:] == here[:-1]) & (ring_of[1:] == ring_of[:-1]))
    if len(twice) == 0:
        return rings, np.arange(len(rings))
    first, second = marked[twice], marked[twice + 1]
    affected = np.unique(ring_of[twice])
    untouched = np.setdiff1d(np.arange(len(rings)), affected)
    some = rings.take(affected)
    back = np.zeros(len(rings), np.int64)
    back[affected] = some.offsets[:-1] - rings.offsets[affected]
    first, second = first + back[ring_of[twice]], second + back[ring_of[twice]]
    successor = np.arange(1, len(some.flat) + 1)
    successor[some.offsets[1:] - 1] = some.offsets[:-1]
    successor[first], successor[second] = successor[second], successor[first]
    nodes, offsets = cycles(successor, np.arange(len(successor)))
    origin = affected[some.item_of[nodes[offsets[:-1]]]]
    return (
        join([rings.take(untouched), RaggedArray(some.flat[nodes], offsets)]),
        np.concatenate([untouched, origin]),
    )


def canonical(rings: RaggedArray) -> RaggedArray:
    """Rotate each ring to begin at its first vertex in raster order, and mark it there."""
    plain = place(rings.flat)
    least = np.minimum.reduceat(plain, rings.offsets[:-1]) if len(rings) else plain
    sizes = rings.lengths
    at = np.flatnonzero(plain == np.repeat(least, sizes))
    shift = np.repeat(at - rings.offsets[:-1], sizes)
    base = np.repeat(rings.offsets[:-1], sizes)
    turned = rings.flat[base + (np.arange(len(plain)) - base + shift) % np.repeat(sizes, sizes)]
    turned[rings.offsets[:-1]] |= RING_START
    return RaggedArray(turned, rings.offsets)


def signed_area(rings: RaggedArray) -> Floats:
    """`(ring,)` area in square pixels: positive for an exterior, negative for a hole."""
    if len(rings) == 0:
        return np.zeros(0)
    y, x = unpack(rings.flat)
    y = y - np.repeat(y[rings.offsets[:-1]], rings.lengths)
    x = x - np.repeat(x[rings.offsets[:-1]], rings.lengths)
    after = np.arange(1, len(y) + 1)
    after[rings.offsets[1:] - 1] = rings.offsets[:-1]
    # y points down, so the usual sign is turned round.
    twice = np.add.reduceat(x[after] * y - x * y[after], rings.offsets[:-1])
    return twice / (2.0 * SUBPIXEL * SUBPIXEL)


def gather(rings: RaggedArray, owner: Ints, hole: Bools, owners: int) -> RaggedArray:
    """Join each owner's canonical rings into one item: its exterior first, then holes in order.

    The order is that of the raster. Owners `(ring,)` are in [0, owners), each with an exterior;
    `hole` is `(ring,)`, True for holes.
    """
    order = np.lexsort((place(rings.flat[rings.offsets[:-1]]), hole, owner))
    sorted_rings = rings.take(order)
    counts = np.bincount(owner, minlength=owners)
    ends = np.concatenate([[0], np.cumsum(counts)])
    return RaggedArray(sorted_rings.flat, sorted_rings.offsets[ends])


def round_rings(offsets: Ints) -> tuple[Ints, Ints]:
    """`(vertex,)` the vertex before and after each in its ring."""
    count = int(offsets[-1])
    before, after = np.arange(count) - 1, np.arange(count) + 1
    before[offsets[:-1]], after[offsets[1:] - 1] = offsets[1:] - 1, offsets[:-1]
    return before, after
