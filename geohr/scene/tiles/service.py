"""Services of tiles by their names: XYZ, TMS and WMS addresses, WMTS and OGC API descriptions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from rasterio.crs import CRS

from geohr.errors import InputError, UsageError
from geohr.scene.tiles.address import TileAddress, host_of, is_template, shown
from geohr.scene.tiles.client import HttpClient
from geohr.scene.tiles.levels import SIDE, TileLevel, known_crs, north_first, square_levels
from geohr.scene.tiles.ogcapi import read_tileset
from geohr.scene.tiles.wmts import read_capabilities

MERCATOR = "EPSG:3857"


@dataclass(frozen=True)
class TileService:
    """Where a service's tiles are, and how they are cut.

    Attributes:
        name: What it is called, without keys.
        address: The addresses of its tiles.
        levels: Its zoom levels, from coarse to fine.
        fixed: Whether the service says how large its tiles are.
    """

    name: str
    address: TileAddress
    levels: tuple[TileLevel, ...]
    fixed: bool = True


def is_service(name: str) -> bool:
    """Whether a name is that of a service of tiles."""
    return is_template(name) or name.partition(":")[0] in KINDS


def service_of(name: str, client: HttpClient) -> TileService:
    """The service that a name leads to, as the client describes it.

    Names are addresses with `{z}`, `{x}` and `{y}`, or after `wmts:`, `wms:` or `ogcapi:`.

    Raises:
        UsageError: For a name that leads to none.
        InputError: When what describes it cannot be had or understood.
    """
    if is_template(name):
        levels = square_levels(CRS.from_string(MERCATOR))
        return TileService(shown(name), TileAddress(name), levels, fixed=False)
    kind, _, address = name.partition(":")
    if urlsplit(address).scheme not in ("http", "https"):
        raise UsageError(f"{shown(name)}: give an http(s) address after {kind}:")
    return KINDS[kind](address, client)


def wms(address: str, _: HttpClient) -> TileService:
    """A Web Map Service, asked for maps as large as tiles (OGC 06-042).

    Raises:
        UsageError: When the address names no layer.
    """
    base, asked = parted(address)
    given = {
        name.upper() if name.upper() in WMS_NAMES else name: value for name, value in asked.items()
    }
    if not given.get("LAYERS"):
        raise UsageError(f"{shown(address)}: name a layer of the WMS, such as wms:URL?layers=ortho")
    version, crs = given.get("VERSION", "1.3.0"), given.pop("CRS", given.pop("SRS", MERCATOR))
    axis = "CRS" if version >= "1.3" else "SRS"
    query = {
        "SERVICE": "WMS", "REQUEST": "GetMap", "VERSION": version, "STYLES": "",
        "FORMAT": "image/png", "TRANSPARENT": "TRUE", axis: crs,
    } | {name: value for name, value in given.items() if name not in WMS_PLACES}  # fmt: skip
    levels = square_levels(known_crs(crs, host_of(address)))
    template = f"{base}?{urlencode(query)}&BBOX={{bbox}}&WIDTH={SIDE}&HEIGHT={SIDE}"
    flipped = axis == "CRS" and north_first(crs)
    return TileService(shown(base), TileAddress(template, flipped), levels)


def wmts(address: str, client: HttpClient) -> TileService:
    """A Web Map Tile Service, described by its capabilities (OGC 07-057r7)."""
    base, asked = parted(address)
    chosen = {name.lower(): value for name, value in asked.items()}
    query = {name: value for name, value in asked.items() if name.lower() not in CHOICES}
    text = fetched(client, f"{base}?{urlencode(query)}" if query else base)
    template, levels = read_capabilities(text, shown(base), chosen)
    return TileService(shown(base), TileAddress(template), levels)


def ogcapi(address: str, client: HttpClient) -> TileService:
    """A tile set of OGC API Tiles, described by its own document (OGC 20-057)."""

    def fetch(link: str) -> bytes:
        return fetched(client, link)

    template, levels = read_tileset(fetch, address, shown(address))
    return TileService(shown(address), TileAddress(urljoin(address, template)), levels)


# The services that are named by a word before their address.
KINDS: dict[str, Callable[[str, HttpClient], TileService]] = {
    "wms": wms,
    "wmts": wmts,
    "ogcapi": ogcapi,
}
# The names of a request for a map, in any case; other names belong to the server.
WMS_PLACES = ("BBOX", "WIDTH", "HEIGHT")
WMS_NAMES = (
    *WMS_PLACES, "SERVICE", "REQUEST", "VERSION", "LAYERS", "STYLES", "CRS", "SRS", "FORMAT",
    "TRANSPARENT",
)  # fmt: skip
# What an address after `wmts:` says besides where the capabilities are.
CHOICES = ("layer", "tilematrixset", "style")


def parted(address: str) -> tuple[str, dict[str, str]]:
    """An address without its query, and the query."""
    parts = urlsplit(address)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")), query


def fetched(client: HttpClient, address: str) -> bytes:
    """What describes a service.

    Raises:
        InputError: When the server does not have it or refuses.
    """
    reply = client.get(address)
    if reply.status != 200:
        raise InputError(
            f"{host_of(address)}: answers with status {reply.status} where the service's "
            "description was asked for; check the address and the key in it"
        )
    return reply.body
