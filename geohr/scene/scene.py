"""A raster described: what it is, where it lies, and where its pixels come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags

from geohr.encoding import NODATA
from geohr.errors import InputError
from geohr.geobox import GeoBox, Window
from geohr.geodesy import ground_sampling_distance
from geohr.options import SceneOptions
from geohr.scene.area import Area
from geohr.scene.files import FAILURES, check_raster, open_raster
from geohr.scene.mosaic import MosaicSource
from geohr.scene.tile import Tile
from geohr.scene.warped import WarpedSource


@dataclass(frozen=True)
class Scene:
    """A raster, described: a file, another grid over one, or several as one.

    It holds no open file, so that it can be pickled and sent to a worker.

    Attributes:
        path: The file, or any name GDAL can open.
        geobox: Its pixel grid: CRS, transform, height and width.
        bands: Numbers of the bands in use, from 1, without alpha.
        band_names: What the file calls these bands, in lower case: their description, else their
            colour. Empty where they were asked for by number.
        band_count: Bands in the file, without alpha.
        dtype: Name of numpy's data type of the bands.
        nodata: Value that means no data, or None.
        nodata_match: Whether `all` bands or `any` band must equal it.
        on_read_error: Whether blocks that cannot be read end the run or are no data.
        mask_band: Whether the file carries a mask or an alpha band.
        block_height: Rows of the file's blocks.
        gsd: Ground sampling distance at the scene's centre in metres, or None without a CRS.
        files: Names of the files it is read from, the first being the raster itself.
        origin: Another grid over a scene, or several scenes as one; None for a file.
        corner: Row and column of the first pixel in the file, or in what `origin` describes.
        area: The part of it that is asked for; None for all. Windows beyond it have no data.
    """

    path: str
    geobox: GeoBox
    bands: tuple[int, ...]
    band_names: tuple[str, ...]
    band_count: int
    dtype: str
    nodata: float | None
    nodata_match: Literal["all", "any"]
    on_read_error: Literal["fail", "nodata"]
    mask_band: bool
    block_height: int
    gsd: float | None
    files: tuple[str, ...]
    origin: WarpedSource | MosaicSource | None = None
    corner: tuple[int, int] = (0, 0)
    area: Area | None = None

    @property
    def crs(self) -> CRS | None:
        """The coordinate reference system, or None where the file has none."""
        return self.geobox.crs

    @property
    def transform(self) -> Affine:
        """From (col, row) of pixel corners to coordinates."""
        return self.geobox.transform

    @property
    def height(self) -> int:
        """Rows of the scene."""
        return self.geobox.height

    @property
    def width(self) -> int:
        """Columns of the scene."""
        return self.geobox.width

    @property
    def area_window(self) -> Window:
        """The pixels that outputs hold: the smallest window around the area, or all."""
        bounds = None if self.area is None else self.area.bounds(self.height, self.width)
        return bounds or self.geobox.extent

    @property
    def area_geobox(self) -> GeoBox:
        """The grid of the pixels that outputs hold."""
        return self.geobox.window(self.area_window)

    def clip(self, start: int, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Rows of the scene without what lies beyond its area.

        Args:
            start: First row in the scene.
            rows: `(..., row, col)` in the scene's full width, 255 where there is no data.

        Returns:
            `(..., row, col)` of `area_window`, 255 beyond the area; as many rows as it has of
            them, so perhaps none.
        """
        if self.area is None:
            return rows
        window = self.area_window
        first, stop = max(start, window.row), min(start + rows.shape[-2], window.row_stop)
        if first >= stop:
            return rows[..., :0, : window.width]
        part = Window(first, window.col, stop - first, window.width)
        clipped: NDArray[np.uint8] = rows[..., *part.shifted(-start, 0).slices].copy()
        clipped[..., ~self.area.mask(part)] = NODATA
        return clipped

    @classmethod
    def open(cls, path: str | Path, options: SceneOptions | None = None) -> Self:
        """Describe the raster at `path`.

        Args:
            path: A file, or any name GDAL can open.
            options: Bands and nodata where the file does not say.

        Raises:
            InputError: When it is missing, no raster, complex, or has too few bands.
        """
        try:
            with open_raster(path) as raster:
                check_raster(raster, path)
                return cls._describe(raster, path, options or SceneOptions())
        except FAILURES as error:
            raise InputError(f"{path}: not a raster that GDAL can read ({error})") from error

    @classmethod
    def _describe(
        cls, raster: rasterio.DatasetReader, path: str | Path, options: SceneOptions
    ) -> Self:
        """The description of an open raster; see `open`."""
        alpha = [
            band
            for band, meaning in enumerate(raster.colorinterp, start=1)
            if meaning == ColorInterp.alpha
        ]
        data_bands = [band for band in raster.indexes if band not in alpha]
        if not data_bands:
            raise InputError(f"{path}: has no band besides alpha; at least one is needed")
        bands = options.bands or tuple(data_bands)
        missing = [band for band in bands if band not in data_bands]
        if missing:
            raise InputError(
                f"{path}: band {missing[0]} was asked for, but its bands are "
                f"{', '.join(map(str, data_bands))}; choose with --bands"
            )
        dtype = np.result_type(*(raster.dtypes[band - 1] for band in bands))
        if dtype.kind == "c":
            raise InputError(
                f"{path}: pixels are complex numbers ({dtype}); give a raster of real numbers, "
                "such as the amplitude"
            )
        flags = {flag for band in bands for flag in raster.mask_flag_enums[band - 1]}
        nodata = options.nodata
        if nodata is None and raster.nodatavals[bands[0] - 1] is not None:
            nodata = float(raster.nodatavals[bands[0] - 1])
        geobox = GeoBox(raster.crs, raster.transform, raster.height, raster.width)
        return cls(
            path=str(path),
            geobox=geobox,
            bands=bands,
            band_names=() if options.bands else band_names(raster, bands),
            band_count=len(data_bands),
            dtype=str(dtype),
            nodata=nodata,
            nodata_match=options.nodata_match,
            on_read_error=options.on_read_error,
            mask_band=bool(alpha) or MaskFlags.per_dataset in flags,
            block_height=max(height for height, _ in raster.block_shapes),
            gsd=None if geobox.crs is None else ground_sampling_distance(geobox),
            files=tuple(raster.files) or (str(path),),
        )

    def select(self, names: Sequence[str]) -> Scene:
        """The same scene with the bands in use that a model wants.

        Args:
            names: Of the model's bands. Where the file names all of them, they are taken by name,
                whatever their order; else the first ones are.

        Raises:
            InputError: When it has fewer.
        """
        if len(self.bands) < len(names):
            raise InputError(
                f"{self.path}: the model needs {len(names)} bands ({', '.join(names)}) and the "
                f"scene has {len(self.bands)}; give another scene, or another model with --model"
            )
        if set(names) <= set(self.band_names):
            by_name = dict(zip(self.band_names[::-1], self.bands[::-1], strict=True))
            return replace(self, bands=tuple(by_name[name] for name in names), band_names=())
        return replace(self, bands=self.bands[: len(names)], band_names=())

    def crop(self, window: Window) -> Scene:
        """The part of the scene in a window that lies inside it."""
        area = None if self.area is None else self.area.shifted(window.row, window.col)
        return replace(
            self,
            geobox=self.geobox.window(window),
            corner=(self.corner[0] + window.row, self.corner[1] + window.col),
            area=area,
        )

    def read(self, window: Window) -> Tile:
        """One window; see `geohr.scene.SceneReader.read`."""
        from geohr.scene.reader import SceneReader

        with SceneReader(self) as reader:
            return reader.read(window)


def band_names(raster: rasterio.DatasetReader, bands: Sequence[int]) -> tuple[str, ...]:
    """Descriptions of bands, else their colours, in lower case."""
    return tuple(
        (raster.descriptions[band - 1] or raster.colorinterp[band - 1].name).strip().lower()
        for band in bands
    )
