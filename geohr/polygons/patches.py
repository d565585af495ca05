"""Rectangles of a scene traced apart, and joined at all four sides.

    for each rectangle:  patch = trace_patch(classes, scores, place, tracing)  # `rectangles`
    joiner = PatchJoiner(eight=...);  closed = joiner.add([patch, ...])          # in any order

What comes out are the closed objects that `Tracer` finds in all rows, bit for bit.

Outlines are directed, and each of their unit sides belongs to the rectangle that has the pixel on
its left. A rectangle sees the pixels around it, so that it knows how an outline goes on across its
edge: it leaves a strand, which begins and ends at unit sides that are numbered over the whole
scene. Parts that share a side or a saddle with a pixel beyond the edge leave a contact, numbered
likewise. What two rectangles number alike is one: nothing else is needed to join them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
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
    """The numbers of what parts share with pixels beyond the edge, `(contact,)`."""
    contact_part: Ints
    """The part of each contact, `(contact,)`."""
    corners: Ints
    """The numbers of corners that objects share with pixels beyond the edge, `(corner,)`."""
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
        self._clear()

    def _clear(self) -> None:
        """Have no open objects."""
        self._objects = OpenObjects()
        none = np.zeros(0, np.int64)
        self._object_of_part = none
        self._strands = RaggedArray.empty()
        self._strand_part = self._begin = self._end = none
        self._contacts = self._contact_part = none
        self._corners = self._corner_object = none

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
        parts, old_parts = len(new.object_of_part), len(self._object_of_part)
        objects = len(new.statistics)
        contacts = np.concatenate([new.contacts, self._contacts])
        of_part = np.concatenate([new.contact_part, self._contact_part + parts])
        part, open_contact, pairs = _united(parts, old_parts, contacts, of_part)
        of_object = np.concatenate([new.object_of_part, self._object_of_part + objects])
        corners = np.concatenate([new.corners, self._corners])
        of_corner = np.concatenate([new.corner_object, self._corner_object + objects])
        group, open_corner = part, np.zeros(0, np.bool_)
        if self._eight:
            open_part = part.open[np.concatenate([part.of_run, part.of_old])]
            group, open_corner = _united_objects(
                objects, len(self._objects.statistics), corners, of_corner,
                pairs=(of_object[pairs[0]], of_object[pairs[1]]),
                still_open=of_object[open_part],
            )  # fmt: skip
        number = np.concatenate([part.of_run, part.of_old])
        group_of = np.concatenate([group.of_run, group.of_old])
        closed, strand_part = self._link(new, number)
        simple, origin = split_touching(closed[0])
        known, known_part = new.rings
        shapes, shape_object = new.shapes
        whole = self._objects.take(
            (
                join([canonical(simple), known]),
                np.concatenate([closed[1][origin], part.of_run[known_part]]),
            ),
            new.statistics,
            part=part,
            group=group if self._eight else None,
            group_of_node=group.of_run[new.object_of_part],
            shapes=(shapes, group.of_run[shape_object]) if self._eight else None,
        )
        self._strand_part = part.renumber[strand_part]
        self._contacts = contacts[open_contact]
        self._contact_part = part.renumber[number[of_part[open_contact]]]
        if self._eight:
            self._corners = corners[open_corner]
            self._corner_object = group.renumber[group_of[of_corner[open_corner]]]
        object_of = np.zeros(part.count, np.int64)
        object_of[number] = group.renumber[group_of[of_object]]
        self._object_of_part = object_of[part.open]
        return whole

    def rest(self) -> Patch:
        """The objects that are open, as one patch; the joiner is empty afterwards."""
        objects = self._objects
        patch = Patch(
            statistics=objects.statistics,
            rings=objects.rings.take(np.ones(len(self._object_of_part), np.bool_)),
            shapes=objects.shapes.take(np.ones(len(objects.statistics), np.bool_)),
            strands=self._strands,
            begin=self._begin,
            end=self._end,
            object_of_part=self._object_of_part,
            strand_part=self._strand_part,
            contacts=self._contacts,
            contact_part=self._contact_part,
            corners=self._corners,
            corner_object=self._corner_object,
        )
        self._clear()
        return patch

    def _link(self, new: Patch, number: Ints) -> tuple[tuple[RaggedArray, Ints], Ints]:
        """Link strands: the rings that close with the part of each, and the parts of the rest."""
        begin = np.concatenate([new.begin, self._begin])
        end = np.concatenate([new.end, self._end])
        parts = len(new.object_of_part)
        part = number[np.concatenate([new.strand_part, self._strand_part + parts])]
        order = np.argsort(begin)
        at = np.minimum(np.searchsorted(begin, end, sorter=order), max(len(begin) - 1, 0))
        successor = order[at] if len(begin) else at
        successor = np.where(begin[successor] == end, successor, -1)
        pieces, offsets, closed = segments(successor)
        strands = join([new.strands, self._strands]).take(pieces)
        joined = RaggedArray(strands.flat, strands.offsets[offsets])
        first, last = pieces[offsets[:-1]], pieces[offsets[1:] - 1]
        still = np.flatnonzero(~closed)
        self._strands = joined.take(still)
        self._begin, self._end = begin[first[still]], end[last[still]]
        rings = np.flatnonzero(closed)
        return (joined.take(rings), part[first[rings]]), part[first[still]]


def _united(
    new: int, old: int, keys: Ints, node: Ints, pairs: tuple[Ints, Ints] | None = None
) -> tuple[Step, Bools, tuple[Ints, Ints]]:
    """Join nodes that hold the same key.

    Args:
        new: Nodes that are numbered first.
        old: Nodes that are numbered after them.
        keys: `(key,)`, each there once or twice.
        node: `(key,)` the node that holds it.
        pairs: Further nodes that are one.

    Returns:
        The step, whose open components have a key that is there once; which keys are; the pairs.
    """
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    first, second = node[order[same]], node[order[same + 1]]
    single = np.ones(len(keys), np.bool_)
    single[order[same]] = single[order[same + 1]] = False
    ones, others = (first, second) if pairs is None else (
        np.concatenate([first, pairs[0]]), np.concatenate([second, pairs[1]])
    )  # fmt: skip
    root = connected(new + old, ones, others)
    is_root = root == np.arange(len(root))
    number = (np.cumsum(is_root) - 1)[root]
    still_open = np.zeros(int(is_root.sum()), np.bool_)
    still_open[number[node[single]]] = True
    step = Step(len(still_open), number[:new], number[new:], still_open)
    return step, single, (first, second)


def _united_objects(
    new: int, old: int, keys: Ints, node: Ints, *, pairs: tuple[Ints, Ints], still_open: Ints
) -> tuple[Step, Bools]:
    """Join objects by corners and by parts; those with an open part stay open. See `_united`."""
    step, single, _ = _united(new, old, keys, node, pairs)
    number = np.concatenate([step.of_run, step.of_old])
    step.open[number[still_open]] = True
    return step, single


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
