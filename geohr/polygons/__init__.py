"""Finished rows of a scene into whole, measured polygons, out of core."""

from __future__ import annotations

from geohr.polygons.polygons import DTYPES, Polygons, concatenate
from geohr.polygons.tracer import Tracer
from geohr.polygons.tracing import Tracing

__all__ = ["DTYPES", "Polygons", "Tracer", "Tracing", "concatenate"]
