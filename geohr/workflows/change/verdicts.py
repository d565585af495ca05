"""What became of each group of objects, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely

from geohr.encoding import Bools, Floats, Geometries, Ints
from geohr.geodesy import areas
from geohr.workflows.change.evidence import Evidence, ProbabilityRaster
from geohr.workflows.change.groups import Groups, middles_of, moved
from geohr.workflows.change.options import ChangeOptions
from geohr.workflows.change.shift import ShiftField

NEW, GONE, GROWN, SHRUNK, RESHAPED, SAME, UNSURE = (
    "new", "gone", "grown", "shrunk", "reshaped", "same", "unsure",
)  # fmt: skip
KINDS = (NEW, GONE, GROWN, SHRUNK, RESHAPED, SAME, UNSURE)
# Intersection over union, centres on each other, below which a form is another one.
SAME_FORM = 0.5
# Metres by which the ground that was built over or cleared is shrunk before probabilities are read
# there: outlines of two dates differ by about as much where nothing changed.
RIM = 0.5
# Share of an object that the other date must show, without which it is not compared.
SEEN = 0.5


@dataclass
class Changes:
    """Groups with their verdicts, as columns.

    Attributes:
        shapes: `(n,)` footprints: the later one, or the earlier where there is none later.
        change: `(n,)` one of `KINDS`.
        likely: `(n,)` the same, where `change` is unsure what is likeliest.
        confidence: `(n,)` in [0, 1].
        names: `(n,)` class names.
        area_before: `(n,)` square metres on the ground.
        area_after: `(n,)` the same of the later date.
        moved: `(n,)` metres that it moved beyond the shift of its surroundings; nan for one date.
        before: `(n,)` ids in the earlier file, separated by commas.
        after: `(n,)` ids in the later file.
        unseen: `(n,)` True where the other date shows too little to compare.
    """

    shapes: Geometries
    change: Geometries
    likely: Geometries
    confidence: Floats
    names: Geometries
    area_before: Floats
    area_after: Floats
    moved: Floats
    before: Geometries
    after: Geometries
    unseen: Bools = field(default_factory=lambda: np.zeros(0, bool))

    def __len__(self) -> int:
        """The number of groups."""
        return len(self.shapes)


@dataclass(frozen=True)
class Judge:
    """Compares groups of objects.

    Attributes:
        options: The thresholds of change.
        plane: The metric CRS that shapes are in.
        field: The shift of the earlier date.
        before: The probabilities of the earlier date, or None to use only its objects.
        after: Those of the later date.
    """

    options: ChangeOptions
    plane: Any
    field: ShiftField
    before: ProbabilityRaster | None
    after: ProbabilityRaster | None

    def judge(self, groups: Groups) -> Changes:
        """The verdict on each group."""
        first = unions(groups.before.shapes, groups.of_before, groups.count)
        second = unions(groups.after.shapes, groups.of_after, groups.count)
        has = ~shapely.is_empty(first), ~shapely.is_empty(second)
        both = has[0] & has[1]
        move, aligned = align(first, second, both)
        area = areas_of(first, self.plane), areas_of(second, self.plane)
        kind = self._kinds(aligned, second, area, has)
        gained, lost = regions(aligned, second, kind)
        early = self._evidence(self.before, gained, lost, back=True)
        late = self._evidence(self.after, gained, lost, back=False)
        kind = self._in_sight(kind, area, early[0].seen, late[1].seen)
        own = (
            means(groups.before.confidence, groups.of_before, groups.count),
            means(groups.after.confidence, groups.of_after, groups.count),
        )
        confidence = certainty(kind, own, early, late)
        unsure = (confidence < self.options.certainty) & (kind != SAME)
        unseen = ((kind == NEW) & (early[0].seen < SEEN)) | ((kind == GONE) & (late[1].seen < SEEN))
        return Changes(
            shapes=np.where(has[1], second, first),
            change=np.where(unsure, UNSURE, kind).astype(object),
            likely=kind,
            confidence=confidence,
            names=first_names(groups),
            area_before=area[0],
            area_after=area[1],
            moved=move,
            before=listed(groups.before.ids, groups.of_before, groups.count),
            after=listed(groups.after.ids, groups.of_after, groups.count),
            unseen=unseen,
        )

    def _kinds(
        self, aligned: Geometries, second: Geometries, area: tuple[Floats, Floats], has: Any
    ) -> Geometries:
        """The kind of change of each group, by its outlines alone."""
        both = has[0] & has[1]
        shared = shapely.area(shapely.intersection(aligned, second))
        union = shapely.area(aligned) + shapely.area(second) - shared
        fit = np.divide(shared, union, out=np.zeros(len(union)), where=union > 0)
        change = area[1] - area[0]
        large = self._large(change, area[0])
        kind = np.full(len(second), SAME, object)
        kind[both & (fit < SAME_FORM)] = RESHAPED
        kind[both & large & (change > 0)] = GROWN
        kind[both & large & (change < 0)] = SHRUNK
        kind[~has[0]] = NEW
        kind[~has[1]] = GONE
        return kind

    def _large(self, change: Floats, before: Floats) -> Bools:
        """`(n,)` whether a change of area is reported."""
        least = np.maximum(self.options.min_change, self.options.grown * before)
        return np.asarray(np.abs(change) >= least, bool)

    def _in_sight(
        self, kind: Geometries, area: tuple[Floats, Floats], gained: Floats, lost: Floats
    ) -> Geometries:
        """The kinds, without changes on ground that only one of the dates shows.

        Args:
            kind: `(n,)` kinds by outlines alone.
            area: `(n,)` areas on both dates.
            gained: `(n,)` share of the ground gained that the earlier date shows.
            lost: `(n,)` share of the ground lost that the later date shows.
        """
        change = area[1] - area[0]
        hidden = (kind == GROWN) & ~self._large(change * gained, area[0])
        hidden |= (kind == SHRUNK) & ~self._large(change * lost, area[0])
        hidden |= (kind == RESHAPED) & (np.minimum(gained, lost) < SEEN)
        return np.where(hidden, SAME, kind)

    def _evidence(
        self, raster: ProbabilityRaster | None, gained: Geometries, lost: Geometries, *, back: bool
    ) -> tuple[Evidence, Evidence]:
        """The probabilities of a date on the ground that was gained and lost.

        Without probabilities, a date's objects are certain: nothing lies where they do not.
        """
        if raster is None:
            seen = np.ones(len(gained))
            built, cleared = (0.0, 1.0) if back else (1.0, 0.0)
            return Evidence(seen * built, seen), Evidence(seen * cleared, seen)
        found = []
        for shapes in (gained, lost):
            solid = ~shapely.is_empty(shapes)
            looked = shapes[solid]
            if back and len(looked):
                looked = moved(looked, -self.field.at(middles_of(looked)))
            inside = raster.inside(looked)
            probability, seen = np.zeros(len(shapes)), np.ones(len(shapes))
            probability[solid], seen[solid] = inside.probability, inside.seen
            found.append(Evidence(probability, seen))
        return found[0], found[1]


def unions(shapes: Geometries, owner: Ints, count: int) -> Geometries:
    """`(count,)` the union of each group's shapes; an empty polygon for a group without any."""
    made = np.full(count, shapely.Polygon(), object)
    members = np.bincount(owner, minlength=count)
    single = members[owner] == 1
    made[owner[single]] = shapes[single]
    for group in np.flatnonzero(members > 1):
        made[group] = shapely.union_all(shapes[owner == group])
    return made


