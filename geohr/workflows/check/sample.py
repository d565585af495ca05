"""A random sample of a map with known inclusion probabilities, drawn for a person to judge."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from affine import Affine
from rasterio.features import rasterize
from rasterio.windows import Window as RasterWindow

from geohr._runtime.files import check_writable, written_whole
from geohr.encoding import NODATA, PROBABILITY_MAX, Bytes, Floats, Ints
from geohr.errors import InputError, UsageError
from geohr.geodesy import areas, local_scale, parse_crs
from geohr.outputs.layers import append_layer
from geohr.outputs.qgis_style import EPOCH
from geohr.scene.files import open_raster
from geohr.scene.footprints import FootprintLayer, Footprints
from geohr.workflows.check.design import (
    OBJECT_SECONDS,
    OBJECTS_SHARE,
    PLACE_SECONDS,
    allocate,
    judgements_for,
)
from geohr.workflows.check.options import SampleOptions

# Strata by confidence: more would hold too few judgements each.
CONFIDENCE_BANDS = 3
SIZE_BANDS = 2
INSIDE, DOUBTFUL, NEAR, FAINT, EMPTY = "inside", "doubtful", "near", "faint", "empty"
# Strata of places: inside an object that was found; where the model was in doubt; beside an object;
# where it saw a trace; and the rest.
PLACES = (INSIDE, DOUBTFUL, NEAR, FAINT, EMPTY)
# Probability from which the model was in doubt.
DOUBT = 0.15
# Probability from which it saw a trace.
TRACE = 0.02
# Metres from an object that are beside it: yards, sheds and the other half of a house.
BESIDE = 4.0
BAND_PIXELS = 2**23


@dataclass(frozen=True)
class SampleCounts:
    """The numbers of objects and places that were drawn.

    Attributes:
        objects: By stratum, judgements and objects.
        places: By stratum, judgements and square metres.
    """

    objects: dict[str, tuple[int, int]]
    places: dict[str, tuple[int, float]]

    def describe(self) -> str:
        """A description in one line."""
        objects = sum(number for number, _ in self.objects.values())
        places = sum(number for number, _ in self.places.values())
        minutes = (objects * OBJECT_SECONDS + places * PLACE_SECONDS) / 60
        return f"{objects} objects and {places} places to judge, about {minutes:.0f} minutes"


@dataclass
class Drawn:
    """Places drawn in one stratum so far: those with the smallest random keys."""

    keys: Floats
    x: Floats
    y: Floats
    area: float = 0.0
    probability: float = 0.0
    pixels: int = 0


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
    here that the map does not have?), with the columns `stratum`, `members` (objects or square
    metres of the stratum), `turn` (judge them in this order; whoever stops early has a smaller
    sample, not a wrong one) and `answer` (1 yes, 0 no, null not judged), and room for a
    layer `traced` of outlines of objects that were missed.

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
    check_writable(out, overwrite=overwrite)
    random = np.random.default_rng(options.seed)
    layer = FootprintLayer(str(result))
    if layer.bounds is None:
        raise InputError(f"{result}: holds no object, so that there is nothing to check")
    objects = layer.read(layer.bounds, layer.crs)
    size = areas(objects.shapes, layer.crs)
    strata = object_strata(objects.confidence, size)
    numbers = budget(options, objects, strata)
    chosen, members = draw_objects(strata, objects.confidence, numbers[0], random)
    drawn, crs = draw_places(probabilities, layer, numbers[1], random)
    taken = pick_places(drawn, objects, numbers[1])
    write_sample(
        out,
        layer.crs,
        (objects.take(chosen), strata[chosen], members),
        (drawn, taken, crs),
        {"result": result.name, "probabilities": probabilities.name, "seed": options.seed},
    )
    names, counts = np.unique(strata, return_counts=True)
    return SampleCounts(
        {
            str(name): (int((strata[chosen] == name).sum()), int(count))
            for name, count in zip(names, counts, strict=True)
        },
        {name: (len(taken[name]), drawn[name].area) for name in PLACES},
    )


def object_strata(confidence: Floats, size: Floats) -> Any:
    """`(n,)` names of strata by confidence and size, each of about as many objects."""
    names = np.full(len(confidence), "", object)
    for number, index in enumerate(np.array_split(np.argsort(confidence), CONFIDENCE_BANDS)):
        by_size = index[np.argsort(size[index], kind="stable")]
        for place, part in enumerate(np.array_split(by_size, SIZE_BANDS)):
            names[part] = f"confidence {number + 1} size {place + 1}"
    return names


def budget(options: SampleOptions, objects: Footprints, strata: Any) -> tuple[int, int]:
    """The number of objects and of places to judge."""
    if options.half_width is None:
        seconds = options.minutes * 60
        return (
            int(seconds * OBJECTS_SHARE / OBJECT_SECONDS),
            int(seconds * (1 - OBJECTS_SHARE) / PLACE_SECONDS),
        )
    names, of = np.unique(strata.astype(str), return_inverse=True)
    sizes = np.bincount(of, minlength=len(names)).astype(np.float64)
    expected = np.bincount(of, weights=objects.confidence) / sizes
    needed = judgements_for(options.half_width, sizes, expected)
    return needed, round(needed * OBJECT_SECONDS / PLACE_SECONDS)


def draw_objects(
    strata: Any, confidence: Floats, judgements: int, random: np.random.Generator
) -> tuple[Ints, Ints]:
    """Indices of the objects drawn, and how many objects the stratum of each has."""
    names, of = np.unique(strata.astype(str), return_inverse=True)
    sizes = np.bincount(of, minlength=len(names))
    expected = np.bincount(of, weights=confidence) / np.maximum(sizes, 1)
    drawn = np.minimum(allocate(sizes.astype(np.float64), expected, judgements), sizes)
    chosen = [
        random.choice(np.flatnonzero(of == number), count, replace=False)
        for number, count in enumerate(drawn)
    ]
    index = np.concatenate(chosen).astype(np.int64)
    return index, sizes[of[index]].astype(np.int64)


def draw_places(
    probabilities: Path, layer: FootprintLayer, most: int, random: np.random.Generator
) -> tuple[dict[str, Drawn], pyproj.CRS]:
    """Random places of every stratum, and what it measures; the raster is read once, downwards."""
    nothing = np.zeros(0)
    drawn = {name: Drawn(nothing, nothing, nothing) for name in PLACES}
    with open_raster(str(probabilities)) as raster:
        if raster.dtypes[0] != "uint8" or raster.crs is None:
            raise InputError(
                f"{probabilities}: probabilities must be uint8 (probability x 254) with a CRS; "
                f"got {raster.dtypes[0]} and {raster.crs or 'no CRS'}"
            )
        crs = parse_crs(raster.crs.to_wkt())
        for window, best, known in bands(raster):
            transform = raster.transform @ Affine.translation(0, window.row_off)
            pixel = pixel_area(crs, transform, best.shape)
            strata = place_strata(best, known, layer, crs, transform)
            for number, name in enumerate(PLACES):
                keep_smallest(drawn[name], strata == number, best, transform, pixel, most, random)
    return drawn, crs


def bands(raster: Any) -> Iterator[tuple[RasterWindow, Bytes, Any]]:
    """Rows of the largest probability over all classes, and of validity."""
    block = raster.block_shapes[0][0]
    rows = max(BAND_PIXELS // raster.width // block, 1) * block
    for start in range(0, raster.height, rows):
        window = RasterWindow(0, start, raster.width, min(rows, raster.height - start))
        values = raster.read(window=window)
        known = (values != NODATA).any(axis=0)
        yield window, np.where(values == NODATA, 0, values).max(axis=0), known


def pixel_area(crs: pyproj.CRS, transform: Affine, shape: tuple[int, ...]) -> float:
    """Square metres of a pixel in the middle of a band."""
    x, y = transform @ (shape[1] / 2, shape[0] / 2)
    scale = local_scale(crs, np.array([x]), np.array([y]))[0]
    return float(abs(np.linalg.det(scale)) * abs(transform.determinant))


def place_strata(
    best: Bytes, known: Any, layer: FootprintLayer, crs: pyproj.CRS, transform: Affine
) -> Any:
    """`(row, col)` numbers of `PLACES`; -1 without data."""
    strata = np.full(best.shape, PLACES.index(EMPTY), np.int8)
    strata[best >= TRACE * PROBABILITY_MAX] = PLACES.index(FAINT)
    corners = [transform @ (col, row) for col in (0, best.shape[1]) for row in (0, best.shape[0])]
    x, y = np.array(corners).T
    scale = local_scale(crs, np.array([x.mean()]), np.array([y.mean()]))[0]
    reach = BESIDE / float(np.sqrt(abs(np.linalg.det(scale))))
    box = (x.min() - reach, y.min() - reach, x.max() + reach, y.max() + reach)
    shapes = layer.read((float(box[0]), float(box[1]), float(box[2]), float(box[3])), crs).shapes
    if len(shapes):
        near = drawn_mask(shapely.buffer(shapes, reach), best.shape, transform)
        strata[near] = PLACES.index(NEAR)
    strata[best >= DOUBT * PROBABILITY_MAX] = PLACES.index(DOUBTFUL)
    if len(shapes):
        strata[drawn_mask(shapes, best.shape, transform)] = PLACES.index(INSIDE)
    strata[~known] = -1
    return strata


def drawn_mask(shapes: Any, shape: tuple[int, ...], transform: Affine) -> Any:
    """`(row, col)` True where a shape covers the pixel's centre."""
    drawn = rasterize(
        [(each, 1) for each in shapes], out_shape=shape, transform=transform, dtype=np.uint8
    )
    return drawn.astype(bool)


