"""A service or file of tiles as a scene: which part of it, and at which zoom level."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import shapely
from rasterio.crs import CRS

from geohr._runtime.messages import warn
from geohr.encoding import Pixels
from geohr.errors import InputError, UsageError
from geohr.geobox import Window
from geohr.geodesy import ground_sampling_distance
from geohr.options import ViewOptions
from geohr.scene.area import Area, area_of
from geohr.scene.scene import Scene
from geohr.scene.tiles.address import host_of, shown
from geohr.scene.tiles.client import client_of
from geohr.scene.tiles.levels import TileLevel, best_level, square_levels
from geohr.scene.tiles.origin import HttpOrigin, TileOrigin, TileStore, digest
from geohr.scene.tiles.pmtiles import PmtilesOrigin, is_pmtiles
from geohr.scene.tiles.service import MERCATOR, is_service, service_of
from geohr.scene.tiles.source import TileSource, decode_any

# Tiles around those that the area touches, so that windows at its edge see what lies beyond.
MARGIN = 1
# Levels that are tried below the one that suits the model, where that one has no tile.
COARSER = 4
# Places down and across at which a level is looked at.
LOOKS = 5
# What the bands of tiles are, by their number.
COLOURS = {1: ("gray",), 3: ("red", "green", "blue")}
# The tiles that are looked at even when the first is there.
FIRST_LOOKS = 5


@dataclass(frozen=True)
class TilePyramid:
    """Tiles of several levels.

    Attributes:
        name: What they are called, without keys.
        origin: Where they come from.
        levels: From coarse to fine.
        fixed: Whether it is known how large tiles are.
        bbox: Where they are, in degrees; None where that is not known.
    """

    name: str
    origin: TileOrigin
    levels: tuple[TileLevel, ...]
    fixed: bool
    bbox: tuple[float, ...] | None


def is_tiled(name: str) -> bool:
    """Whether a name is that of a service of tiles, or of a PMTiles file."""
    return is_service(name) or is_pmtiles(name)


def open_tiles(name: str, options: ViewOptions, coarsest: float | None) -> Scene:
    """The part of a service that was asked for, as a scene.

    Args:
        name: The name of a service or of a PMTiles file.
        options: Area, zoom, rate and bands.
        coarsest: The largest pixel that suits, in metres; None where nothing says so.

    Raises:
        UsageError: When a service is given no area, or nothing says which zoom level.
        InputError: When the service refuses, has nothing there, or sends no pictures.
    """
    pyramid = pyramid_of(name, options.rate)
    if options.aoi is None and options.bbox is None:
        if pyramid.bbox is None:
            raise UsageError(
                f"{pyramid.name}: a service of tiles has no size of its own; say which part with "
                "--aoi FILE or --bbox WEST,SOUTH,EAST,NORTH"
            )
        options = replace(options, bbox=pyramid.bbox)
    if is_service(name):
        if options.zoom is None and coarsest is None:
            raise UsageError(f"{pyramid.name}: say which zoom level with --zoom or --gsd METRES")
        warn(
            f"{host_of(name)}: its terms of use say what may be made of its imagery, and how much "
            "may be asked for; see that they allow this"
        )
    found = find_tiles(pyramid, options, coarsest)
    side = found.pixels.shape[1]
    if not pyramid.fixed and found.pixels.shape[1:] == (side, side) != found.level.tile:
        kept = {level.name for level in pyramid.levels}
        levels = square_levels(found.level.geobox.crs, side)
        levels = tuple(level for level in levels if level.name in kept)
        found = find_tiles(replace(pyramid, levels=levels), options, coarsest)
    return scene_of(pyramid, found, options)


def pyramid_of(name: str, rate: float) -> TilePyramid:
    """The tiles that a name leads to."""
    mercator = square_levels(CRS.from_string(MERCATOR))
    if is_pmtiles(name):
        archive = PmtilesOrigin(name, rate)
        with closing(archive.open()) as file:
            zooms = slice(file.header["min_zoom"], file.header["max_zoom"] + 1)
            return TilePyramid(shown(name), archive, mercator[zooms], False, file.bounds)
    service = service_of(name, client_of(rate))
    origin = HttpOrigin(service.address, rate)
    return TilePyramid(service.name, origin, service.levels, service.fixed, None)


@dataclass(frozen=True)
class Look:
    """A level that has tiles in the area.

    Attributes:
        level: The level.
        area: The area on its pixel grid.
        pixels: `(band, row, col)` of the tile with the most bands among those looked at.
        seen: SHA-256 of all of them.
        pictures: SHA-256 of those that are pictures of an error.
    """

    level: TileLevel
    area: Area
    pixels: Pixels
    seen: tuple[str, ...]
    pictures: tuple[str, ...]


def find_tiles(pyramid: TilePyramid, options: ViewOptions, coarsest: float | None) -> Look:
    """The level that suits, or the next coarser one that has tiles in the area.

    Raises:
        InputError: When none has.
    """
    levels = levels_to_try(pyramid, options, coarsest)
    pictures: tuple[str, ...] = ()
    with closing(pyramid.origin.open()) as store:
        for level in levels:
            area = area_of(level.geobox, pyramid.name, aoi=options.aoi, bbox=options.bbox)
            bodies, more = look(store, level, area, pictures, pyramid.name)
            pictures += more
            if bodies:
                if level is not levels[0]:
                    warn(
                        f"{pyramid.name}: has no tiles in the area at zoom {levels[0].name}, which "
                        f"suits the model; zoom {level.name} is read"
                    )
                tiles = [decode_any(body, pyramid.name)[0] for body in bodies]
                seen = tuple(sorted(map(digest, bodies)))
                return Look(level, area, max(tiles, key=len), seen, pictures)
    tried = ", ".join(level.name for level in levels)
    raise InputError(
        f"{pyramid.name}: has no tile in the area at zoom {tried}; check the area, or choose "
        "another level with --zoom"
    )


def levels_to_try(
    pyramid: TilePyramid, options: ViewOptions, coarsest: float | None
) -> list[TileLevel]:
    """The level that was asked for; else the one that suits, and coarser ones.

    Raises:
        UsageError: When there is no such level.
    """
    levels = pyramid.levels
    if options.zoom is not None:
        named = [level for level in levels if level.name == str(options.zoom)]
        if not named and options.zoom < len(levels) and not levels[0].name.isdecimal():
            named = [levels[options.zoom]]
        if not named:
            listed = f"{levels[0].name} to {levels[-1].name}"
            raise UsageError(f"{pyramid.name}: no zoom {options.zoom}; its levels are {listed}")
        return named
    if coarsest is None:
        return [levels[-1]]
    finest = levels[-1]
    area = area_of(finest.geobox, pyramid.name, aoi=options.aoi, bbox=options.bbox)
    place = best_level(levels, bounds_of(area, finest), coarsest)
    return list(reversed(levels[max(place - COARSER, 0) : place + 1]))


def bounds_of(area: Area, level: TileLevel) -> Window:
    """The smallest window of a level around an area that lies in it."""
    bounds = area.bounds(level.geobox.height, level.geobox.width)
    return bounds or Window(0, 0, 1, 1)


def look(
    store: TileStore, level: TileLevel, area: Area, pictures: tuple[str, ...], name: str
) -> tuple[list[bytes], tuple[str, ...]]:
    """Some tiles of an area, and the digests of those that are pictures of an error.

    No two photographs are the same bytes, so that what comes twice and has more than one colour
    says "no imagery here".

    Args:
        store: The tiles.
        level: The level that is looked at.
        area: The area on its grid.
        pictures: Digests that are known as such pictures.
        name: What the tiles are called, for messages.
    """
    places = list(look_places(level, area))
    bodies = [body for place in places[:FIRST_LOOKS] if (body := store.tile(level, *place))]
    times = Counter(map(digest, bodies))
    more = tuple(
        digest(body)
        for body in dict.fromkeys(bodies)
        if times[digest(body)] > 1 and np.ptp(decode_any(body, name)[0], axis=(1, 2)).any()
    )
    bodies = [body for body in bodies if digest(body) not in (*pictures, *more)]
    for place in places[FIRST_LOOKS:]:
        if bodies:
            break
        body = store.tile(level, *place)
        if body and digest(body) not in (*pictures, *more):
            bodies = [body]
    return bodies, more


def look_places(level: TileLevel, area: Area) -> Iterator[tuple[int, int]]:
    """Rows and columns of tiles of an area: one that is surely in it, those far apart, others."""
    height, width = level.tile
    inside = shapely.point_on_surface(area.shape)
    bounds = bounds_of(area, level)
    rows = np.linspace(bounds.row, bounds.row_stop - 1, LOOKS).astype(int) // height
    cols = np.linspace(bounds.col, bounds.col_stop - 1, LOOKS).astype(int) // width
    middle = (int(inside.y // height), int(inside.x // width))
    corners = itertools.product(rows[[0, -1]].tolist(), cols[[0, -1]].tolist())
    others = itertools.product(rows.tolist(), cols.tolist())
    for place in dict.fromkeys([middle, *corners, *others]):
        if place == middle or area.touches(level.window(*place)):
            yield place


def with_margins(store: TileStore, level: TileLevel, area: Area, near: Area) -> Window:
    """The pixels of an area's tiles, and of those around it (`near`) on each side that has some.

    Where imagery ends with the area, so does the scene: predictions are better beside reflected
    pixels than beside none.
    """
    height, width = level.tile
    inner = level.tiles_around(bounds_of(area, level), 0)
    outer = level.tiles_around(bounds_of(area, level), MARGIN)
    rows = np.linspace(inner.row, inner.row_stop - 1, LOOKS).astype(int) // height
    cols = np.linspace(inner.col, inner.col_stop - 1, LOOKS).astype(int) // width

    def reached(edge: int, own: int, places: Iterable[tuple[int, int]]) -> int:
        """The edge of the margin, or that of the area where the margin has no tile."""
        wanted = [each for each in dict.fromkeys(places) if near.touches(level.window(*each))]
        return edge if any(store.tile(level, *each) for each in wanted) else own

    first_row, last_row = outer.row // height, (outer.row_stop - 1) // height
    first_col, last_col = outer.col // width, (outer.col_stop - 1) // width
    top = reached(outer.row, inner.row, ((first_row, each) for each in cols.tolist()))
    bottom = reached(outer.row_stop, inner.row_stop, ((last_row, each) for each in cols.tolist()))
    left = reached(outer.col, inner.col, ((each, first_col) for each in rows.tolist()))
    right = reached(outer.col_stop, inner.col_stop, ((each, last_col) for each in rows.tolist()))
    return Window(top, left, bottom - top, right - left)


def scene_of(pyramid: TilePyramid, found: Look, options: ViewOptions) -> Scene:
    """The scene of tiles of one level.

    Raises:
        InputError: When they lack a band that was asked for.
    """
    level, count = found.level, len(found.pixels)
    bands = options.bands or tuple(range(1, count + 1))
    if max(bands) > count:
        raise InputError(
            f"{pyramid.name}: band {max(bands)} was asked for, but its tiles have {count}; choose "
            "with --bands"
        )
    near = shapely.buffer(found.area.shape, MARGIN * max(level.tile), quad_segs=2)
    origin = pyramid.origin
    if isinstance(origin, HttpOrigin):
        origin = replace(origin, pictures=found.pictures)
    with closing(origin.open()) as store:
        window = with_margins(store, level, found.area, Area(shapely.to_wkb(near)))
    source = TileSource(
        name=pyramid.name,
        origin=origin,
        level=level,
        window=window,
        area=Area(shapely.to_wkb(near)).shifted(window.row, window.col),
        count=count,
        bands=bands,
        dtype=str(found.pixels.dtype),
        nodata=options.nodata,
        nodata_match=options.nodata_match,
        on_read_error=options.on_read_error,
        seen=found.seen,
    )
    geobox = level.geobox.window(window)
    colours = COLOURS.get(count, ()) if options.bands is None else ()
    return Scene(pyramid.name, geobox, source, colours, ground_sampling_distance(geobox))
