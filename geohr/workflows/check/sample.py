"""A random sample of a map with known inclusion probabilities, drawn for a person to judge."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely

from geohr._runtime.files import check_writable, written_whole
from geohr._runtime.messages import amount
from geohr.encoding import Floats, Geometries, Ints
from geohr.errors import InputError, UsageError
from geohr.geodesy import areas
from geohr.outputs.layers import append_layer
from geohr.outputs.qgis_style import EPOCH
from geohr.scene.footprints import FootprintLayer, Footprints
from geohr.workflows.check.design import (
    OBJECT_SECONDS,
    OBJECTS_A_STRATUM,
    OBJECTS_SHARE,
    WINDOW_SECONDS,
    WINDOWS_A_STRATUM,
    allocate,
    by_expected,
    judgements_for,
    spread_of_counts,
    spread_of_shares,
    strata_for,
    windows_for,
)
from geohr.workflows.check.options import SampleOptions
from geohr.workflows.check.windows import MapWindows, read_windows


@dataclass(frozen=True)
class SampleCounts:
    """The numbers of objects and windows that were drawn.

    Attributes:
        objects: By stratum, judgements and objects.
        places: By stratum, judgements and windows.
        ground: Square metres of valid ground.
    """

    objects: dict[str, tuple[int, int]]
    places: dict[str, tuple[int, int]]
    ground: float

    @property
    def judged_objects(self) -> int:
        """Objects to judge."""
        return sum(number for number, _ in self.objects.values())

    @property
    def judged_places(self) -> int:
        """Places to judge."""
        return sum(number for number, _ in self.places.values())

    @property
    def minutes(self) -> float:
        """How long that may take."""
        return (self.judged_objects * OBJECT_SECONDS + self.judged_places * WINDOW_SECONDS) / 60

    def describe(self) -> str:
        """A description in one line."""
        return (
            f"{amount(self.judged_objects, 'object')} and {amount(self.judged_places, 'place')} to "
            f"judge, about {amount(round(self.minutes), 'minute')}"
        )


@dataclass(frozen=True)
class Drawn:
    """Members of a population that were drawn.

    Attributes:
        index: `(m,)` of the members drawn, in random order within their strata.
        strata: `(m,)` names of their strata.
        members: `(m,)` how many their strata have.
        counts: By stratum, how many were drawn and how many there are.
    """

    index: Ints
    strata: Any
    members: Ints
    counts: dict[str, tuple[int, int]]


def draw_sample(
    result: Path,
    probabilities: Path,
    out: Path,
    *,
    options: SampleOptions | None = None,
    overwrite: bool = False,
) -> SampleCounts:
    """Draw objects and places of a map, and write them as tasks for a person.

    `out` has a layer `objects` (is this object right?) and a layer `places` (is there an object
    with its middle in this square that the map does not have?), with the columns `stratum`,
    `members` (objects or squares of the stratum), `turn` (judge them in this order; whoever stops
    early has a smaller sample, not a wrong one) and `answer` (1 yes, 0 no, null not judged). Missed
    objects are drawn into a layer `traced`, or their number goes into the column `missed`.

    Args:
        result: Vector file of objects, as geohr writes it.
        probabilities: Raster written with it: uint8, probability x 254, 255 = no data.
        out: A .gpkg; it appears when it is whole.
        options: The size of the sample, and the seed.
        overwrite: Replace `out` if it exists.

    Raises:
        UsageError: When `out` exists or is no .gpkg.
        InputError: When an input cannot be read.
        OutputError: When `out` cannot be written.
    """
    options = options or SampleOptions()
    if out.suffix.lower() != ".gpkg":
        raise UsageError(f"{out}: a sample goes to a GeoPackage; name a file that ends in .gpkg")
    check_writable(out, overwrite=overwrite, inputs=[result, probabilities])
    random = np.random.default_rng(options.seed)
    layer = FootprintLayer(str(result))
    if layer.bounds is None:
        raise InputError(f"{result}: holds no object, so that there is nothing to check")
    objects = layer.read(layer.bounds, layer.crs)
    windows = read_windows(probabilities, layer)
    wanted = budget(options, objects, windows)
    drawn = draw_objects(objects, areas(objects.shapes, layer.crs), wanted[0], random)
    places, expected = draw_windows(windows, wanted[1], random)
    facts = {"result": result.name, "probabilities": probabilities.name, "seed": options.seed}
    with written_whole(out) as part:
        write_objects(part, layer.crs, objects.take(drawn.index), drawn)
        write_places(part, layer.crs, windows, places, expected)
        with closing(sqlite3.connect(part)) as database, database:
            database.execute("UPDATE gpkg_contents SET last_change = ?", (EPOCH,))
            database.execute(
                "UPDATE gpkg_contents SET description = ? WHERE table_name = 'objects'",
                (json.dumps(facts, sort_keys=True),),
            )
    return SampleCounts(drawn.counts, places.counts, windows.ground)


def budget(options: SampleOptions, objects: Footprints, windows: MapWindows) -> tuple[int, int]:
    """The number of objects and of windows to judge."""
    if options.half_width is None:
        seconds = options.minutes * 60
        return (
            int(seconds * OBJECTS_SHARE / OBJECT_SECONDS),
            int(seconds * (1 - OBJECTS_SHARE) / WINDOW_SECONDS),
        )
    confidence = objects.confidence
    whole = np.array([len(objects)])
    needed = judgements_for(
        options.half_width, whole, spread_of_shares(np.array([confidence.mean()]))
    )
    strata = by_expected(windows.expected, strata_for(len(windows), WINDOWS_A_STRATUM))
    sizes, expected = sizes_and_means(strata, windows.expected)
    return needed, windows_for(options.half_width, float(confidence.sum()), sizes, expected)


def object_strata(confidence: Floats, size: Floats, count: int) -> Any:
    """`(n,)` names of strata by confidence, and by size from four on, of about as many objects."""
    names = np.full(len(confidence), "", object)
    sizes = 2 if count >= 4 else 1
    bands = np.array_split(np.argsort(confidence, kind="stable"), count // sizes)
    for number, index in enumerate(bands, start=1):
        by_size = index[np.argsort(size[index], kind="stable")]
        for place, part in enumerate(np.array_split(by_size, sizes), start=1):
            names[part] = f"confidence {number} size {place}"
    return names


def sizes_and_means(strata: Ints, values: Floats) -> tuple[Ints, Floats]:
    """`(stratum,)` members, and the mean of a value over them."""
    sizes = np.bincount(strata)
    return sizes, np.bincount(strata, values) / np.maximum(sizes, 1)


def draw_objects(
    objects: Footprints, size: Floats, judgements: int, random: np.random.Generator
) -> Drawn:
    """Draw objects for precision."""
    count = strata_for(min(judgements, len(objects)), OBJECTS_A_STRATUM)
    names, strata = np.unique(
        object_strata(objects.confidence, size, count).astype(str), return_inverse=True
    )
    sizes, expected = sizes_and_means(strata, objects.confidence)
    numbers = allocate(sizes, spread_of_shares(expected), judgements)
    return draw_members(strata, names, sizes, numbers, random)


def draw_windows(
    windows: MapWindows, judgements: int, random: np.random.Generator
) -> tuple[Drawn, Floats]:
    """Draw windows for recall; with the missed objects expected of one of each one's stratum."""
    count = strata_for(min(judgements, len(windows)), WINDOWS_A_STRATUM)
    # A stratum may be empty where all windows are alike.
    kept, strata = np.unique(by_expected(windows.expected, count), return_inverse=True)
    sizes, expected = sizes_and_means(strata, windows.expected)
    numbers = allocate(sizes, spread_of_counts(expected), judgements)
    names = np.array([f"expected {number + 1}" for number in kept])
    drawn = draw_members(strata, names, sizes, numbers, random)
    return drawn, expected[strata[drawn.index]]


