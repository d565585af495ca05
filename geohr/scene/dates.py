"""When a scene was taken, where its files say it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from geohr.errors import InputError
from geohr.scene.opening import FAILURES, open_raster
from geohr.scene.stac import is_stac, read_text

FORMS = ("%Y:%m:%d %H:%M:%S", "%Y-%m-%d %H:%M:%S")
"""How TIFF 6.0 (tag 306) and GDAL's readers of satellite metadata write times."""
SATELLITE = "IMAGERY"
"""GDAL's metadata domain of what IMD, RPB and other companions of a raster say; UTC."""


def acquired(names: Iterable[str], files: Iterable[str]) -> str | None:
    """When a scene was taken: ISO 8601, or two times with a slash between, for several.

    A STAC Item's `datetime` counts first, then what satellite metadata say (`ACQUISITIONDATETIME`,
    for example of a .IMD file), then the TIFF's own tag. A time without a zone is the tag's.

    Args:
        names: What was given: rasters, STAC Items or ItemCollections.
        files: The rasters.
    """
    found = {time for name in names if is_stac(name) for time in _of_stac(name)}
    found = found or {time for name in files for time in _of_raster(name)}
    if not found:
        return None
    first, last = min(found), max(found)
    return first if first == last else f"{first}/{last}"


def _of_stac(name: str) -> Iterator[str]:
    """The times of the Items at a path or address, which has been read as STAC before."""
    read: Any = json.loads(read_text(name))
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