def keep_smallest(
    drawn: Drawn,
    mask: Any,
    best: Bytes,
    transform: Affine,
    pixel: float,
    most: int,
    random: np.random.Generator,
) -> None:
    """Give every pixel of a stratum a random key, and keep the places with the smallest."""
    rows, cols = np.nonzero(mask)
    drawn.area += len(rows) * pixel
    drawn.pixels += len(rows)
    drawn.probability += float(best[rows, cols].sum(dtype=np.float64)) / PROBABILITY_MAX
    keys = random.random(len(rows))
    first = np.argpartition(keys, most)[:most] if len(keys) > most else np.arange(len(keys))
    # Places lie anywhere in their pixel.
    inner = random.random((2, len(first)))
    x, y = transform @ (cols[first] + inner[0], rows[first] + inner[1])
    keys = np.concatenate([drawn.keys, keys[first]])
    order = np.argsort(keys, kind="stable")[:most]
    drawn.keys = keys[order]
    drawn.x = np.concatenate([drawn.x, x])[order]
    drawn.y = np.concatenate([drawn.y, y])[order]


def pick_places(drawn: dict[str, Drawn], objects: Footprints, judgements: int) -> dict[str, Ints]:
    """Choose the places to judge, by stratum."""
    wrong = 1 - float(objects.confidence.mean())
    expected = np.array(
        [
            wrong if name == INSIDE else drawn[name].probability / max(drawn[name].pixels, 1)
            for name in PLACES
        ]
    )
    numbers = allocate(np.array([drawn[name].area for name in PLACES]), expected, judgements)
    return {
        name: np.arange(min(number, len(drawn[name].keys)))
        for name, number in zip(PLACES, numbers, strict=True)
    }


