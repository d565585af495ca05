"""`da.geohr.segment()` on every DataArray, once this module is imported.

Needs the extra `notebook`. The array is a scene with the georeference of rioxarray:

    import geohr.api.xarray
    import rioxarray

    buildings = rioxarray.open_rasterio("scene.tif").geohr.segment(threshold=0.4)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Unpack

import xarray

from geohr._runtime.progress import Report
from geohr.api.keywords import SegmentKeywords
from geohr.api.memory import predict, segment
from geohr.api.prediction import Prediction
from geohr.models.model import Model
from geohr.options import SegmentOptions

if TYPE_CHECKING:
    import geopandas


@xarray.register_dataarray_accessor("geohr")
class SceneAccessor:
    """A DataArray as a scene.

    Args:
        array: Dimensions of rows and columns, and perhaps one of bands.
    """

    def __init__(self, array: xarray.DataArray) -> None:
        self._array = array

    def segment(
        self,
        *,
        model: str | Path | Model | None = None,
        options: SegmentOptions | None = None,
        progress: Report | Literal["auto"] | None = "auto",
        **keywords: Unpack[SegmentKeywords],
    ) -> geopandas.GeoDataFrame:
        """Find objects in the array; see `geohr.segment`."""
        return segment(self._array, model=model, options=options, progress=progress, **keywords)

    def predict(
        self,
        *,
        model: str | Path | Model | None = None,
        options: SegmentOptions | None = None,
        progress: Report | Literal["auto"] | None = "auto",
        **keywords: Unpack[SegmentKeywords],
    ) -> Prediction:
        """Predict the probabilities of the array; see `geohr.predict`."""
        return predict(self._array, model=model, options=options, progress=progress, **keywords)
