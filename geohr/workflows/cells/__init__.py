"""A mosaic in cells: planned once, run anywhere in any order, joined into one map."""
