"""Searches of a STAC API: the items of a collection in an area and a time (STAC API 1.0)."""

from __future__ import annotations

import json
from functools import cache
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from geohr._runtime.redact import redact
from geohr.errors import InputError, UsageError
from geohr.scene.area import degrees_around

PREFIX = "stac:"
# What a search may be narrowed by, besides its area.
TERMS = ("collection", "datetime", "ids", "query", "sortby")
# The most items of a mosaic.
ITEMS_MAX = 1000
# The seconds that a server may take to answer.
SECONDS = 30.0


def is_search(name: str) -> bool:
    """Whether a name is that of a search."""
    return name.startswith(PREFIX)


@cache
def items_text(name: str, aoi: str | None, bbox: tuple[float, ...] | None) -> str:
    """The ItemCollection that a search gives, oldest first: in a mosaic the newest lie on top.

    A search is made once in a process, so that all who ask see the same items.

    Args:
        name: Such as `stac:https://host/api?collection=naip&datetime=2022/2023`.
        aoi: A vector file of polygons, around which is searched.
        bbox: West, south, east, north in degrees.

    Raises:
        UsageError: When pystac-client is not installed, or a term is not known.
        InputError: When the server refuses, or finds nothing or too much.
    """
    try:
        from pystac_client import Client
        from pystac_client.exceptions import APIError, ParametersError
    except ImportError as error:
        raise UsageError("a search needs pystac-client; pip install 'geohr[services]'") from error
    address, terms = parted(name)
    area = degrees_around(aoi, bbox)
    ids, query, order = (terms.get(each) for each in ("ids", "query", "sortby"))
    reason = ""
    try:
        search = Client.open(address, timeout=SECONDS).search(
            # The one method that every STAC API has.
            method="GET",
            collections=terms["collection"].split(","),
            datetime=terms.get("datetime"),
            ids=ids.split(",") if ids else None,
            query=query.split(",") if query else None,
            sortby=order,
            bbox=area,
            max_items=ITEMS_MAX + 1,
        )
        items = list(search.items_as_dicts())
    except Exception as error:  # the library raises its own kinds, and a plain one for bad terms
        if type(error) in (Exception, ParametersError):
            raise UsageError(f"{redact(name)}: {error}") from error
        # The text of others may hold the address, with a key in it.
        reason = type(error).__name__
        if isinstance(error, APIError) and error.status_code:
            reason = f"status {error.status_code}"
    host = urlsplit(address).hostname
    if reason:
        raise InputError(
            f"{host}: the search fails ({reason}); check that the address is that of a STAC API, "
            "and that the collection is one of its"
        )
    if not items:
        raise InputError(f"{redact(name)}: finds no item; check collection, datetime and area")
    if len(items) > ITEMS_MAX:
        raise InputError(
            f"{redact(name)}: finds more than {ITEMS_MAX} items; narrow it with --bbox or datetime="
        )
    items.sort(key=lambda item: (str(item["properties"].get("datetime")), str(item["id"])))
    return json.dumps({"type": "FeatureCollection", "features": items})


def parted(name: str) -> tuple[str, dict[str, str]]:
    """The address of the API, and the terms of the search.

    Raises:
        UsageError: When a term is not known, or no collection is named.
    """
    parts = urlsplit(name.removeprefix(PREFIX))
    terms = dict(parse_qsl(parts.query))
    unknown = terms.keys() - set(TERMS)
    if parts.scheme not in ("http", "https") or unknown or "collection" not in terms:
        raise UsageError(
            f"{redact(name)}: a search is stac:, the address of an API, and ?collection=NAME with "
            f"any of {', '.join(TERMS[1:])}"
        )
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")), terms
