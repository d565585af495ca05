"""Building outlines drawn with straight walls and right angles.

For every ring several drawings are made: the rectangle with the ring's own moments, outlines of
walls at right angles and of walls at multiples of 45 degrees to the main direction, each at a few
levels of detail, a circle, and the ring simplified. The one is taken that says most with least: the
area between drawing and ring in squared tolerances, plus a price for every vertex (a minimum
description length; Rissanen, "Modeling by shortest data description", 1978). A ring that no few
walls describe is no building but several that touch: there a vertex costs next to nothing, so that
it is followed closely instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from geohr.polygons.polygons import Geometries
from geohr.polygons.rings import Floats
from geohr.polygons.runs import Bools, Ints
from geohr.polygons.thin import kept_of_rings

DETAILS = (0.25, 0.5, 1.0, 2.0)
"""Levels of detail: how far, in tolerances, walls are simplified before they are straightened."""
ANGLES = (90, 45)
"""Walls stand at multiples of one of these to the main direction."""
VERTEX_AREA = 1.25
"""How much less area a drawing must miss for one vertex more, in squared tolerances."""
CROWD = 40
"""Vertices, prices included, from which a ring is taken for several buildings."""
CROWD_VERTEX_AREA = 0.05
"""The same as `VERTEX_AREA`, for those."""
ANGLE_PRICE = {90: 0.0, 45: 2.0}
"""What walls off the right angle cost, in vertices: they are drawn only where they clearly fit."""
FREE_PRICE = 4.0
"""What an outline without any straightened wall costs, in vertices."""
CIRCLE_PRICE = 8.0
"""What a circle costs, in vertices; its own are not counted."""
CIRCLE_VERTICES = 16
MEAN_DISTANCE = 0.75
"""Greatest mean distance of a straightened drawing from the ring, in tolerances."""
SAMPLES = 128
"""Points on an outline, at which drawings are compared with it."""
AREA_TOLERANCE = 0.01
"""Greatest relative change of a ring's area."""
_ROUNDS = 64
"""Most short walls taken out of one ring."""


@dataclass(frozen=True)
class Walls:
    """Lines of all rings, ring after ring: n . p = offset, n at `angle` + 90 degrees."""

    ring: Ints
    angle: Floats
    """Radians, of the wall."""
    offset: Floats
    weight: Floats
    """Length of outline that the wall stands for."""

    def take(self, kept: Bools) -> Walls:
        """The walls kept."""
        return Walls(self.ring[kept], self.angle[kept], self.offset[kept], self.weight[kept])


def regularize(polygons: Geometries, tolerance: Floats) -> Geometries:
    """Draw buildings with straight walls. Areas change by less than `AREA_TOLERANCE`.

    Each polygon is drawn for itself: neighbours may come to overlap by about the tolerance (see
    `settle`). Holes smaller than the tolerance squared are filled. Where a hole no longer fits
    into its building, the building is only simplified.

    Args:
        polygons: Polygons in metres.
        tolerance: `(n,)` how far walls may leave the outline, in metres.
    """
    rings, owner = shapely.get_rings(polygons, return_index=True)
    filled = np.asarray(shapely.polygons(rings), object)
    hole = np.concatenate([[False], owner[1:] == owner[:-1]])[: len(owner)]
    drawable = ~hole | (shapely.area(filled) >= tolerance[owner] ** 2)
    filled, owner, hole = filled[drawable], owner[drawable], hole[drawable]
    drawn = _draw(filled, tolerance[owner])
    result = _assemble(drawn, owner, hole)
    wrong = ~shapely.is_valid(result) | (shapely.get_type_id(result) != 3)
    result[wrong] = shapely.simplify(polygons[wrong], tolerance[wrong])
    return result


def _assemble(filled: Geometries, owner: Ints, hole: Bools) -> Geometries:
    """Polygons from exteriors, each followed by its holes."""
    rings = shapely.get_exterior_ring(filled)
    result = np.asarray(shapely.polygons(rings[~hole]), object)
    starts = np.append(np.flatnonzero(~hole), len(rings))
    for index in np.unique(owner[hole]).tolist():
        start, stop = starts[index], starts[index + 1]
        result[index] = shapely.polygons(rings[start], rings[start + 1 : stop])
    return result


