"""Rasters and vector files that appear whole."""
