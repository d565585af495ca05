"""Building outlines drawn with straight walls and right angles, each for itself.

For every ring several drawings are made: the rectangle with the ring's own moments, outlines of
walls at right angles and of walls at multiples of 45 degrees to the main direction, each at a few
levels of detail, a circle, and the ring simplified. The one is taken that says most with least: a
price for every vertex, against the logarithm of the mean distance between drawing and ring, once
for every `INDEPENDENT` tolerances of the ring (a minimum description length where the noise is not
known; Rissanen, "Modeling by shortest data description", 1978). So a clear outline keeps its
corners and a frayed one is drawn with few, and no noise has to be stated. A ring that no few walls
describe is no building but several that touch: it is followed closely instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely

from geohr import geodesy
from geohr.encoding import Floats, Geometries, Ints
from geohr.geobox import GeoBox
from geohr.polygons.neighbours import OverlapResolver
from geohr.polygons.table import by_owner
from geohr.polygons.walls import (
    assemble,
    circles,
    main_direction,
    middles,
    rectangles,
    straighten,
    turn,
    with_area,
)

# Levels of detail: how far, in tolerances, walls are simplified before they are straightened.
DETAILS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
# Walls stand at multiples of one of these to the main direction.
ANGLES = (90, 45)
# Tolerances of outline over which errors are one: less of it, and vertices are cheaper.
INDEPENDENT = 14.0
# The mean distance from the ring, in tolerances, below which a drawing counts as no better.
NOISE = 0.04
# The number of vertices from which a ring is taken for several buildings that touch.
CROWD = 40
# The gain in area that such a drawing must make with one more vertex, in squared tolerances.
CROWD_VERTEX_AREA = 0.02
# The price of walls at these angles, in vertices; 45 degrees must fit clearly better than 90.
ANGLE_PRICE = {90: 0.0, 45: 2.0}
# The price of an outline without straightened walls, in vertices.
FREE_PRICE = 4.0
# The price of a circle, in vertices; its own vertices are not counted.
CIRCLE_PRICE = 8.0
# The number of points on an outline at which drawings are compared with it.
SAMPLES = 128
# The number of polygons drawn at a time; each needs memory for twenty drawings.
BATCH = 1024
# The area of the smallest hole that is kept, in squared tolerances.
COURTYARD = 4.0
# The largest relative change of the area of a ring.
AREA_TOLERANCE = 0.01


# The distance in metres that a wall may leave the outline, without `simplify` or a card.
WALL_TOLERANCE = 0.5
# The smallest such distance in pixels, for scenes too coarse for half a metre.
WALL_PIXELS = 2.0
# The largest distance by which a drawing exceeds its outline, in tolerances.
REACH = 4.0


@dataclass(frozen=True)
class Drawings:
    """Drawn parts of objects, before they yield to each other.

    Attributes:
        drawn: `(part,)` polygons as drawn.
        plain: `(part,)` as traced or nearly so.
        owner: `(part,)` the object of each, ascending.
        margin: `(part,)` rows by which a drawing may exceed its outline.
    """

    drawn: Geometries
    plain: Geometries
    owner: Ints
    margin: Ints

    def take(self, parts: Ints, owner: Ints) -> Drawings:
        """Some of the parts, as those of the given owners."""
        return Drawings(self.drawn[parts], self.plain[parts], owner, self.margin[parts])

    def united(self, rest: Geometries) -> Geometries:
        """`(object,)` the objects of what is left of parts, `(part,)`; None for nothing."""
        whole = by_owner(rest, self.owner)
        for index in np.flatnonzero(shapely.get_num_geometries(whole) > 1).tolist():
            # Parts that met at a corner may have got a wall in common.
            whole[index] = shapely.union_all(whole[index])
        return whole


class Regularizer:
    """Draws objects as buildings as they become whole. No drawing lies over an earlier one.

    A tolerance of 0 metres chooses one that suits the pixels.
    """

    def __init__(self, geobox: GeoBox, tolerance: float) -> None:
        self._crs = geobox.crs
        a, b, _, d, e, _ = geobox.transform[:6]
        self._cell = np.array([[a, b], [d, e]])
        self._tolerance = tolerance
        self._overlaps = OverlapResolver()

    def draw(self, traced: Geometries, bottom: Ints, *, open_from: int) -> Geometries:
        """Draw the next objects of a scene.

        Args:
            traced: Polygons or multipolygons in the CRS, in canonical order.
            bottom: `(n,)` the last row of each.
            open_from: The first row of what is still to come.

        Returns:
            `(n,)`, None where nothing is left.
        """
        made = self.drawings(traced)
        rest = self._overlaps.resolve(
            made.drawn,
            made.plain,
            bottom[made.owner] + made.margin,
            needed_from=open_from - int(made.margin.max()),
        )
        return made.united(rest)

    def drawings(self, traced: Geometries) -> Drawings:
        """Draw polygons or multipolygons, each for itself: neighbours may come to overlap."""
        parts, owner = shapely.get_parts(traced, return_index=True)
        frame = geodesy.local_frames(parts, self._crs)
        tolerance = self._tolerances(frame.scale)
        metres = frame.to_metres(parts)
        drawn = frame.from_metres(regularize(metres, tolerance, directions(metres, tolerance)))
        plain = frame.from_metres(np.asarray(shapely.simplify(metres, tolerance / 2), object))
        plain = np.where(shapely.is_valid(plain), plain, parts)
        drawn = np.where(shapely.is_valid(drawn), drawn, plain)
        # What a row is wide on the ground, by the shortest way across it.
        longest = np.linalg.norm(np.linalg.inv(frame.scale), 2, axis=(1, 2))
        row = abs(np.linalg.det(self._cell)) / np.hypot(*self._cell[:, 0])
        margin = np.ceil(REACH * tolerance * longest / row).astype(np.int64) + 1
        return Drawings(drawn, plain, owner, margin)

    def _tolerances(self, scale: Floats) -> Floats:
        """`(n,)` metres, from `(n, 2, 2)` metres per unit of the CRS."""
        if self._tolerance:
            return np.full(len(scale), self._tolerance)
        pixel = np.sqrt(np.abs(np.linalg.det(scale @ self._cell)))
        return np.asarray(np.maximum(WALL_TOLERANCE, WALL_PIXELS * pixel), np.float64)


def directions(polygons: Geometries, tolerance: Floats) -> Floats:
    """`(n,)` main directions of walls in radians from the x axis; see `main_direction`.

    Polygons and `tolerance`, the scale of what is drawn, are in metres.
    """
    outer = shapely.polygons(shapely.get_exterior_ring(polygons))
    return main_direction(np.asarray(shapely.simplify(outer, tolerance), object))


def regularize(polygons: Geometries, tolerance: Floats, direction: Floats) -> Geometries:
    """Draw buildings with straight walls. Areas change by less than `AREA_TOLERANCE`.

    Each polygon is drawn for itself, so that neighbours may come to overlap by about the tolerance
    (see `OverlapResolver`). Holes smaller than `COURTYARD` are filled. Where a hole no longer fits
    into its building, the building is only simplified.

    Args:
        polygons: Polygons in metres.
        tolerance: `(n,)` the scale of what is drawn, in metres.
        direction: `(n,)` main directions of walls, in radians from the x axis.
    """
    parts = [slice(start, start + BATCH) for start in range(0, len(polygons), BATCH)]
    drawn = [_regularized(polygons[at], tolerance[at], direction[at]) for at in parts]
    return np.concatenate([np.zeros(0, object), *drawn])


def _regularized(polygons: Geometries, tolerance: Floats, direction: Floats) -> Geometries:
    """Regularize a batch of polygons."""
    rings, owner = shapely.get_rings(polygons, return_index=True)
    filled = np.asarray(shapely.polygons(rings), object)
    hole = np.concatenate([[False], owner[1:] == owner[:-1]])[: len(owner)]
    drawable = ~hole | (shapely.area(filled) >= COURTYARD * tolerance[owner] ** 2)
    filled, owner, hole = filled[drawable], owner[drawable], hole[drawable]
    drawn = _draw(filled, tolerance[owner], direction[owner])
    result = assemble(shapely.get_exterior_ring(drawn), owner)
    wrong = ~shapely.is_valid(result) | (shapely.get_type_id(result) != 3)
    result[wrong] = shapely.simplify(polygons[wrong], tolerance[wrong])
    return result


def _draw(filled: Geometries, tolerance: Floats, direction: Floats) -> Geometries:
    """The best drawing of each polygon without holes."""
    area = shapely.area(filled)
    outline = Outline.of(filled, tolerance)
    drawings, misses, vertices = [], [], []
    for drawing, price, each in _candidates(filled, tolerance, direction):
        sized = with_area(drawing, area)
        away, count = outline.compare(sized)
        drawings.append(sized)
        misses.append(away)
        vertices.append(price + each * count)
    chosen = outline.choose(np.stack(misses), np.stack(vertices))
    every = np.arange(len(filled))
    usable = np.isfinite(np.stack(misses)[chosen, every])
    return np.where(usable, np.stack(drawings)[chosen, every], filled)


def _candidates(
    filled: Geometries, tolerance: Floats, direction: Floats
) -> list[tuple[Geometries, float, int]]:
    """All drawings of polygons without holes, with the price of each and of a vertex of it."""
    centre = middles(filled)
    level = turn(filled, -direction, centre)
    walls = [(rectangles(level), 0.0)] + [
        (straighten(level, tolerance, detail, angle), ANGLE_PRICE[angle])
        for detail in DETAILS
        for angle in ANGLES
    ]
    free = [
        (np.asarray(shapely.simplify(filled, detail * tolerance), object), FREE_PRICE, 1)
        for detail in DETAILS
    ]
    return [
        *((turn(each, direction, centre), price, 1) for each, price in walls),
        (circles(centre, shapely.area(filled)), CIRCLE_PRICE, 0),
        *free,
    ]


@dataclass(frozen=True)
class Outline:
    """Traced outlines as points at equal distances, to compare drawings with."""

    points: Geometries
    """The points on each outline, `(n, SAMPLES)`."""
    perimeter: Floats
    """The length of each outline, in tolerances."""
    tolerance: Floats

    @classmethod
    def of(cls, filled: Geometries, tolerance: Floats) -> Outline:
        """Sample the outlines of polygons without holes."""
        parts = (np.arange(SAMPLES) + 0.5) / SAMPLES
        rings = shapely.get_exterior_ring(filled)
        points = shapely.line_interpolate_point(rings[:, None], parts, normalized=True)
        return cls(np.asarray(points, object), shapely.length(filled) / tolerance, tolerance)

    def compare(self, drawing: Geometries) -> tuple[Floats, Floats]:
        """Mean distance from each drawing, in tolerances, and its vertices.

        The distance is infinite where there is no valid drawing.
        """
        usable = np.flatnonzero(shapely.is_valid(drawing))
        away, vertices = np.full(len(drawing), np.inf), np.zeros(len(drawing))
        rings = shapely.get_exterior_ring(drawing[usable])
        mean = shapely.distance(self.points[usable], rings[:, None]).mean(axis=1)
        away[usable] = mean / self.tolerance[usable]
        vertices[usable] = shapely.get_num_coordinates(rings) - 1
        return away, vertices

    def choose(self, away: Floats, vertices: Floats) -> Ints:
        """`(n,)` the best way for each outline.

        Args:
            away: `(way, n)` mean distances in tolerances.
            vertices: `(way, n)`, prices included.
        """
        share = self.perimeter / INDEPENDENT
        chosen = (share * np.log(np.maximum(away, NOISE) / NOISE) + vertices).argmin(axis=0)
        crowded = vertices[chosen, np.arange(len(chosen))] >= CROWD
        closely = (away * self.perimeter / CROWD_VERTEX_AREA + vertices).argmin(axis=0)
        return np.asarray(np.where(crowded, closely, chosen), np.int64)