def align(first: Geometries, second: Geometries, both: Bools) -> tuple[Floats, Geometries]:
    """The shift of each group in metres, and its earlier shapes moved onto the later ones.

    Where the area changed much, the middles moved for that reason: nothing is aligned.
    """
    away = np.full(len(first), np.nan)
    placed = first.copy()
    index = np.flatnonzero(both)
    if len(index) == 0:
        return away, placed
    ratio = shapely.area(second[index]) / shapely.area(first[index])
    alike = (ratio > 0.8) & (ratio < 1.25)
    index = index[alike]
    if len(index):
        move = middles_of(second[index]) - middles_of(first[index])
        placed[index] = moved(first[index], move)
        away[index] = np.hypot(*move.T)
    return away, placed


def regions(
    first: Geometries, second: Geometries, kind: Geometries
) -> tuple[Geometries, Geometries]:
    """Ground that was built over and ground that was cleared, of each group; perhaps empty."""
    nothing = shapely.Polygon()
    gained, lost = np.full(len(kind), nothing, object), np.full(len(kind), nothing, object)
    gained[kind == NEW] = second[kind == NEW]
    lost[kind == GONE] = first[kind == GONE]
    for target, one, other, kinds in (
        (gained, second, first, (GROWN, RESHAPED)),
        (lost, first, second, (SHRUNK, RESHAPED)),
    ):
        chosen = np.isin(kind, kinds)
        part = shapely.difference(one[chosen], other[chosen])
        inner = shapely.buffer(part, -RIM)
        target[chosen] = np.where(shapely.is_empty(inner), part, inner)
    return gained, lost


def certainty(
    kind: Geometries,
    own: tuple[Floats, Floats],
    early: tuple[Evidence, Evidence],
    late: tuple[Evidence, Evidence],
) -> Floats:
    """The confidence of each verdict.

    What is new must be there in the later date and not in the earlier; both are taken as
    independent. For objects of one date the confidence of their own counts.

    Args:
        kind: `(n,)` verdicts.
        own: Mean confidence of the earlier and of the later objects.
        early: The evidence of the earlier date on ground gained and lost.
        late: The evidence of the later date.
    """
    gain = np.where(kind == NEW, own[1], late[0].probability) * (1 - early[0].probability)
    loss = np.where(kind == GONE, own[0], early[1].probability) * (1 - late[1].probability)
    made = (own[0] + own[1]) / 2
    for kinds, value in (
        ((NEW, GROWN), gain), ((GONE, SHRUNK), loss), ((RESHAPED,), (gain + loss) / 2)
    ):  # fmt: skip
        made = np.where(np.isin(kind, kinds), value, made)
    return np.asarray(made, np.float64)


def areas_of(shapes: Geometries, plane: Any) -> Floats:
    """`(n,)` true ground areas in square metres; 0 of empty shapes."""
    made = np.zeros(len(shapes))
    solid = ~shapely.is_empty(shapes)
    if solid.any():
        made[solid] = areas(shapes[solid], plane)
    return made


def means(values: Floats, owner: Ints, count: int) -> Floats:
    """`(count,)` the mean of each group's values; 0 without any."""
    total = np.bincount(owner, weights=values, minlength=count)
    return np.asarray(total / np.maximum(np.bincount(owner, minlength=count), 1), np.float64)


def listed(ids: Geometries, owner: Ints, count: int) -> Geometries:
    """`(count,)` the ids of each group's members, separated by commas."""
    made: list[list[str]] = [[] for _ in range(count)]
    for number, group in zip(ids.tolist(), owner.tolist(), strict=True):
        made[group].append(number)
    return np.array([",".join(each) for each in made], object)


def first_names(groups: Groups) -> Geometries:
    """`(count,)` the class of each group: that of its first later object, else of an earlier."""
    made = np.full(groups.count, "", object)
    for table, owner in ((groups.before, groups.of_before), (groups.after, groups.of_after)):
        made[owner[::-1]] = table.names[::-1]
    return made
