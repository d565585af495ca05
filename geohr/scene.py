"""A raster described, and read by windows.

`Scene` is a description without an open handle: it can be pickled and sent to a worker.
`SceneReader` holds the handle. Pixels are `(band, row, col)` in the file's own type, masks are
`(row, col)` with True = valid.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import rasterio
import rasterio.errors
from affine import Affine
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.env import ensure_env_with_credentials
from rasterio.windows import Window as RasterWindow

from geohr.errors import InputError
from geohr.grid import Grid, Window
from geohr.ground import local_scale
from geohr.options import SceneOptions
from geohr.redact import redact
from geohr.scene_checks import check_raster

DRIVERS = (
    "GTiff", "VRT", "JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID", "ECW", "MrSID", "HFA", "ENVI",
    "NITF", "MRF", "PNG", "JPEG", "WEBP", "MEM",
)  # fmt: skip
"""Formats that are read; GDAL has others that run queries or fetch what a file names."""
SAFETY = {"GDAL_VRT_ENABLE_PYTHON": "NO"}
"""No file may make GDAL run code."""
BAND_BYTES_MAX = 2**32
"""A row of windows that needs more memory than this is refused."""
BLOCK_ROWS_MAX = 2048
"""Blocks up to this height are read whole; of higher ones only the rows that are needed."""
CACHE_BYTES = 2**26
"""GDAL's cache of blocks beside one row of the scene's: it would take a share of all memory."""

FAILURES = (rasterio.errors.RasterioError, CPLE_BaseError)
"""What rasterio raises for a file that it cannot make sense of."""
LOG = logging.getLogger("geohr")

Pixels = NDArray[Any]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Tile:
    """The pixels of one window.

    Attributes:
        window: Where in the scene; it may reach beyond the edge, where pixels are reflected.
        pixels: `(band, row, col)`, in the scene's data type.
        valid: `(row, col)`, True = valid.
    """

    window: Window
    pixels: Pixels
    valid: Mask


@dataclass(frozen=True)
class Scene:
    """A raster file, described.

    Attributes:
        path: The file, or any name GDAL can open.
        crs: Its coordinate reference system, or None.
        transform: From (col, row) to its coordinates.
        height: Rows.
        width: Columns.
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
    """

    path: str
    crs: CRS | None
    transform: Affine
    height: int
    width: int
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
        return cls(
            path=str(path),
            crs=raster.crs,
            transform=raster.transform,
            height=raster.height,
            width=raster.width,
            bands=bands,
            band_names=() if options.bands else band_names(raster, bands),
            band_count=len(data_bands),
            dtype=str(dtype),
            nodata=nodata,
            nodata_match=options.nodata_match,
            on_read_error=options.on_read_error,
            mask_band=bool(alpha) or MaskFlags.per_dataset in flags,
            block_height=max(height for height, _ in raster.block_shapes),
            gsd=ground_sampling_distance(
                raster.crs, raster.transform, height=raster.height, width=raster.width
            )
            if raster.crs is not None
            else None,
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

    def read(self, window: Window) -> Tile:
        """One window; see `SceneReader.read`."""
        with SceneReader(self) as reader:
            return reader.read(window)


def band_names(raster: rasterio.DatasetReader, bands: Sequence[int]) -> tuple[str, ...]:
    """Descriptions of bands, else their colours, in lower case."""
    return tuple(
        (raster.descriptions[band - 1] or raster.colorinterp[band - 1].name).strip().lower()
        for band in bands
    )


def open_raster(path: str | Path) -> rasterio.DatasetReader:
    """The raster at `path`, open.

    Raises:
        InputError: When it is missing or no raster.
    """
    local = "://" not in str(path) and not str(path).startswith("/vsi")
    if local and Path(path).is_dir():
        raise InputError(f"{path}: is a folder; name a file, or give folders to geohr batch")
    try:
        with rasterio.Env(**SAFETY), warnings.catch_warnings():
            # A scene without a place on the ground is told of once, and not at each opening.
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            return open_with(str(path), DRIVERS)
    except FAILURES as error:
        if local and not Path(path).exists():
            raise InputError(f"{path}: no such file; check the path") from error
        raise InputError(f"{path}: not a raster that GDAL can read ({error})") from error


@ensure_env_with_credentials  # type: ignore[untyped-decorator]
def open_with(path: str, drivers: Sequence[str]) -> rasterio.DatasetReader:
    """The raster at `path`, opened by one of the drivers; `rasterio.open` takes but one."""
    return rasterio.DatasetReader(path, driver=list(drivers))


class SceneReader:
    """A scene with its file open; a context manager.

    Args:
        scene: What to read.

    Raises:
        InputError: When the file is gone or no longer a raster.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._raster = open_raster(scene.path)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Itself, with GDAL's cache of blocks held to what reading downwards needs."""
        scene = self.scene
        row_of_blocks = (
            min(scene.block_height, BLOCK_ROWS_MAX)
            * scene.width
            * (scene.band_count + scene.mask_band)
            * np.dtype(scene.dtype).itemsize
        )
        with self._stack as stack:
            stack.enter_context(rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES + row_of_blocks))
            stack.callback(self._raster.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._stack.close()

    def read(self, window: Window) -> Tile:
        """The pixels of `window`; what lies beyond the scene's edge is reflected.

        Returns:
            Tile of the window's own size.

        Raises:
            InputError: When the file cannot be read there.
        """
        inside = reach(window, self.scene)
        shape = (inside.height, inside.width)
        pixels = np.empty((len(self.scene.bands), *shape), self.scene.dtype)
        valid = np.empty(shape, bool)
        self.read_inside(inside, pixels, valid)
        return cut(pixels, valid, inside, window, self.scene)

    def read_inside(self, window: Window, pixels: Pixels, valid: Mask) -> None:
        """Read a window that lies inside the scene.

        Args:
            window: Where.
            pixels: `(band, row, col)` of the window's size; overwritten.
            valid: `(row, col)`, True = valid; overwritten.

        Raises:
            InputError: When the file cannot be read there.
        """
        scene, raster = self.scene, self._raster
        where = RasterWindow(window.col, window.row, window.width, window.height)
        try:
            raster.read(list(scene.bands), window=where, out=pixels)
            valid[...] = is_valid(pixels, scene)
            if scene.mask_band:
                valid &= raster.dataset_mask(window=where) > 0
        except FAILURES as error:
            if scene.on_read_error == "nodata":
                self._read_what_can_be(window, pixels, valid)
                return
            raise InputError(
                f"{scene.path}: cannot be read at rows {window.row} to {window.row_stop} "
                f"({error.__cause__ or error}); the file may be truncated or damaged, in which "
                "case --on-read-error nodata goes on without the blocks that are lost"
            ) from error

    def _read_what_can_be(self, window: Window, pixels: Pixels, valid: Mask) -> None:
        """Read a window block by block; blocks that cannot be read become no data."""
        scene = self.scene
        height = min(scene.block_height, BLOCK_ROWS_MAX)
        width = self._raster.block_shapes[0][1]
        fail = replace(scene, on_read_error="fail")
        lost = 0
        with SceneReader(fail) as reader:
            for row in range(window.row // height * height, window.row_stop, height):
                for col in range(window.col // width * width, window.col_stop, width):
                    part = Window(row, col, height, width).within(window)
                    rows = slice(part.row - window.row, part.row_stop - window.row)
                    cols = slice(part.col - window.col, part.col_stop - window.col)
                    held = np.zeros((len(pixels), part.height, part.width), pixels.dtype)
                    fine = np.zeros((part.height, part.width), bool)
                    try:
                        reader.read_inside(part, held, fine)
                    except InputError:
                        lost += 1
                        held[:], fine[:] = 0, False
                    pixels[:, rows, cols], valid[rows, cols] = held, fine
        LOG.warning(
            "%s: %d damaged blocks at rows %d to %d taken as no data",
            redact(scene.path), lost, window.row, window.row_stop,
        )  # fmt: skip


class Band:
    """The rows of a scene that a grid's windows need; going down, each pixel is read once.

    Args:
        reader: The open scene.
        grid: How it is cut.
    """

    def __init__(self, reader: SceneReader, grid: Grid) -> None:
        scene = reader.scene
        self._reader = reader
        self._grid = grid
        # Blocks up to the limit are read whole, others as far as they are needed.
        self._step = scene.block_height if scene.block_height <= BLOCK_ROWS_MAX else 1
        rows = min(grid.tile + self._step, scene.height)
        size = rows * scene.width * len(scene.bands) * np.dtype(scene.dtype).itemsize
        if size > BAND_BYTES_MAX:
            raise InputError(
                f"{scene.path}: {rows} rows of {scene.width} pixels need {size / 1e9:.1f} GB; "
                "use a smaller --tile, or cut the scene into narrower ones"
            )
        self._pixels = np.empty((len(scene.bands), rows, scene.width), scene.dtype)
        self._valid = np.empty((rows, scene.width), bool)
        self._first = 0
        self._count = 0

    def tiles(self, index: int, start: int = 0, stop: int | None = None) -> Iterator[Tile]:
        """The windows `[start, stop)` of a grid row; by default all. They own their pixels.

        Args:
            index: Of the grid row; not above the last one asked for.
            start: First grid column.
            stop: The grid column after the last.

        Raises:
            InputError: When the file cannot be read.
        """
        scene = self._reader.scene
        windows = self._grid.row(index)[start:stop]
        needed = reach(Window(windows[0].row, 0, self._grid.tile, scene.width), scene)
        self._hold(needed.row, needed.row_stop)
        held = Window(self._first, 0, self._count, scene.width)
        for window in windows:
            yield cut(self._pixels, self._valid, held, window, scene)

    def _hold(self, start: int, stop: int) -> None:
        """Hold the rows `[start, stop)`; forget those above, read those that are missing."""
        scene = self._reader.scene
        stop = min(-(-stop // self._step) * self._step, scene.height)
        gone = min(max(start - self._first, 0), self._count)
        kept = self._count - gone
        if gone:
            self._pixels[:, :kept] = self._pixels[:, gone : self._count]
            self._valid[:kept] = self._valid[gone : self._count]
        self._first = self._first + gone if kept else start
        self._count = max(stop - self._first, kept)
        if self._count > kept:
            missing = Window(self._first + kept, 0, self._count - kept, scene.width)
            rows = slice(kept, self._count)
            self._reader.read_inside(missing, self._pixels[:, rows], self._valid[rows])


def is_valid(pixels: Pixels, scene: Scene) -> Mask:
    """Where pixels are neither nodata nor NaN nor infinite.

    Args:
        pixels: `(band, row, col)`.
        scene: Whose nodata value and rule hold.

    Returns:
        `(row, col)`, True = valid.
    """
    valid = np.ones(pixels.shape[1:], bool)
    if pixels.dtype.kind == "f":
        valid &= np.isfinite(pixels).all(axis=0)
    if scene.nodata is not None and not np.isnan(scene.nodata):
        equal = pixels == scene.nodata
        valid &= ~(equal.all(axis=0) if scene.nodata_match == "all" else equal.any(axis=0))
    return valid


def reach(window: Window, scene: Scene) -> Window:
    """The part of the scene from which `window` is filled, reflections included."""
    rows = reflect(window.row, window.row_stop, scene.height)
    cols = reflect(window.col, window.col_stop, scene.width)
    return Window(int(rows.min()), int(cols.min()), int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1)


def cut(pixels: Pixels, valid: Mask, held: Window, window: Window, scene: Scene) -> Tile:
    """A copy of the tile at `window`, out of pixels that cover the part `held` of the scene."""
    inside = window.clip(scene.height, scene.width)
    if inside == window:
        rows: Any = slice(window.row - held.row, window.row_stop - held.row)
        cols: Any = slice(window.col - held.col, window.col_stop - held.col)
        return Tile(window, pixels[:, rows, cols].copy(), valid[rows, cols].copy())
    rows = reflect(window.row, window.row_stop, scene.height) - held.row
    cols = reflect(window.col, window.col_stop, scene.width) - held.col
    # Whole rows first: one axis after the other is several times as fast as both at once.
    across = slice(int(cols.min()), int(cols.max()) + 1)
    cols -= across.start
    pixels, valid = pixels[:, :, across], valid[:, across]
    return Tile(
        window, pixels.take(rows, axis=1).take(cols, axis=2), valid.take(rows, axis=0).take(cols, 1)
    )


def reflect(start: int, stop: int, length: int) -> NDArray[np.int64]:
    """Indices `[start, stop)` folded back into `[0, length)`, the edge pixel not repeated."""
    if length == 1:
        return np.zeros(stop - start, np.int64)
    period = 2 * (length - 1)
    folded = np.arange(start, stop) % period
    return np.minimum(folded, period - folded)


def ground_sampling_distance(crs: CRS, transform: Affine, *, height: int, width: int) -> float:
    """Side in true ground metres of a square as large as the scene's middle pixel.

    Args:
        crs: Any coordinate reference system that is tied to the earth.
        transform: From (col, row) to its coordinates.
        height: Rows of the scene.
        width: Columns of the scene.
    """
    x, y = transform @ (width / 2, height / 2)
    scale = local_scale(crs, np.array([x]), np.array([y]))[0]
    return float(np.sqrt(abs(np.linalg.det(scale) * transform.determinant)))
