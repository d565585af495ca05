"""Addresses of tiles: a template with places for zoom, column and row."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from geohr._runtime.redact import redact
from geohr.errors import UsageError
from geohr.scene.tiles.levels import TileLevel

_PLACE = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([a-z0-9])-([a-z0-9])")
# The names of the numbers of a tile: those of XYZ, of WMTS and of OGC API Tiles, in lower case.
NAMES = {
    "z": "level", "x": "col", "y": "row", "-y": "row_up", "q": "quadkey", "bbox": "bbox",
    "tilematrix": "level", "tilecol": "col", "tilerow": "row",
    "width": "width", "height": "height",
}  # fmt: skip
# Part of a path that is no word: long, with letters and digits.
_TOKEN = re.compile(r"(?=[^/]*\d)(?=[^/]*[A-Za-z])[\w.~-]{16,}")


@dataclass(frozen=True)
class TileAddress:
    """The template of a service's addresses.

    `{z}`, `{x}` and `{y}` are zoom, column and row from the top; `{-y}` is the row from the bottom,
    as TMS counts; `{q}` is Bing's quadkey; `{bbox}` are the coordinates of the tile's edges, as WMS
    takes them; `{TileMatrix}`, `{TileCol}` and `{TileRow}` are those of WMTS and OGC API Tiles;
    `{a-c}` or `{switch:a,b,c}` are names of servers, taken in turns.

    Attributes:
        template: The address, perhaps with a key in it.
        north_first: Whether `{bbox}` is south, west, north, east.
    """

    template: str
    north_first: bool = False

    def __post_init__(self) -> None:
        """Refuse a place that has no meaning, and a template that is the same for all tiles.

        Raises:
            UsageError: Naming it, and what is known.
        """
        found = _PLACE.findall(self.template)
        for each in found:
            if each.lower() not in NAMES and not _servers(each):
                raise UsageError(
                    f"{shown(self.template)}: {{{each}}} is not known in an address of tiles; "
                    "use {z}, {x}, {y}, {-y}, {q} or {a-c}"
                )
        meant = {NAMES.get(each.lower()) for each in found}
        if not ({"quadkey", "bbox"} & meant or {"col", "level"} <= meant & {"col", "level"}):
            raise UsageError(
                f"{shown(self.template)}: an address of tiles needs {{z}}, {{x}} and {{y}}"
            )

    def url(self, level: TileLevel, row: int, col: int) -> str:
        """The address of a tile, by its row from the top and its column."""

        def value(found: re.Match[str]) -> str:
            name = NAMES.get(found[1].lower())
            if name is None:
                servers = _servers(found[1])
                return servers[(row + col) % len(servers)]
            if name == "bbox":
                return self.bbox(level, row, col)
            return _VALUES[name](level, row, col)

        return _PLACE.sub(value, self.template)

    def bbox(self, level: TileLevel, row: int, col: int) -> str:
        """The edges of a tile in the CRS of its level."""
        west, south, east, north = level.geobox.window(level.window(row, col)).bounds
        edges = (south, west, north, east) if self.north_first else (west, south, east, north)
        return ",".join(f"{each:.12g}" for each in edges)


_VALUES: dict[str, Callable[[TileLevel, int, int], str]] = {
    "level": lambda level, _, col: level.name,
    "row": lambda _, row, col: str(row),
    "col": lambda _, row, col: str(col),
    "row_up": lambda level, row, _: str(level.shape[0] - 1 - row),
    "quadkey": lambda level, row, col: quadkey(int(level.name), row, col),
    "height": lambda level, _, col: str(level.tile[0]),
    "width": lambda level, _, col: str(level.tile[1]),
}


def quadkey(zoom: int, row: int, col: int) -> str:
    """A tile's name in Bing's system: the quarter at each zoom, from 0 to 3."""
    return "".join(str((col >> bit & 1) + 2 * (row >> bit & 1)) for bit in reversed(range(zoom)))


def is_template(name: str) -> bool:
    """Whether a name is an http(s) address with places for numbers of tiles."""
    known = {NAMES.get(each.lower()) for each in _PLACE.findall(name)}
    return name.startswith(("http://", "https://")) and bool(known - {None})


def shown(name: str) -> str:
    """An address for people: without keys, be they in the query, the path or before the host."""
    plain = redact(name)
    head, mark, rest = plain.partition("://")
    if not mark:
        return plain
    host, *folders = rest.split("/")
    return "/".join([f"{head}://{host}", *(_TOKEN.sub("***", each) for each in folders)])


def host_of(address: str) -> str:
    """The host of an address, which is all that messages say of it."""
    return urlsplit(address).hostname or "the service"


def _servers(place: str) -> list[str]:
    """The names of servers in `{a-c}` or `{switch:a,b,c}`; none for all else."""
    if place.startswith("switch:"):
        return place.removeprefix("switch:").split(",")
    found = _RANGE.fullmatch(place)
    if found is None:
        return []
    return [chr(code) for code in range(ord(found[1]), ord(found[2]) + 1)]
