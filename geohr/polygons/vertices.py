"""Vertices as single integers, and lists of rings held for objects that are still open.

A vertex is packed into 63 bits as `y << 37 | x << 11 | depth << 4 | flags`, x and y in 1/64 of a
pixel from the scene's upper left corner. So vertices sort in raster order, neighbouring outlines
share them to the bit, and a ring is one array.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geohr.encoding import Bools, Ints

SUBPIXEL = 64
"""Steps in a pixel."""
SIDE_MAX = 2**26 // SUBPIXEL
"""The largest scene side, in pixels, that fits."""
DEPTH_MAX = 127
"""The largest depth that fits; it stands for itself and all above."""

SADDLE = 1
"""Flag: two pixels of the class meet here corner to corner."""
RING_START = 2
"""Flag: the first vertex of a ring, where several rings are stored one after the other."""
JUNCTION = 4
"""Flag: other outlines meet here, so that the vertex stays."""
HINT = 8
"""Flag: no vertex of the outline, but says what lies beside it."""
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
    """What `with_depth` put in."""
    return (vertices >> 4) & DEPTH_MAX


@dataclass(frozen=True)
class Ragged:
    """Several lists of vertices, one after the other: item i is [offsets[i], offsets[i + 1])."""

    flat: Ints
    offsets: Ints

    @classmethod
    def empty(cls) -> Ragged:
        """No item."""
        return cls(np.zeros(0, np.int64), np.zeros(1, np.int64))

    def __len__(self) -> int:
        """How many there are."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        """`(item,)` how many vertices each has."""
        return np.diff(self.offsets)

    @property
    def item_of(self) -> Ints:
        """`(vertex,)` the item that each vertex belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, items: Ints) -> Ragged:
        """The given items, in the given order."""
        lengths = self.lengths[items]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        shift = np.repeat(self.offsets[items] - offsets[:-1], lengths)
        return Ragged(self.flat[np.arange(offsets[-1]) + shift], offsets)


def join(parts: list[Ragged]) -> Ragged:
    """Items of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Ragged.empty()
    lengths = np.concatenate([part.lengths for part in parts])
    return Ragged(
        np.concatenate([part.flat for part in parts]), np.concatenate([[0], np.cumsum(lengths)])
    )


class VertexQueue:
    """Lists of vertices whose owner is still open."""

    def __init__(self) -> None:
        self._chunks: list[tuple[Ragged, Ints]] = []

    def add(self, items: Ragged, owner: Ints) -> None:
        """Hold items for their owners."""
        if len(items):
            self._chunks.append((items, owner))

    def renumber(self, of_old: Ints) -> None:
        """Owners have new numbers; what was taken keeps -1."""
        lookup = np.append(of_old, -1)
        self._chunks = [(items, lookup[owner]) for items, owner in self._chunks]

    def take(self, closed: Bools) -> tuple[Ragged, Ints]:
        """Remove and return the items of closed owners, and their owners.

        A chunk is copied only when half of it is gone, so that each item is moved a bounded number
        of times however long its owner stays open.
        """
        lookup = np.append(closed, False)
        taken: list[Ragged] = []
        owners: list[Ints] = []
        kept: list[tuple[Ragged, Ints]] = []
        for items, owner in self._chunks:
            going = lookup[owner]
            if not going.any():
                kept.append((items, owner))
                continue
            taken.append(items.take(np.flatnonzero(going)))
            owners.append(owner[going])
            left = np.where(going, -1, owner)
            stay = np.flatnonzero(left >= 0)
            if 2 * len(stay) > len(left):
                kept.append((items, left))
            elif len(stay):
                kept.append((items.take(stay), left[stay]))
        self._chunks = _merge_small(kept)
        return join(taken), np.concatenate([*owners, np.zeros(0, np.int64)])


def _merge_small(chunks: list[tuple[Ragged, Ints]]) -> list[tuple[Ragged, Ints]]:
    """Join the newest chunks while they are no larger than their successor, as a binary counter."""
    merged: list[tuple[Ragged, Ints]] = []
    for chunk in chunks:
        merged.append(chunk)
        while len(merged) > 1 and len(merged[-2][1]) <= 2 * len(merged[-1][1]):
            items, owner = zip(*merged[-2:], strict=True)
            merged[-2:] = [(join(list(items)), np.concatenate(owner))]
    return merged