def write_sample(
    out: Path,
    crs: pyproj.CRS,
    objects: tuple[Footprints, Any, Ints],
    places: tuple[dict[str, Drawn], dict[str, Ints], pyproj.CRS],
    facts: dict[str, Any],
) -> None:
    """Write the layers of a sample.

    Args:
        out: The GeoPackage.
        crs: CRS of the objects, in which all is written.
        objects: The objects drawn, the stratum of each, and how many objects that has.
        places: The places drawn by stratum, those to judge, and their CRS.
        facts: The facts about the map that the sample is of.
    """
    table, strata, members = objects
    drawn, taken, own = places
    rows = [(name, index) for name in PLACES for index in taken[name].tolist()]
    x = np.array([drawn[name].x[index] for name, index in rows])
    y = np.array([drawn[name].y[index] for name, index in rows])
    if own != crs:
        x, y = pyproj.Transformer.from_crs(own, crs, always_xy=True).transform(x, y)
    with written_whole(out) as part:
        names = np.array([name for name, _ in rows], object)
        append_layer(
            part, "objects", crs, table.shapes,
            {
                "object_id": table.ids, "class": table.names, "confidence": table.confidence,
                "stratum": strata, "members": members.astype(np.float64),
                "turn": turns(strata), "answer": np.full(len(table), np.nan),
            },
        )  # fmt: skip
        append_layer(
            part, "places", crs, shapely.points(np.asarray(x), np.asarray(y)),
            {
                "stratum": names, "members": np.array([drawn[name].area for name, _ in rows]),
                "turn": turns(names), "answer": np.full(len(rows), np.nan),
                "object_m2": np.full(len(rows), np.nan),
            },
        )  # fmt: skip
        with closing(sqlite3.connect(part)) as database, database:
            database.execute("UPDATE gpkg_contents SET last_change = ?", (EPOCH,))
            database.execute(
                "UPDATE gpkg_contents SET description = ? WHERE table_name = 'objects'",
                (json.dumps(facts, sort_keys=True),),
            )


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
