"""Probabilities of a whole scene, in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from geohr._runtime.html import picture, table
from geohr.errors import UsageError
from geohr.geobox import GeoBox
from geohr.geodesy import ground_sampling_distance

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class Prediction:
    """Probabilities of a whole scene, in memory.

    Attributes:
        probabilities: `(class, row, col)`, float32 in [0, 1]; NaN where there is no data.
        transform: From (col, row) to coordinates.
        crs: The CRS of these coordinates.
        classes: A name for each channel.
    """

    probabilities: NDArray[np.float32]
    transform: Affine
    crs: CRS | None
    classes: tuple[str, ...]

    def _repr_html_(self) -> str:
        """The prediction in a notebook: a picture of the largest probability, and its place."""
        _, height, width = self.probabilities.shape
        geobox = GeoBox(self.crs, self.transform, height, width)
        rows = {
            "classes": ", ".join(self.classes),
            "rows x columns": f"{height} x {width}",
            "CRS": self.crs,
            "metres a pixel": self.crs and f"{ground_sampling_distance(geobox):.3g}",
            "bounds": ", ".join(f"{each:.10g}" for each in geobox.bounds),
        }
        # The maximum that leaves NaN where there is no data.
        return table("Prediction", rows) + picture(self.probabilities.max(axis=0))

    def to_xarray(self) -> xarray.DataArray:
        """The probabilities with coordinates and CRS, as rioxarray has them.

        Returns:
            Dimensions `class`, `y` and `x`; the coordinates are those of pixel centres.

        Raises:
            UsageError: When rioxarray is not installed, or the grid is turned.
        """
        try:
            import rioxarray  # noqa: F401  gives every DataArray its `rio`
            import xarray
        except ImportError as error:
            raise UsageError("to_xarray needs rioxarray; pip install 'geohr[notebook]'") from error
        if not self.transform.is_rectilinear:
            raise UsageError(
                "to_xarray needs a grid whose rows run along an axis; use the array and transform"
            )
        _, height, width = self.probabilities.shape
        step = self.transform
        array = xarray.DataArray(
            self.probabilities,
            dims=("class", "y", "x"),
            coords={
                "class": list(self.classes),
                "y": step.f + step.e * (np.arange(height) + 0.5),
                "x": step.c + step.a * (np.arange(width) + 0.5),
            },
            name="probability",
        )
        placed: xarray.DataArray = array.rio.write_transform(step).rio.write_nodata(np.nan)
        return placed if self.crs is None else placed.rio.write_crs(self.crs)
