"""Finished rows of a scene into whole, measured polygons, out of core."""

from __future__ import annotations

from geohr.polygons.table import DTYPES, Polygons, concatenate
from geohr.polygons.tracer import Tracer, TraceSettings

__all__ = ["DTYPES", "Polygons", "TraceSettings", "Tracer", "concatenate"]