def _draw(filled: Geometries, tolerance: Floats) -> Geometries:
    """The best drawing of each polygon without holes."""
    area = shapely.area(filled)
    direction = main_direction(shapely.simplify(filled, tolerance))
    centre = _points(shapely.centroid(filled))
    level = _turn(filled, -direction, centre)
    candidates: list[tuple[Geometries, float]] = [(_rectangles(level), 0.0)]
    candidates += [
        (_straighten(level, tolerance, detail, angle), ANGLE_PRICE[angle])
        for detail in DETAILS
        for angle in ANGLES
    ]
    candidates = [(_turn(each, direction, centre), price) for each, price in candidates]
    candidates.append((_circles(centre, area), CIRCLE_PRICE))
    candidates += [
        (np.asarray(shapely.simplify(filled, detail * tolerance), object), FREE_PRICE)
        for detail in DETAILS
    ]
    outline = Outline.of(filled, tolerance)
    drawings = np.stack([_with_area(drawing, area) for drawing, _ in candidates])
    measured = [
        outline.compare(drawing, price)
        for drawing, (_, price) in zip(drawings, candidates, strict=True)
    ]
    missed, vertices = (np.stack(values) for values in zip(*measured, strict=True))
    every = np.arange(len(filled))
    chosen = (missed / VERTEX_AREA + vertices).argmin(axis=0)
    crowded = vertices[chosen, every] >= CROWD
    chosen = np.where(crowded, (missed / CROWD_VERTEX_AREA + vertices).argmin(axis=0), chosen)
    usable = np.isfinite(missed[chosen, every])
    return np.where(usable, drawings[chosen, every], filled)


@dataclass(frozen=True)
class Outline:
    """Traced outlines as points at equal distances, to compare drawings with."""

    points: Geometries
    """`(n, SAMPLES)`."""
    perimeter: Floats
    tolerance: Floats

    @classmethod
    def of(cls, filled: Geometries, tolerance: Floats) -> Outline:
        """Of polygons without holes."""
        parts = (np.arange(SAMPLES) + 0.5) / SAMPLES
        rings = shapely.get_exterior_ring(filled)
        points = shapely.line_interpolate_point(rings[:, None], parts, normalized=True)
        return cls(np.asarray(points, object), shapely.length(filled), tolerance)

    def compare(self, drawing: Geometries, price: float) -> tuple[Floats, Floats]:
        """How much area drawings miss, and how many vertices they cost.

        The area between outline and drawing is taken as mean distance times perimeter.

        Args:
            drawing: `(n,)` of the same buildings.
            price: Vertices that each costs besides its own.

        Returns:
            Area in squared tolerances, infinite where a drawing cannot be used, and vertices.
        """
        usable = np.flatnonzero(shapely.is_valid(drawing))
        missed, vertices = np.full(len(drawing), np.inf), np.full(len(drawing), price)
        rings = shapely.get_exterior_ring(drawing[usable])
        away = shapely.distance(self.points[usable], rings[:, None]).mean(axis=1)
        tolerance = self.tolerance[usable]
        if price != CIRCLE_PRICE:
            vertices[usable] += shapely.get_num_coordinates(rings) - 1
        far = (away > MEAN_DISTANCE * tolerance) & (price != FREE_PRICE)
        missed[usable] = np.where(far, np.inf, away * self.perimeter[usable] / tolerance**2)
        return missed, vertices


def main_direction(polygons: Geometries) -> Floats:
    """`(n,)` radians from the x axis: the walls' mean direction, right angles taken as one.

    Long walls decide: edges count by the square of their length.
    """
    points, owner = shapely.get_coordinates(polygons, return_index=True)
    edge = np.diff(points, axis=0)
    inside = owner[1:] == owner[:-1]
    edge, of_edge = edge[inside], owner[:-1][inside]
    power = (edge[:, 0] ** 2 + edge[:, 1] ** 2) * np.exp(4j * np.arctan2(edge[:, 1], edge[:, 0]))
    sine, cosine = (
        np.bincount(of_edge, weights=part, minlength=len(polygons))
        for part in (power.imag, power.real)
    )
    return np.asarray(np.arctan2(sine, cosine) / 4, np.float64)


def _rectangles(level: Geometries) -> Geometries:
    """The rectangle along the axes with each polygon's centroid and second moments."""
    points, owner = shapely.get_coordinates(level, return_index=True)
    inside = owner[1:] == owner[:-1]
    one, two, ring = points[:-1][inside], points[1:][inside], owner[:-1][inside]
    cross = one[:, 0] * two[:, 1] - two[:, 0] * one[:, 1]

    def total(values: Floats) -> Floats:
        return np.bincount(ring, weights=values, minlength=len(level)).astype(np.float64)

    area = total(cross) / 2
    corners = np.empty((len(level), 4, 2))
    for axis in (0, 1):
        a, b = one[:, axis], two[:, axis]
        middle = total(cross * (a + b)) / (6 * area)
        spread = total(cross * (a * a + a * b + b * b)) / (12 * area) - middle**2
        half = np.sqrt(np.maximum(3 * spread, 0))
        sign = np.array([[-1, 1, 1, -1], [-1, -1, 1, 1]][axis])
        corners[:, :, axis] = middle[:, None] + sign * half[:, None]
    return np.asarray(shapely.polygons(corners), object)


