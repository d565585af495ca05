"""Polygons into files that a GIS opens."""
