"""The rasters that STAC Items and ItemCollections name (STAC specification 1.0, Item)."""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from geohr._runtime.redact import redact
from geohr.errors import InputError
from geohr.options import ViewOptions
from geohr.scene.files import FAILURES, open_raster
from geohr.scene.search import is_search, items_text

# The extensions of rasters.
RASTERS = (".tif", ".tiff", ".jp2", ".img", ".png", ".jpg", ".jpeg", ".webp", ".vrt")
# The extensions of STAC Items and ItemCollections.
SUFFIXES = (".json", ".geojson")
# A larger list is refused unread.
BYTES_MAX = 200_000_000
# The seconds that a server may take to answer.
SECONDS = 30.0


def is_stac(name: str) -> bool:
    """Whether a name is that of a STAC Item, an ItemCollection or a search of a STAC API."""
    if is_search(name):
        return True
    plain = urlsplit(name).path if "://" in name else name
    return Path(plain).suffix.lower() in SUFFIXES


def rasters_of(name: str, options: ViewOptions) -> list[str]:
    """The rasters that a STAC Item, an ItemCollection or a search names, by path, URL or query.

    Of the options, the asset counts (by default the first raster), and the area of a search.

    Raises:
        InputError: When it cannot be read, is no STAC, or has no such asset.
        UsageError: When a search cannot be made as it was asked for.
    """
    text = stac_text(name, options)
    return [beside(name, href) for href in hrefs(text, name, options.asset)]


def stac_text(name: str, options: ViewOptions) -> str:
    """The text of a STAC Item, an ItemCollection or the result of a search."""
    if is_search(name):
        return items_text(name, options.aoi, options.bbox)
    return read_text(name)


def hrefs(text: str, name: str, asset: str | None) -> Iterator[str]:
    """The URLs in a STAC Item or ItemCollection, as they stand there."""
    try:
        read: Any = json.loads(text)
        items = read["features"] if read["type"] == "FeatureCollection" else [read]
        for item in items:
            yield asset_of(item, asset)["href"]
    except InputError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{name}: not a STAC Item or ItemCollection with assets that have a href ({error!r})"
        ) from error


def asset_of(item: Any, key: str | None) -> Any:
    """The asset of that key, or the first that is a raster."""
    assets = item["assets"]
    if key is not None:
        if key not in assets:
            raise InputError(
                f"STAC item {item.get('id')}: no asset {key!r}; its assets are "
                f"{', '.join(map(str, assets))}; choose with --asset"
            )
        return assets[key]
    for asset in assets.values():
        if "tiff" in str(asset.get("type", "")) or Path(asset["href"]).suffix.lower() in RASTERS:
            return asset
    raise InputError(f"STAC item {item.get('id')}: no asset is a raster; choose with --asset")


def read_text(name: str) -> str:
    """The text at a path or an http(s) URL.

    Raises:
        InputError: When it cannot be had.
    """
    try:
        if "://" not in name:
            if Path(name).stat().st_size > BYTES_MAX:
                raise InputError(f"{name}: more than {BYTES_MAX} bytes are not read as a list")
            return Path(name).read_text(encoding="utf-8-sig")
        if urlsplit(name).scheme not in ("http", "https"):
            raise InputError(
                f"{name}: STAC is read from files and from http:// and https://; "
                "download the item first"
            )
        with urllib.request.urlopen(name, timeout=SECONDS) as answer:
            return str(answer.read(BYTES_MAX).decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file; check the path") from error
    except (OSError, urllib.error.URLError, http.client.HTTPException, UnicodeDecodeError) as error:
        raise InputError(f"{redact(name)}: cannot be read as STAC ({error})") from error


def beside(name: str, href: str) -> str:
    """Resolve a path or URL in a list against the place of the list."""
    if "://" in href or href.startswith("/vsi"):
        return href
    if "://" in name:
        return urljoin(name, href)
    return href if Path(href).is_absolute() else os.path.normpath(Path(name).parent / href)


# The formats of times in TIFF 6.0 (tag 306) and in GDAL's readers of satellite metadata.
FORMS = ("%Y:%m:%d %H:%M:%S", "%Y-%m-%d %H:%M:%S")
# GDAL's metadata domain of what IMD, RPB and other companions of a raster say; UTC.
SATELLITE = "IMAGERY"


def acquired(
    names: Iterable[str], files: Iterable[str], options: ViewOptions | None = None
) -> str | None:
    """When a scene was taken: ISO 8601, or two times with a slash between, for several.

    A STAC Item's `datetime` counts first, then what satellite metadata say (`ACQUISITIONDATETIME`,
    for example of a .IMD file), then the TIFF's own tag. A time without a zone is the tag's.

    Args:
        names: The names that were given: rasters, STAC Items, ItemCollections or searches.
        files: The rasters.
        options: The area of a search.
    """
    options = options or ViewOptions()
    found = {time for name in names if is_stac(name) for time in _of_stac(name, options)}
    found = found or {time for name in files for time in _of_raster(name)}
    if not found:
        return None
    first, last = min(found), max(found)
    return first if first == last else f"{first}/{last}"


def _of_stac(name: str, options: ViewOptions) -> Iterator[str]:
    """The times of the Items at a path or URL, which has been read as STAC before."""
    read: Any = json.loads(stac_text(name, options))
    for item in read["features"] if read["type"] == "FeatureCollection" else [read]:
        told = item.get("properties") or {}
        time = told.get("datetime") or told.get("start_datetime")
        if isinstance(time, str):
            yield time


def _of_raster(name: str) -> Iterator[str]:
    """The time that a raster's metadata give, if they can be read."""
    try:
        with open_raster(name) as raster:
            satellite = raster.tags(ns=SATELLITE).get("ACQUISITIONDATETIME")
            tag = raster.tags().get("TIFFTAG_DATETIME")
    except (*FAILURES, InputError):  # a companion that is no raster, such as statistics
        return
    for text, zone in ((satellite, "Z"), (tag, "")):
        time = _parsed(text)
        if time is not None:
            yield f"{time.isoformat(timespec='seconds')}{zone}"
            return


def _parsed(text: str | None) -> datetime | None:
    """A time without its zone, or None where the text is none."""
    for form in FORMS:
        try:
            return datetime.strptime(text or "", form)
        except ValueError:
            continue
    return None
