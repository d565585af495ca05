"""Finished rows of a scene into whole, measured polygons, out of core."""

from __future__ import annotations

from geohr.polygons.polygons import DTYPES, Polygons, concatenate
from geohr.polygons.settings import TraceSettings
from geohr.polygons.tracer import Tracer

__all__ = ["DTYPES", "Polygons", "TraceSettings", "Tracer", "concatenate"]