def _circles(centre: Floats, area: Floats) -> Geometries:
    """Regular polygons round the centres with the given areas."""
    turn = np.arange(CIRCLE_VERTICES) * 2 * np.pi / CIRCLE_VERTICES
    unit = np.column_stack([np.cos(turn), np.sin(turn)])
    radius = np.sqrt(area / (CIRCLE_VERTICES / 2 * np.sin(2 * np.pi / CIRCLE_VERTICES)))
    return np.asarray(shapely.polygons(centre[:, None, :] + radius[:, None, None] * unit), object)


def _straighten(level: Geometries, tolerance: Floats, detail: float, angle: int) -> Geometries:
    """Outlines of walls at multiples of an angle; None where fewer than four walls are left."""
    walls = _walls(level, detail * tolerance, np.radians(angle))
    shortest = detail * tolerance
    for _ in range(_ROUNDS):
        corners = _corners(walls)
        short = _shortest(walls, corners, shortest)
        if len(short) == 0:
            break
        walls = _without(walls, short)
    corners = _corners(walls)
    counts = np.bincount(walls.ring, minlength=len(level))
    fine = np.flatnonzero(counts >= 4)
    usable = np.isin(walls.ring, fine) & np.isfinite(corners).all(axis=1)
    result = np.full(len(level), None, object)
    whole = fine[np.bincount(walls.ring[usable], minlength=len(level))[fine] == counts[fine]]
    inside = np.isin(walls.ring, whole)
    if len(whole):
        rings = shapely.linearrings(
            corners[inside], indices=np.searchsorted(whole, walls.ring[inside])
        )
        result[whole] = shapely.polygons(rings)
    return result


def _walls(polygons: Geometries, tolerance: Floats, step: float) -> Walls:
    """The outline between vertices that simplifying keeps, snapped to multiples of an angle.

    A wall's direction is that of the chord, its place the mean of the outline that it stands for.
    """
    points, ring = shapely.get_coordinates(polygons, return_index=True)
    offsets = np.searchsorted(ring, np.arange(len(polygons) + 1))
    sizes = np.diff(offsets) - 1
    is_open = np.ones(len(points), np.bool_)
    is_open[offsets[1:] - 1] = False
    edge = np.diff(points, axis=0, append=points[:1])[is_open]
    points, ring = points[is_open], ring[is_open]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    kept = np.flatnonzero(kept_of_rings(points, offsets, tolerance))
    # Edges before a ring's first kept vertex belong to the chord that closes the ring.
    chord = np.searchsorted(kept, np.arange(len(points)), side="right") - 1
    begins = np.searchsorted(kept, offsets)
    early = np.arange(len(points)) < kept[begins[:-1]][ring]
    chord[early] = begins[1:][ring[early]] - 1
    follows = np.arange(1, len(kept) + 1)
    follows[begins[1:] - 1] = begins[:-1]
    along = points[kept[follows]] - points[kept]
    kind = np.rint(np.arctan2(along[:, 1], along[:, 0]) / step) % round(np.pi / step)
    angle = (kind * step)[chord]
    middle = points + edge / 2
    across = -np.sin(angle) * middle[:, 0] + np.cos(angle) * middle[:, 1]
    # Edges count by how far they go along the wall; back and forth adds nothing.
    length = np.abs(np.cos(angle) * edge[:, 0] + np.sin(angle) * edge[:, 1])
    weight = np.bincount(chord, weights=length, minlength=len(kept)).astype(np.float64)
    total = np.bincount(chord, weights=length * across, minlength=len(kept))
    there = weight > 0
    return _joined(
        Walls(
            ring[kept][there],
            (kind * step)[there],
            (total / np.maximum(weight, 1e-12))[there],
            weight[there],
        )
    )


