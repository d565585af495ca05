"""Rectangles of a scene traced apart, and joined at all four sides.

    for each rectangle:  patch = trace_patch(classes, scores, place, tracing)  # `rectangles`
    joiner = PatchJoiner(eight=...);  closed = joiner.add([patch, ...])          # in any order

What comes out are the closed objects that `Tracer` finds in all rows, bit for bit.

Outlines are directed, and each of their unit sides belongs to the rectangle that has the pixel on
its left. A rectangle sees the pixels around it, so that it knows how an outline goes on across its
edge: it leaves a strand, which begins and ends at unit sides that are numbered over the whole
scene. Where an object goes on across all of an edge, no outline does, and so its part leaves a
contact at the edge's first pixel, numbered likewise. What two rectangles number alike is one:
nothing else is needed to join them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np

from geohr.encoding import Bools, Floats, Ints
from geohr.polygons.objects import ClosedObjects, OpenObjects, Statistics, concatenated
from geohr.polygons.rings import (
    SUBPIXEL,
    RaggedArray,
    canonical,
    cycles,
    join,
    split_touching,
    unpack,
)
from geohr.polygons.runs import Step, connected

# Fields of a patch that are several arrays each.
_RAGGED = ("rings", "shapes", "strands")


@dataclass(frozen=True)
class Patch:
    """The objects of a rectangle that may go on beyond it, numbered within it.

    Pixels that share sides form a part of an object; an object has several where corners join
    them.
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
    """The number of the first unit side of each strand over the whole scene, `(strand,)`."""
    end: Ints
    """The number of the unit side that follows the last one of each strand, `(strand,)`."""
    object_of_part: Ints
    """The object of each part, `(part,)`."""
    strand_part: Ints
    """The part of each strand, `(strand,)`."""
    contacts: Ints
    """The numbers of sides that parts share with pixels beyond the edge, `(contact,)`."""
    contact_part: Ints
    """The part of each contact, `(contact,)`."""
    corners: Ints
    """The numbers of corners by which alone objects go on beyond the edge, `(corner,)`."""
    corner_object: Ints
    """The object of each corner, `(corner,)`."""

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

    def boxes(self, width: int) -> Floats:
        """`(item, 4)` left, top, right and bottom of all that is open, in pixels of the scene.

        `width` is that of the scene.
        """
        strands = _boxes(self.strands)
        for number in (self.begin, self.end):
            # A strand goes straight from such a side, within a pixel, to its first vertex.
            row, col = np.divmod(number // 4, width + 1)
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


def concatenated_patches(patches: Sequence[Patch]) -> Patch:
    """Patches side by side as one, with nothing joined."""
    if len(patches) == 1:
        return patches[0]
    parts = np.cumsum([0, *(len(each.object_of_part) for each in patches)])[:-1].tolist()
    objects = np.cumsum([0, *(len(each.statistics) for each in patches)])[:-1].tolist()
    none = np.zeros(0, np.int64)

    def numbers(name: str, shift: Sequence[int] | None = None) -> Ints:
        shifts = shift or [0] * len(patches)
        found = [getattr(each, name) + by for each, by in zip(patches, shifts, strict=True)]
        return np.concatenate([none, *found])

    def items(name: str, shift: Sequence[int]) -> tuple[RaggedArray, Ints]:
        found = [getattr(each, name) for each in patches]
        of = [each[1] + by for each, by in zip(found, shift, strict=True)]
        return join([each[0] for each in found]), np.concatenate([none, *of])

    return Patch(
        statistics=concatenated([each.statistics for each in patches]),
        rings=items("rings", parts),
        shapes=items("shapes", objects),
        strands=join([each.strands for each in patches]),
        begin=numbers("begin"),
        end=numbers("end"),
        object_of_part=numbers("object_of_part", objects),
        strand_part=numbers("strand_part", parts),
        contacts=numbers("contacts"),
        contact_part=numbers("contact_part", parts),
        corners=numbers("corners"),
        corner_object=numbers("corner_object", objects),
    )


class PatchJoiner:
    """Joins patches, in any order, and hands out each object when all of it is there.

    Objects are joined by corners, too, if `eight`.
    """

    def __init__(self, *, eight: bool) -> None:
        self._eight = eight
        self._objects = OpenObjects()
        # What is open, but for what `_objects` holds: closed rings and parts.
        self._open = concatenated_patches([])

    def __len__(self) -> int:
        """The number of objects that are still open."""
        return len(self._objects.statistics)

    @property
    def first(self) -> int:
        """The first pixel of all open objects."""
        return self._objects.first

    def add(self, patches: Sequence[Patch]) -> ClosedObjects:
        """Join patches to what is there; the objects that close with them, in canonical order."""
        new = concatenated_patches(patches)
        every = concatenated_patches([new, self._open])
        part, single, pairs = _united(
            (len(new.object_of_part), len(every.object_of_part)),
            np.concatenate([every.contacts, every.begin * 2 + 1, every.end * 2 + 1]),
            np.concatenate([every.contact_part, every.strand_part, every.strand_part]),
        )
        contact = np.flatnonzero(single[: len(every.contacts)])
        group, corner = part, contact[:0]
        if self._eight:
            first, second = every.object_of_part[pairs[0]], every.object_of_part[pairs[1]]
            group, single, _ = _united(
                (len(new.statistics), len(every.statistics)),
                every.corners,
                every.corner_object,
                (first, second),
                every.object_of_part[part.open[part.of_node]],
            )
            corner = np.flatnonzero(single)
        rings, ring_part, every = _linked(every)
        simple, origin = split_touching(rings)
        known, known_part = new.rings
        whole = self._objects.take(
            (
                join([canonical(simple), known]),
                part.of_node[np.concatenate([ring_part[origin], known_part])],
            ),
            new.statistics,
            part=part,
            group=group if self._eight else None,
            group_of_node=group.of_run[new.object_of_part],
            shapes=(new.shapes[0], group.of_run[new.shapes[1]]) if self._eight else None,
        )
        part_now, object_now = part.renumber[part.of_node], group.renumber[group.of_node]
        object_of_part = np.zeros(part.count, np.int64)
        object_of_part[part.of_node] = object_now[every.object_of_part]
        nothing = RaggedArray.empty(), contact[:0]
        self._open = replace(
            every,
            statistics=self._objects.statistics,
            rings=nothing,
            shapes=nothing,
            object_of_part=object_of_part[part.open],
            strand_part=part_now[every.strand_part],
            contacts=every.contacts[contact],
            contact_part=part_now[every.contact_part[contact]],
            corners=every.corners[corner],
            corner_object=object_now[every.corner_object[corner]],
        )
        return whole

    def rest(self) -> Patch:
        """The objects that are open, as one patch; the joiner is empty afterwards."""
        objects, still = self._objects, self._open
        patch = replace(
            still,
            rings=objects.rings.take(np.ones(len(still.object_of_part), np.bool_)),
            shapes=objects.shapes.take(np.ones(len(still.statistics), np.bool_)),
        )
        self._objects, self._open = OpenObjects(), concatenated_patches([])
        return patch


def _linked(patch: Patch) -> tuple[RaggedArray, Ints, Patch]:
    """Link strands: the rings that close, the part of each, and the patch with what is left."""
    begin, end = patch.begin, patch.end
    order = np.argsort(begin)
    at = np.minimum(np.searchsorted(begin, end, sorter=order), max(len(begin) - 1, 0))
    successor = order[at] if len(begin) else at
    pieces, offsets, closed = segments(np.where(begin[successor] == end, successor, -1))
    strands = patch.strands.take(pieces)
    joined = RaggedArray(strands.flat, strands.offsets[offsets])
    first, last = pieces[offsets[:-1]], pieces[offsets[1:] - 1]
    ring, still = np.flatnonzero(closed), np.flatnonzero(~closed)
    rest = replace(
        patch,
        strands=joined.take(still),
        begin=begin[first[still]],
        end=end[last[still]],
        strand_part=patch.strand_part[first[still]],
    )
    return joined.take(ring), patch.strand_part[first[ring]], rest


def _united(
    counts: tuple[int, int],
    keys: Ints,
    node: Ints,
    pairs: tuple[Ints, Ints] | None = None,
    still_open: Ints | None = None,
) -> tuple[Step, Bools, tuple[Ints, Ints]]:
    """Join nodes that hold the same key.

    Args:
        counts: The number of nodes that are new, which come first, and of all.
        keys: `(key,)`, each there once or twice.
        node: `(key,)` the node that holds it.
        pairs: Further nodes that are one.
        still_open: Nodes whose components are open, whatever keys they have.

    Returns:
        The step, whose open components have a key that is there once; which keys are; the nodes
        that hold the same.
    """
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    first, second = node[order[same]], node[order[same + 1]]
    single = np.ones(len(keys), np.bool_)
    single[order[same]] = single[order[same + 1]] = False
    none = first[:0]
    one, other = pairs or (none, none)
    root = connected(counts[1], np.concatenate([first, one]), np.concatenate([second, other]))
    is_root = root == np.arange(len(root))
    number = (np.cumsum(is_root) - 1)[root]
    is_open = np.zeros(int(is_root.sum()), np.bool_)
    is_open[number[node[single]]] = True
    is_open[number[none if still_open is None else still_open]] = True
    step = Step(len(is_open), number[: counts[0]], number[counts[0] :], is_open)
    return step, single, (first, second)


def segments(successor: Ints) -> tuple[Ints, Ints, Bools]:
    """Follow nodes to those that come after them.

    Args:
        successor: `(node,)` the next node, no node twice; -1 where a path ends.

    Returns:
        Nodes path after path, the offsets of the paths, and which of them are closed.
    """
    count = len(successor)
    if count == 0:
        return np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(0, np.bool_)
    is_tail = successor < 0
    is_head = np.ones(count, np.bool_)
    is_head[successor[~is_tail]] = False
    ring = successor.copy()
    ring[is_tail] = np.flatnonzero(is_head)
    # Each cycle begins after a tail, where it has one.
    nodes, offsets = cycles(ring, np.arange(count) + count * ~is_tail)
    cut = np.union1d(offsets, np.flatnonzero(is_tail[nodes]) + 1)
    return nodes, cut, ~is_tail[nodes[cut[1:] - 1]]