def draw_members(
    strata: Ints, names: Any, sizes: Ints, numbers: Ints, random: np.random.Generator
) -> Drawn:
    """Draw so many members of each stratum, all with the same probability."""
    chosen = [
        random.choice(np.flatnonzero(strata == place), number, replace=False)
        for place, number in enumerate(numbers)
    ]
    index = np.concatenate(chosen).astype(np.int64)
    counts = {
        str(name): (int(number), int(size))
        for name, number, size in zip(names, numbers, sizes, strict=True)
    }
    return Drawn(index, names[strata[index]].astype(object), sizes[strata[index]], counts)


def write_objects(path: Path, crs: pyproj.CRS, table: Footprints, drawn: Drawn) -> None:
    """Write the layer of objects to judge."""
    append_layer(
        path, "objects", crs, table.shapes,
        {
            "object_id": table.ids, "class": table.names, "confidence": table.confidence,
            "stratum": drawn.strata, "members": drawn.members.astype(np.float64),
            "turn": turns(drawn.strata), "answer": np.full(len(table), np.nan),
        },
    )  # fmt: skip


def write_places(
    path: Path, crs: pyproj.CRS, windows: MapWindows, drawn: Drawn, expected: Floats
) -> None:
    """Write the layer of windows to look through, in the CRS of the objects."""
    nothing = np.full(len(drawn.index), np.nan)
    append_layer(
        path, "places", crs, placed(windows.shapes[drawn.index], windows.crs, crs),
        {
            "stratum": drawn.strata, "members": drawn.members.astype(np.float64),
            "expected": expected, "turn": turns(drawn.strata), "answer": nothing,
            "missed": nothing,
        },
    )  # fmt: skip


def placed(shapes: Geometries, own: pyproj.CRS, crs: pyproj.CRS) -> Geometries:
    """Polygons in another CRS."""
    if own == crs:
        return shapes
    way = pyproj.Transformer.from_crs(own, crs, always_xy=True)
    moved: Geometries = shapely.transform(
        shapes, lambda at: np.stack(way.transform(at[:, 0], at[:, 1]), axis=1)
    )
    return moved


def turns(strata: Any) -> Ints:
    """`(n,)` the order to judge in: every beginning of it has its share of every stratum.

    Members of a stratum come in the random order in which they were drawn.
    """
    place = np.zeros(len(strata))
    for name in np.unique(strata.astype(str)):
        index = np.flatnonzero(strata == name)
        place[index] = (np.arange(len(index)) + 0.5) / len(index)
    made = np.empty(len(strata), np.int64)
    made[np.argsort(place, kind="stable")] = np.arange(1, len(strata) + 1)
    return made
