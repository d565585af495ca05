"""Buildings that stand close together, drawn together once nothing near them is open.

Objects within `REACH` tolerances of one another form a group. A group waits until no open object
can come near it, and is then drawn at once: neighbours that stand nearly the same way take one
direction, and walls of touching ones become one (see `align`, `party`, `faces`). So that memory
stays bounded, a group of which a member has waited for `WAIT` rows is drawn without those still to
come; these yield to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from affine import Affine

from geohr import geodesy
from geohr.encoding import Bools, Floats, Geometries, Ints
from geohr.errors import InputError
from geohr.polygons.align import aligned, turns
from geohr.polygons.components import connected
from geohr.polygons.faces import resolve
from geohr.polygons.party import share_walls
from geohr.polygons.regularize import directions, regularize
from geohr.polygons.settle import OverlapResolver, swallowing
from geohr.polygons.statistics import NOWHERE, Statistics, concatenated

WALL_TOLERANCE = 0.5
"""Metres that a regularized wall may leave the outline, where `simplify` does not say."""
WALL_PIXELS = 2.0
"""The same in pixels, for scenes too coarse for half a metre."""
REACH = 4.0
"""Tolerances within which buildings are neighbours; a redrawn one outgrows its rows by less."""
TOUCH_PIXELS = 2.0
"""Pixels between outlines that touch: where objects are parted, a line of pixels is taken out."""
WAIT = 1024
"""Rows for which an object waits for its neighbours at most."""
ROUNDS = 3
"""Times that drawings which still overlap are made a coverage."""
SHARED_AREA = 0.05
"""Greatest relative change of area of a polygon that shares walls."""


class BuildingGroups:
    """Holds traced objects until their neighbours are known, and draws them.

    Args:
        width: Columns of the scene.
        transform: From (column, row) of pixel corners to the CRS.
        crs: Anything pyproj understands.
        tolerance: In metres; 0 takes what suits the pixels.
    """

    def __init__(self, width: int, transform: Affine, crs: Any, tolerance: float) -> None:
        self._width = width
        self._crs = crs
        self._cell = np.array([[transform.a, transform.b], [transform.d, transform.e]])
        self._tolerance = tolerance
        self._settler = OverlapResolver()
        self._traced = np.zeros(0, object)
        self._statistics = Statistics.none()
        self._pairs = np.zeros((2, 0), np.int64)
        self._gone = np.zeros(0, object)
        self._gone_statistics = Statistics.none()

    def add(
        self, traced: Geometries, statistics: Statistics, *, open_from: int
    ) -> tuple[Geometries, Statistics]:
        """Take whole objects; those of groups that are now complete, drawn.

        Args:
            traced: Polygons or multipolygons as traced.
            statistics: Of the same.
            open_from: The first row of what is still to come.

        Returns:
            Geometries, None where nothing is left, and their statistics, in canonical order.

        Raises:
            InputError: Where a border of two classes would tear.
        """
        self._check_borders(traced, statistics)
        before = len(self._traced)
        self._traced = np.concatenate([self._traced, traced])
        self._statistics = concatenated([self._statistics, statistics])
        self._pairs = np.concatenate([self._pairs, self._near(before)], axis=1)
        group = connected(len(self._traced), *self._pairs)
        bottom = self._statistics.bottom
        waits = bottom + self._rows(self._traced) >= open_from
        late = bottom.max(initial=0) - bottom > WAIT
        held = np.zeros(len(group), np.bool_)
        held[group[waits]] = True
        held[group[late]] = False
        ready = ~held[group]
        self._remember(ready & waits, open_from)
        return self._drawn(ready, group, open_from)

    def rest(self) -> tuple[Geometries, Statistics]:
        """The objects that are left, drawn. None can follow."""
        group = connected(len(self._traced), *self._pairs)
        return self._drawn(np.ones(len(group), np.bool_), group, NOWHERE)

    def _drawn(self, ready: Bools, group: Ints, open_from: int) -> tuple[Geometries, Statistics]:
        """Draw the objects that are ready, and hold the others."""
        traced, statistics = self._traced[ready], self._statistics.take(ready)
        inside = ready[self._pairs[0]]
        pairs = (np.cumsum(ready) - 1)[self._pairs[:, inside]]
        self._pairs = (np.cumsum(~ready) - 1)[self._pairs[:, ~inside]]
        self._traced, self._statistics = self._traced[~ready], self._statistics.take(~ready)
        if len(traced) == 0:
            return traced, statistics
        open_from = min(open_from, int(self._statistics.first.min(initial=NOWHERE)) // self._width)
        parts, owner = shapely.get_parts(traced, return_index=True)
        drawn, plain = self._draw(parts, connected(len(traced), *pairs)[owner])
        rows = self._rows(traced)[owner]
        bottom = statistics.bottom[owner]
        # The later one yields, so that they come in the order in which objects do.
        order = np.lexsort((statistics.first[owner], bottom))
        settled = self._settler.settle(
            drawn[order],
            plain[order],
            (bottom + rows)[order],
            needed_from=open_from - int(rows.max()),
        )
        order, back = np.lexsort((statistics.first, statistics.bottom)), order
        whole = by_owner(settled[np.argsort(back)], owner)
        return whole[order], statistics.take(order)

    def _remember(self, early: Bools, open_from: int) -> None:
        """Keep objects that are drawn before all their neighbours are known, while any may come."""
        gone = np.concatenate([self._gone, self._traced[early]])
        statistics = concatenated([self._gone_statistics, self._statistics.take(early)])
        near = statistics.bottom + 1 >= open_from
        self._gone, self._gone_statistics = gone[near], statistics.take(near)

    def _check_borders(self, traced: Geometries, statistics: Statistics) -> None:
        """Refuse objects that adjoin one of another class that is drawn already."""
        new, gone = shapely.STRtree(self._gone).query(traced, predicate="intersects")
        one, other = self._gone_statistics.label[gone], statistics.label[new]
        torn = np.flatnonzero(one != other)
        if len(torn):
            raise InputError(
                f"objects of class {one[torn[0]]} and {other[torn[0]]} adjoin and are too high to "
                f"be drawn together (over {WAIT} rows), so that regularize would tear their "
                "border; use --simplify, which keeps it"
            )

    def _draw(self, traced: Geometries, group: Ints) -> tuple[Geometries, Geometries]:
        """Polygons redrawn with their group, and only simplified."""
        frame = self._frames(traced, group)
        pixel = self._pixel(frame.scale)
        tolerance = self._tolerances(pixel)
        metres = frame.to_metres(traced)
        near = self._pairs_of(traced, group)
        drawn = draw_together(metres, tolerance, TOUCH_PIXELS * pixel, near=near, group=group)
        plain = np.asarray(shapely.simplify(metres, tolerance / 2), object)
        drawn, plain = frame.from_metres(drawn), frame.from_metres(plain)
        plain = np.where(shapely.is_valid(plain), plain, traced)
        usable = shapely.is_valid(drawn) | shapely.is_missing(drawn)
        return np.where(usable, drawn, plain), plain

    def _frames(self, traced: Geometries, group: Ints) -> geodesy.LocalFrames:
        """The plane of each polygon, one for all of a group."""
        names, of_group = np.unique(group, return_inverse=True)
        bounds = shapely.bounds(traced).reshape(-1, 4)
        low, high = np.full((len(names), 2), np.inf), np.full((len(names), 2), -np.inf)
        np.minimum.at(low, of_group, bounds[:, :2])
        np.maximum.at(high, of_group, bounds[:, 2:])
        boxes = np.asarray(shapely.box(*low.T, *high.T), object)
        return geodesy.local_frames(boxes, self._crs).take(of_group)

    def _near(self, before: int) -> Ints:
        """`(2, pair)` objects that came after others and stand near them, and these."""
        later, earlier = shapely.STRtree(self._traced).query(
            self._traced[before:], predicate="dwithin", distance=self._reach(self._traced[before:])
        )
        later += before
        return np.stack([earlier, later])[:, earlier < later]

    def _pairs_of(self, traced: Geometries, group: Ints) -> Ints:
        """`(2, pair)` polygons of one group that stand near one another."""
        later, earlier = shapely.STRtree(traced).query(
            traced, predicate="dwithin", distance=self._reach(traced)
        )
        return np.stack([earlier, later])[:, (earlier < later) & (group[earlier] == group[later])]

    def _reach(self, traced: Geometries) -> Floats:
        """`(n,)` how far neighbours may stand, in units of the CRS, the longest way."""
        scale = geodesy.local_frames(traced, self._crs).scale
        longest = np.linalg.norm(np.linalg.inv(scale), 2, axis=(1, 2))
        return np.asarray(REACH * self._tolerances(self._pixel(scale)) * longest, np.float64)

    def _pixel(self, scale: Floats) -> Floats:
        """`(n,)` metres a pixel."""
        return np.asarray(np.sqrt(np.abs(np.linalg.det(scale @ self._cell))), np.float64)

    def _tolerances(self, pixel: Floats) -> Floats:
        """`(n,)` in metres."""
        suits = np.maximum(WALL_TOLERANCE, WALL_PIXELS * pixel)
        return np.full(len(pixel), self._tolerance) if self._tolerance else suits

    def _rows(self, traced: Geometries) -> Ints:
        """`(n,)` rows within which a neighbour may stand."""
        a_row = abs(np.linalg.det(self._cell)) / np.hypot(*self._cell[:, 0])
        return np.asarray(np.ceil(self._reach(traced) / a_row), np.int64) + 1


def draw_together(
    traced: Geometries, tolerance: Floats, touch: Floats, *, near: Ints, group: Ints
) -> Geometries:
    """Polygons drawn with straight walls, with common directions and common walls.

    Args:
        traced: Polygons in metres, those of a group in one plane, which do not overlap.
        tolerance: `(n,)` the scale of drawing, in metres.
        touch: `(n,)` metres from others that it touches.
        near: `(2, pair)` neighbours.
        group: `(n,)`.

    Returns:
        One polygon each; None where nothing is left.
    """
    own, strength = directions(traced, tolerance)
    if near.shape[1] == 0:
        return regularize(traced, tolerance, own)
    drawn = regularize(traced, tolerance, aligned(own, strength, turns(traced, tolerance), near))
    plain = np.asarray(shapely.simplify(traced, tolerance / 2), object)
    drawn = np.where(swallowing(drawn, traced, near), plain, drawn)
    touching = near[:, shapely.dwithin(*traced[near], touch[near[0]])]
    shared = share_walls(drawn, tolerance, touching, shapely.area(drawn))
    area, meets = shapely.area(drawn), _meeting(shared, group)
    for _ in range(ROUNDS):
        cluster = connected(len(traced), *np.concatenate([touching, meets], axis=1))
        order = np.argsort(cluster, kind="stable")
        for members in np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1):
            if len(members) > 1:
                scale = float(tolerance[members].max())
                shared[members] = _parted(shared[members], traced[members], area[members], scale)
        meets = _meeting(shared, group)
        # What is only simplified after all may meet others.
        if shapely.touches(*shared[meets]).all():
            break
    return shared


def _meeting(drawn: Geometries, group: Ints) -> Ints:
    """`(2, pair)` drawings of one group that meet."""
    there = np.flatnonzero(~shapely.is_missing(drawn))
    bounds = shapely.bounds(drawn[there]).reshape(-1, 4)
    # Groups have planes of their own, whose middles are all the origin.
    side = np.ptp(bounds[:, [0, 2]]) + 1 if len(there) else 1
    bounds[:, [0, 2]] += (group[there] * side)[:, None]
    boxes = shapely.box(*bounds.T)
    pairs = there[shapely.STRtree(boxes).query(boxes)]
    pairs = pairs[:, pairs[0] < pairs[1]]
    return np.asarray(pairs[:, shapely.intersects(*drawn[pairs])], np.int64)


def _parted(drawn: Geometries, traced: Geometries, area: Floats, tolerance: float) -> Geometries:
    """Touching polygons that share their walls; who would lose or win much is only simplified."""
    resolved = resolve(drawn, traced, tolerance)
    # Nothing may be left of one, which then has no area at all.
    wrong = ~(np.abs(shapely.area(resolved) - area) <= SHARED_AREA * area)
    if not wrong.any():
        return resolved
    plain = np.asarray(shapely.simplify(traced, tolerance / 2), object)
    return resolve(np.where(wrong, plain, drawn), traced, tolerance)


def by_owner(polygons: Geometries, owner: Ints) -> Geometries:
    """One geometry an owner: its polygons together, None without any."""
    there = ~shapely.is_missing(polygons)
    geometry = np.full(owner[-1] + 1, None, object)
    polygons, owner = polygons[there], owner[there]
    geometry[owner] = polygons
    for index in np.flatnonzero(np.bincount(owner) > 1).tolist():
        # Parts that met at a corner may have got a wall in common.
        geometry[index] = shapely.union_all(polygons[owner == index])
    return geometry
