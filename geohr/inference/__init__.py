"""The one loop from a scene to rows of classes and polygons."""
