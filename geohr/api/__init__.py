"""The verbs: segment, tile, stitch, vectorize, export, plan."""
