"""Walls of neighbours that stand side by side, moved to a common line.

A wall is a side of a drawn polygon: its outward normal and how far out it lies. Walls of two
touching buildings that are nearly parallel and close are one wall (a party wall), or go on in one
front; they take one line, and their corners follow. The walls that stay free then move in or out
together, so that the building keeps its area.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import shapely

from geohr.encoding import Bools, Floats, Geometries, Ints
from geohr.polygons.shapes import assemble

PARALLEL = 10.0
"""Degrees between walls that can be one."""
FACING = 1.0
"""Tolerances between walls back to back that can be one."""
FRONT = 0.25
"""Tolerances between walls that look the same way and can be one front."""
GAP = 1.0
"""Tolerances between the ends of walls of one front."""
FAR = 3.0
"""Tolerances by which a corner may move."""
CHANGED = 0.25
"""Relative change of area beyond which a polygon stays as it was drawn."""


@dataclass(frozen=True)
class WallSides:
    """The sides of all polygons, ring after ring."""

    polygon: Ints
    ring: Ints
    start: Floats
    """`(side, 2)` the corner where each begins."""
    normal: Floats
    """`(side, 2)` to the right of the way it goes, which is outward."""
    offset: Floats
    """`(side,)` normal . p of its points."""
    length: Floats

    @classmethod
    def of(cls, polygons: Geometries) -> WallSides:
        """Of polygons; exteriors are turned counterclockwise and holes clockwise."""
        rings, owner = shapely.get_rings(polygons, return_index=True)
        hole = np.diff(owner, prepend=-1) == 0
        turned = shapely.is_ccw(rings) == hole
        rings[turned] = shapely.reverse(rings[turned])
        points, ring = shapely.get_coordinates(rings, return_index=True)
        inside = np.flatnonzero(ring[1:] == ring[:-1])
        along = points[inside + 1] - points[inside]
        length = np.hypot(along[:, 0], along[:, 1])
        normal = np.column_stack([along[:, 1], -along[:, 0]]) / length[:, None]
        start = points[inside]
        return cls(
            owner[ring[inside]], ring[inside], start, normal, (normal * start).sum(axis=1), length
        )

    @property
    def before(self) -> Ints:
        """`(side,)` the side before each, round its ring."""
        begins = np.flatnonzero(np.diff(self.ring, prepend=-1))
        before = np.arange(len(self.ring)) - 1
        before[begins] = np.append(begins[1:], len(self.ring)) - 1
        return before


def share_walls(polygons: Geometries, tolerance: Floats, pairs: Ints, area: Floats) -> Geometries:
    """Polygons with walls close to those of neighbours on common lines.

    Args:
        polygons: Drawings, in metres of one plane.
        tolerance: `(n,)` in metres.
        pairs: `(2, pair)` polygons that touch.
        area: `(n,)` what each is to measure.
    """
    sides = WallSides.of(polygons)
    line = common_lines(sides, tolerance, pairs)
    fixed = line != np.arange(len(line))
    fixed |= np.isin(np.arange(len(line)), line[fixed])
    if not fixed.any():
        return polygons
    moved = _on_lines(sides, line)
    now = shapely.area(polygons)
    result = polygons
    for _ in range(3):
        result = _built(moved, sides, fixed, polygons, tolerance)
        free = np.bincount(
            moved.polygon, weights=np.where(fixed, 0, moved.length), minlength=len(polygons)
        )
        now = shapely.area(result)
        out = np.where(free > 0, (area - now) / np.maximum(free, 1e-9), 0)
        out = np.clip(out, -tolerance / 2, tolerance / 2)
        moved = replace(moved, offset=moved.offset + np.where(fixed, 0, out[moved.polygon]))
    return _built(moved, sides, fixed, polygons, tolerance)


def common_lines(sides: WallSides, tolerance: Floats, pairs: Ints) -> Ints:
    """`(side,)` the side whose cluster each belongs to; itself where it stays alone.

    The closest are joined first. No line takes two sides of one polygon.
    """
    one, other = _close(sides, tolerance, pairs)
    root = np.arange(len(sides.ring))
    members: dict[int, list[int]] = {}
    polygon = sides.polygon.tolist()
    for a, b in zip(one.tolist(), other.tolist(), strict=True):
        first, second = sorted((int(root[a]), int(root[b])))
        if first == second:
            continue
        mine, others = members.get(first, [first]), members.get(second, [second])
        if {polygon[side] for side in mine} & {polygon[side] for side in others}:
            continue
        members[first] = mine + others
        root[members[first]] = first
    return root


def _close(sides: WallSides, tolerance: Floats, pairs: Ints) -> tuple[Ints, Ints]:
    """Sides of touching polygons that can be one line, the closest first."""
    of_polygon = np.split(
        np.arange(len(sides.ring)), np.searchsorted(sides.polygon, np.arange(1, len(tolerance)))
    )
    found = [
        np.array(np.meshgrid(of_polygon[a], of_polygon[b], indexing="ij")).reshape(2, -1)
        for a, b in pairs.T.tolist()
    ]
    one, other = np.concatenate([np.zeros((2, 0), np.int64), *found], axis=1)
    cross = sides.normal[one, 0] * sides.normal[other, 1]
    cross = cross - sides.normal[one, 1] * sides.normal[other, 0]
    scale = np.minimum(tolerance[sides.polygon[one]], tolerance[sides.polygon[other]])
    # Measured along the longer, whose direction is the better known.
    swap = sides.length[one] < sides.length[other]
    one, other = np.where(swap, other, one), np.where(swap, one, other)
    along = np.column_stack([-sides.normal[one][:, 1], sides.normal[one][:, 0]])
    end = sides.start + sides.length[:, None] * np.column_stack(
        [-sides.normal[:, 1], sides.normal[:, 0]]
    )
    middle = (sides.start[other] + end[other]) / 2
    away = np.abs((middle * sides.normal[one]).sum(axis=1) - sides.offset[one])
    places = [
        ((point - sides.start[one]) * along).sum(axis=1)
        for point in (sides.start[other], end[other])
    ]
    gap = np.maximum(np.minimum(*places) - sides.length[one], -np.maximum(*places))
    facing = (sides.normal[one] * sides.normal[other]).sum(axis=1) < 0
    near = np.abs(cross) < np.sin(np.radians(PARALLEL))
    near &= away <= np.where(facing, FACING, FRONT) * scale
    near &= gap <= np.where(facing, 0, GAP) * scale
    one, other, away = one[near], other[near], away[near]
    order = np.lexsort((other, one, away))
    return one[order], other[order]


def _on_lines(sides: WallSides, line: Ints) -> WallSides:
    """Sides on the lines of their clusters: the direction of the longest, the mean place."""
    count = len(line)
    longest = np.zeros(count, np.int64)
    order = np.lexsort((-sides.length, line))
    first = np.flatnonzero(np.diff(line[order], prepend=-1))
    longest[line[order][first]] = order[first]
    lead = sides.normal[longest[line]]
    sign = np.where((lead * sides.normal).sum(axis=1) < 0, -1.0, 1.0)
    middle = sides.start + sides.length[:, None] / 2 * np.column_stack(
        [-sides.normal[:, 1], sides.normal[:, 0]]
    )
    place = np.bincount(line, weights=sides.length * (middle * lead).sum(axis=1), minlength=count)
    total = np.bincount(line, weights=sides.length, minlength=count)
    offset = (place / np.maximum(total, 1e-12))[line]
    return replace(sides, normal=lead * sign[:, None], offset=offset * sign)


def _built(
    moved: WallSides, sides: WallSides, fixed: Bools, polygons: Geometries, tolerance: Floats
) -> Geometries:
    """Polygons of moved sides; as they were where that would not do."""
    before = moved.before
    a, b = moved.normal[before], moved.normal
    c, d = moved.offset[before], moved.offset
    cross = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    flat = np.abs(cross) < 0.2
    safe = np.where(flat, 1, cross)
    corner = np.column_stack(
        [(c * b[:, 1] - d * a[:, 1]) / safe, (d * a[:, 0] - c * b[:, 0]) / safe]
    )
    # Where one side hardly turns into the next, the corner moves straight to the fixed one.
    onto = np.where(fixed, np.arange(len(before)), before)
    foot = (sides.start * moved.normal[onto]).sum(axis=1) - moved.offset[onto]
    corner[flat] = (sides.start - foot[:, None] * moved.normal[onto])[flat]
    far = np.hypot(*(corner - sides.start).T) > FAR * tolerance[moved.polygon]
    begins = np.flatnonzero(np.diff(moved.ring, prepend=-1))
    built = assemble(shapely.linearrings(corner, indices=moved.ring), moved.polygon[begins])
    good = shapely.is_valid(built) & shapely.is_ccw(shapely.get_exterior_ring(built))
    good[moved.polygon[far]] = False
    good &= np.abs(shapely.area(built) / shapely.area(polygons) - 1) < CHANGED
    touched = np.zeros(len(polygons), np.bool_)
    touched[moved.polygon[fixed]] = True
    return np.where(good & touched, built, polygons)
