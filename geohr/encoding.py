"""Numbers and array types that every layer shares.

Axes are `(band, row, col)` or `(class, row, col)`, masks are `(row, col)` with True = valid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# The value that a probability of 1 has in rasters of uint8: one step is finer than any model is
# calibrated, and 255 is left for nodata.
PROBABILITY_MAX = 254
# The value of a pixel without data, in rasters of probabilities and of classes.
NODATA = 255
# The label of a pixel that is not annotated, and counts for nothing.
IGNORE = 255

# `(band, row, col)` in a raster's own type.
Pixels = NDArray[Any]
# `(row, col)`, True = valid.
Mask = NDArray[np.bool_]
# `(n, band, row, col)` normalised pixels, or `(n, class, row, col)` scores in [0, 1].
Batch = NDArray[np.float32]
Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
# Shapely geometries.
Geometries = NDArray[np.object_]