def _joined(walls: Walls) -> Walls:
    """Walls with neighbours of the same direction made one, round each ring."""
    if len(walls.ring) == 0:
        return walls
    begins = np.concatenate([[True], walls.ring[1:] != walls.ring[:-1]])
    starts = np.flatnonzero(begins)
    last = np.append(starts[1:], len(begins)) - 1
    new = begins.copy()
    new[1:] |= walls.angle[1:] != walls.angle[:-1]
    group = np.cumsum(new) - 1
    # The end of a ring may go on at its start.
    closes = (walls.angle[last] == walls.angle[starts]) & (group[last] != group[starts])
    to = np.arange(group[-1] + 1)
    to[group[last[closes]]] = group[starts[closes]]
    group = to[group]
    weight = np.bincount(group, weights=walls.weight, minlength=len(to)).astype(np.float64)
    offset = np.bincount(group, weights=walls.weight * walls.offset, minlength=len(to))
    kept = np.flatnonzero(weight > 0)
    first = np.flatnonzero(new)[kept]
    return Walls(walls.ring[first], walls.angle[first], offset[kept] / weight[kept], weight[kept])


def _neighbours(walls: Walls) -> tuple[Ints, Ints]:
    """Index of the wall before and after each, round its ring."""
    count = len(walls.ring)
    begins = np.flatnonzero(np.concatenate([[True], walls.ring[1:] != walls.ring[:-1]]))
    ends = np.append(begins[1:], count) - 1
    before, after = np.arange(count) - 1, np.arange(count) + 1
    before[begins], after[ends] = ends, begins
    return before, after


def _corners(walls: Walls) -> Floats:
    """`(wall, 2)` where each wall meets the one before it; not finite for parallels."""
    if len(walls.ring) == 0:
        return np.zeros((0, 2))
    before, _ = _neighbours(walls)
    a, b = walls.angle[before], walls.angle
    c, d = walls.offset[before], walls.offset
    across = np.sin(b - a)
    across = np.where(np.abs(across) < 1e-9, np.nan, across)
    x = (c * np.cos(b) - d * np.cos(a)) / across
    y = (c * np.sin(b) - d * np.sin(a)) / across
    return np.column_stack([x, y])


def _shortest(walls: Walls, corners: Floats, limit: Floats) -> Ints:
    """In each ring of more than four walls, the shortest wall if it is below the limit."""
    if len(walls.ring) == 0:
        return np.zeros(0, np.int64)
    _, after = _neighbours(walls)
    along = corners[after] - corners
    length = np.nan_to_num(np.hypot(along[:, 0], along[:, 1]))
    many = np.bincount(walls.ring)[walls.ring] > 4
    short = np.flatnonzero(many & (length < limit[walls.ring]))
    order = short[np.lexsort((length[short], walls.ring[short]))]
    first = np.concatenate([[True], walls.ring[order][1:] != walls.ring[order][:-1]])
    return np.asarray(order[first[: len(order)]], np.int64)


def _without(walls: Walls, gone: Ints) -> Walls:
    """Take walls out, one a ring; the two beside it become one if they are parallel."""
    before, after = _neighbours(walls)
    kept = np.ones(len(walls.ring), np.bool_)
    kept[gone] = False
    parallel = gone[walls.angle[before[gone]] == walls.angle[after[gone]]]
    one, two = before[parallel], after[parallel]
    offset, weight = walls.offset.copy(), walls.weight.copy()
    weight[one] += walls.weight[two]
    offset[one] = (
        walls.offset[one] * walls.weight[one] + walls.offset[two] * walls.weight[two]
    ) / weight[one]
    kept[two] = False
    return Walls(walls.ring, walls.angle, offset, weight).take(kept)


def _with_area(drawing: Geometries, area: Floats) -> Geometries:
    """Scaled about their centroids to the given areas; left as they are if that would be much."""
    now = shapely.area(drawing)
    scale = np.sqrt(np.divide(area, now, out=np.ones_like(area), where=now > 0))
    scale = np.where(np.abs(scale - 1) < 0.25, scale, 1.0)
    centre = np.nan_to_num(_points(shapely.centroid(drawing)))
    points, owner = shapely.get_coordinates(drawing, return_index=True)
    moved = centre[owner] + (points - centre[owner]) * scale[owner, None]
    return np.asarray(shapely.set_coordinates(drawing.copy(), moved), object)


def _turn(polygons: Geometries, angle: Floats, centre: Floats) -> Geometries:
    """Turned counterclockwise about the centres."""
    points, owner = shapely.get_coordinates(polygons, return_index=True)
    x, y = (points - centre[owner]).T
    sine, cosine = np.sin(angle)[owner], np.cos(angle)[owner]
    turned = np.column_stack([cosine * x - sine * y, sine * x + cosine * y]) + centre[owner]
    return np.asarray(shapely.set_coordinates(polygons.copy(), turned), object)


def _points(points: npt.NDArray[Any]) -> Floats:
    """`(n, 2)` coordinates of points."""
    return np.column_stack([shapely.get_x(points), shapely.get_y(points)])
