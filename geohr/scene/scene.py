"""A raster described, and read by windows; what lies beyond the edge is reflected."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from geohr._runtime.html import table
from geohr._runtime.messages import amount
from geohr._runtime.redact import redact
from geohr.encoding import NODATA, Mask, Pixels
from geohr.errors import InputError
from geohr.geobox import GeoBox, Window
from geohr.geodesy import ground_sampling_distance
from geohr.options import SceneOptions
from geohr.scene.area import Area, area_of
from geohr.scene.files import FAILURES, FileSource, absolute, is_remote, open_raster, settings
from geohr.scene.source import PixelSource
from geohr.scene.tile import Tile, cut, nothing, reach

# GDAL's cache of blocks beside what reading downwards needs: it would take a share of memory.
CACHE_BYTES = 2**26
# Most that is taken for the rows of a scene that a row of another grid runs through.
CACHE_BYTES_MAX = 2**30


@dataclass(frozen=True)
class Scene:
    """A raster, described: a file, another grid over one, or several as one.

    It holds no open file, so that it can be pickled and sent to a worker.

    Attributes:
        path: The file, or any name GDAL can open; of a mosaic, what it is called.
        geobox: The pixel grid: CRS, transform, height and width.
        source: The source of the pixels.
        band_names: What the file calls the bands in use, in lower case: their description, else
            their colour. Empty where they were asked for by number.
        gsd: Ground sampling distance at the scene's centre in metres, or None without a CRS.
        corner: Row and column of the scene's first pixel in its source.
        area: The part of the scene that is asked for; None for all. Windows beyond it have no
            data.
        warped_from: The scene on its own grid, where this one is the same on another.
    """

    path: str
    geobox: GeoBox
    source: PixelSource
    band_names: tuple[str, ...]
    gsd: float | None
    corner: tuple[int, int] = (0, 0)
    area: Area | None = None
    warped_from: Scene | None = None

    @classmethod
    def open(cls, path: str | Path, options: SceneOptions | None = None) -> Self:
        """Describe the raster at `path`.

        Args:
            path: A file, or any name GDAL can open.
            options: Bands and nodata where the file does not say.

        Raises:
            InputError: When it is missing, no raster, complex, or has too few bands.
        """
        options = options or SceneOptions()
        try:
            with open_raster(path) as raster:
                source = FileSource.of(raster, path, options)
                geobox = GeoBox(raster.crs, raster.transform, raster.height, raster.width)
                names = () if options.bands else band_names(raster, source.bands)
        except FAILURES as error:
            raise InputError(f"{path}: not a raster that GDAL can read ({error})") from error
        gsd = None if geobox.crs is None else ground_sampling_distance(geobox)
        return cls(str(path), geobox, source, names, gsd)

    def _repr_html_(self) -> str:
        """The scene in a notebook."""
        rows = {
            "rows x columns": f"{self.height} x {self.width}",
            "bands": f"{', '.join(map(str, self.bands))} ({self.dtype})",
            "CRS": self.crs,
            "metres a pixel": None if self.gsd is None else f"{self.gsd:.3g}",
            "bounds": ", ".join(f"{each:.10g}" for each in self.geobox.bounds),
            "nodata": self.nodata,
        }
        return table(f"Scene {redact(self.path)}", rows)

    @property
    def crs(self) -> CRS | None:
        """The coordinate reference system, or None where the file has none."""
        return self.geobox.crs

    @property
    def transform(self) -> Affine:
        """The affine transform from (col, row) of pixel corners to coordinates."""
        return self.geobox.transform

    @property
    def height(self) -> int:
        """The number of rows of the scene."""
        return self.geobox.height

    @property
    def width(self) -> int:
        """The number of columns of the scene."""
        return self.geobox.width

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all files that the pixels depend on; none of a service of tiles."""
        return self.source.files

    @property
    def bands(self) -> tuple[int, ...]:
        """Numbers of the bands in use, from 1, in the first file."""
        return self.source.bands

    @property
    def dtype(self) -> str:
        """Name of numpy's data type of the pixels."""
        return self.source.dtype

    @property
    def nodata(self) -> float | None:
        """The value that means no data in all bands in use, or None where there is no such one."""
        return self.source.nodata

    @property
    def nodata_match(self) -> Literal["all", "any"]:
        """Whether all bands or any band must hold its nodata value for a pixel to be invalid."""
        return self.source.nodata_match

    @property
    def mask_band(self) -> bool:
        """Whether validity is told by more than a value: by a mask, an alpha band, or a grid."""
        return self.source.mask_band

    @property
    def block_height(self) -> int:
        """The number of rows that are decoded together."""
        return self.source.block_height

    @property
    def name(self) -> str:
        """The scene for outputs: a file's name without its folder, a service's address, no keys."""
        return redact(Path(self.path).name) if self.files else self.path

    @property
    def native(self) -> Scene:
        """The scene on the grid that it was given on."""
        return self.warped_from or self

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
        """Set the pixels of rows outside the area of interest to nodata.

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

    def select(self, names: Sequence[str]) -> Scene:
        """Select the bands that a model wants.

        Args:
            names: Of the model's bands. Where the file names all of them, they are taken by name,
                whatever their order; else the first ones are.

        Raises:
            InputError: When it has fewer.
        """
        if len(self.bands) < len(names):
            raise InputError(
                f"{self.path}: the model needs {amount(len(names), 'band')} ({', '.join(names)}) "
                f"and the scene has {len(self.bands)}; give another scene, or another model "
                "with --model"
            )
        places = list(range(len(names)))
        if set(names) <= set(self.band_names):
            places = [self.band_names.index(name) for name in names]
        return self.with_bands(places)

    def with_bands(self, places: Sequence[int]) -> Scene:
        """Select bands by their place among `bands`."""
        native = self.warped_from
        return replace(
            self,
            source=self.source.select(places),
            band_names=(),
            warped_from=None if native is None else native.with_bands(places),
        )

    def crop(self, window: Window) -> Scene:
        """The part of the scene in a window that lies inside it."""
        area = None if self.area is None else self.area.shifted(window.row, window.col)
        return replace(
            self,
            geobox=self.geobox.window(window),
            corner=(self.corner[0] + window.row, self.corner[1] + window.col),
            area=area,
        )

    def within(self, *, aoi: str | None, bbox: tuple[float, ...] | None) -> Scene:
        """The scene with an area of interest: `aoi`, a file's polygons, `bbox` in degrees, or both.

        Raises:
            InputError: When the scene has no CRS, the file holds no polygons or has no CRS, or none
                of the area lies in the scene.
        """
        if aoi is None and bbox is None:
            return self
        return replace(self, area=area_of(self.geobox, self.path, aoi=aoi, bbox=bbox))

    def absolute(self) -> Scene:
        """Replace relative paths, so that the scene can be opened from any working folder."""
        native = self.warped_from
        return replace(
            self,
            path=absolute(self.path),
            source=self.source.absolute(),
            warped_from=None if native is None else native.absolute(),
        )

    def describe(self) -> dict[str, object]:
        """The settings, besides the bytes of the files, that the pixels depend on, as JSON."""
        return {
            "path": redact(self.path),
            "crs": None if self.crs is None else self.crs.to_wkt(),
            "transform": list(self.transform)[:6],
            "size": list(self.geobox.shape),
            "corner": list(self.corner),
            "area": None if self.area is None else self.area.wkb.hex(),
            **self.source.describe(),
        }

    def read(self, window: Window) -> Tile:
        """Read one window; see `geohr.scene.SceneReader.read`."""
        with SceneReader(self) as reader:
            return reader.read(window)


class SceneReader:
    """A scene with its files open; a context manager.

    Raises:
        InputError: When a file is gone or no longer a raster.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._source = scene.source.open()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Itself, with GDAL's cache of blocks held to what reading downwards needs."""
        source = self.scene.source
        remote = next((each for each in source.files if is_remote(each)), "")
        chosen: dict[str, object] = dict(settings(remote))
        cache = CACHE_BYTES + min(source.row_block(), CACHE_BYTES_MAX)
        with self._stack as stack:
            stack.enter_context(rasterio.Env(GDAL_CACHEMAX=cache, **chosen))
            stack.callback(self.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._stack.close()

    def close(self) -> None:
        """Close the files."""
        self._source.close()

    def read(self, window: Window) -> Tile:
        """The pixels of `window`; what lies beyond the scene's edge is reflected.

        Returns:
            Tile of the window's own size; without data where the scene's area is not.

        Raises:
            InputError: When the file cannot be read there.
        """
        scene = self.scene
        bands = len(scene.bands)
        if scene.area is not None and not scene.area.touches(window):
            return nothing(window, bands, scene.dtype)
        inside = reach(window, scene.geobox.shape)
        pixels = np.empty((bands, inside.height, inside.width), scene.dtype)
        valid = np.empty((inside.height, inside.width), bool)
        self.read_into(inside, pixels, valid)
        return cut(pixels, valid, inside, window, scene.geobox.shape)

    def read_into(self, window: Window, pixels: Pixels, valid: Mask) -> None:
        """Read a window that lies inside the scene; see `geohr.scene.source.PixelReader`."""
        self._source.read_into(window.shifted(*self.scene.corner), pixels, valid)


def band_names(raster: rasterio.DatasetReader, bands: Sequence[int]) -> tuple[str, ...]:
    """Descriptions of bands, else their colours, in lower case."""
    # Each of these properties asks GDAL about all bands, so each is asked for once.
    descriptions, colours = raster.descriptions, raster.colorinterp
    return tuple(
        (descriptions[band - 1] or colours[band - 1].name).strip().lower() for band in bands
    )
