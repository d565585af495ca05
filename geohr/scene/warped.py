"""A scene on another pixel grid: of another size of pixels, or in another CRS.

Pixels are made in blocks of a lattice that is fixed by the grid, each from the same part of the
source whoever asks for it, so that they are the same bytes however the grid is read. Positions
are transformed one by one, without GDAL's interpolation between them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import rasterio.warp
from numpy.typing import NDArray
from rasterio.enums import Resampling

from geohr._runtime.threads import FILTERS
from geohr.encoding import Mask, Pixels
from geohr.geobox import GeoBox, Window
from geohr.geodesy import local_scale, parse_crs
from geohr.scene.scene import Scene, SceneReader
from geohr.scene.source import PixelReader

# Side in pixels of the blocks in which pixels are made.
LATTICE = 512
# Widened by GDAL where pixels become larger, so that all of the source counts.
RESAMPLING = Resampling.cubic
# Pixels that the kernel reaches, in the larger of the two sizes of pixels.
RADIUS = 2
# Places along each side of a block that are followed to the source.
EDGE_POINTS = 17
# Share of valid source pixels, weighted by the kernel, from which the kernel makes a pixel; below,
# its weights are few or cancel out, and the mean of what the pixel covers is taken.
HALF = 0.5
# Share of the smaller of two pixels that they must have in common, for the pixel to be valid. Where
# one has its centre in the other, it is a quarter at least where the grids are not askew.
COMMON = 0.2
# How many times as long as wide on the ground pixels are slivers, as in degrees near a pole. GDAL
# takes for what a pixel covers a box about two of its corners, which does not hold them.
SLIVER = 8.0
# Pixels of the source beyond its edge that GDAL is given at most where pixels are slivers.
REACH_MAX = 512


@dataclass(frozen=True)
class WarpedSource:
    """Another pixel grid for a scene; see `geohr.scene.source.PixelSource` for what a source does.

    Attributes:
        scene: The scene that is resampled.
        geobox: The grid; its CRS is None where the source has none.
        nearest: Whether a pixel is the nearest one of the source, as for class ids.
        by_centre: Whether a pixel is valid where its centre lies on a valid pixel of the source;
            else it is where it has part of one, so that every valid pixel of the source has its
            centre in a valid pixel of the grid.
    """

    scene: Scene
    geobox: GeoBox
    nearest: bool = False
    by_centre: bool = False

    nodata: ClassVar[float | None] = None
    nodata_match: ClassVar[Literal["all", "any"]] = "all"
    mask_band: ClassVar[bool] = True
    block_height: ClassVar[int] = LATTICE

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files of the scene."""
        return self.scene.files

    @property
    def bands(self) -> tuple[int, ...]:
        """Numbers of the scene's bands in use."""
        return self.scene.bands

    @property
    def dtype(self) -> str:
        """Name of numpy's data type of the pixels, the scene's own."""
        return self.scene.dtype

    def open(self) -> PixelReader:
        """Open the files of the scene."""
        return WarpedReader(self)

    def row_block(self) -> int:
        """Bytes of the scene that a row of blocks of the grid runs through."""
        source = self.scene.source
        spanned = self.source_window(
            Window(0, 0, min(LATTICE, self.geobox.height), self.geobox.width), (1.0, 1.0)
        )
        row = len(source.bands) * np.dtype(source.dtype).itemsize * self.scene.width
        return source.row_block() + (spanned.height * row if spanned else 0)

    def select(self, places: Sequence[int]) -> WarpedSource:
        """The grid with some of the scene's bands."""
        return replace(self, scene=self.scene.with_bands(places))

    def describe(self) -> dict[str, object]:
        """The scene, and how its pixels are resampled."""
        return {
            "warped": self.scene.describe(),
            "nearest": self.nearest,
            "by_centre": self.by_centre,
        }

    def absolute(self) -> WarpedSource:
        """The grid for the scene under names that hold in any working folder."""
        return replace(self, scene=self.scene.absolute())

    def to_source(self, window: Window) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Columns and rows in the source of points spread over a window; not finite beyond."""
        steps = np.linspace(0, 1, EDGE_POINTS)
        cols, rows = np.meshgrid(
            window.col + steps * window.width, window.row + steps * window.height
        )
        x, y = self.geobox.to_world(cols.ravel(), rows.ravel())
        crs, own = self.geobox.crs, self.scene.crs
        if crs is not None and own is not None and crs != own:
            x, y = rasterio.warp.transform(crs, own, x, y)
            if own.is_geographic:
                # Beyond the antimeridian, longitudes come back on the other side of the globe.
                x = around(np.asarray(x), self.scene)
        return self.scene.geobox.to_pixels(np.asarray(x), np.asarray(y))

    def scale(self, window: Window) -> tuple[float, float]:
        """Pixels of the grid for one of the source, across and down, in the middle of a window."""
        one = Window(window.row + window.height // 2, window.col + window.width // 2, 1, 1)
        col, row = self.to_source(one)
        side = EDGE_POINTS
        across = np.hypot(col[side - 1] - col[0], row[side - 1] - row[0])
        down = np.hypot(col[-side] - col[0], row[-side] - row[0])
        return float(1 / across), float(1 / down)

    def has_slivers(self) -> bool:
        """Whether pixels of the source are slivers on the ground, in degrees near a pole."""
        scene, crs = self.scene, self.scene.crs
        if crs is None or self.geobox.crs is None or not parse_crs(crs).is_geographic:
            return False
        rows = np.array([0.5, scene.height / 2, scene.height - 0.5])
        lon, lat = scene.geobox.to_world(np.full(3, scene.width / 2), rows)
        a, b, _, d, e, _ = scene.transform[:6]
        on_earth = np.abs(lat) < 90
        metres = local_scale(crs, lon[on_earth], lat[on_earth]) @ np.array([[a, b], [d, e]])
        long, short = np.linalg.svd(metres, compute_uv=False).T
        return bool((long > SLIVER * short).any())

    def source_window(self, window: Window, scale: tuple[float, float]) -> Window | None:
        """The source's pixels that a window is made of; None where the source is not.

        At the source's edges it reaches beyond, as far as the kernel does: GDAL makes no pixel
        whose centre lies outside what it is given.
        """
        col, row = self.to_source(window)
        known = np.isfinite(col) & np.isfinite(row)
        if not known.any():
            return None
        reach = RADIUS / min(*scale, 1.0) + 2
        top, left = np.floor(row[known].min() - reach), np.floor(col[known].min() - reach)
        bottom, right = np.ceil(row[known].max() + reach), np.ceil(col[known].max() + reach)
        if bottom <= 0 or right <= 0 or top >= self.scene.height or left >= self.scene.width:
            return None
        whole = Window(int(top), int(left), int(bottom - top), int(right - left))
        beyond = math.ceil(reach)
        height, width = self.scene.height + 2 * beyond, self.scene.width + 2 * beyond
        return whole.within(Window(-beyond, -beyond, height, width))


class WarpedReader:
    """A scene on another grid, with its files open."""

    def __init__(self, warped: WarpedSource) -> None:
        self._warped = warped
        self._source = SceneReader(warped.scene)
        self._bands = len(warped.bands)
        self._dtype = np.dtype(warped.dtype)
        # One for the whole grid, so that no kernel depends on where a block lies.
        self._scale = warped.scale(warped.geobox.extent)
        self._slivers = not warped.by_centre and warped.has_slivers()
        if self._slivers:
            across, down = self._scale
            self._scale = max(across, RADIUS / REACH_MAX), max(down, RADIUS / REACH_MAX)

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def read_into(self, window: Window, pixels: Pixels, valid: Mask) -> None:
        """Read a window of the grid; see `geohr.scene.source.PixelReader`."""
        rows = range(window.row // LATTICE * LATTICE, window.row_stop, LATTICE)
        cols = range(window.col // LATTICE * LATTICE, window.col_stop, LATTICE)
        for row, col in itertools.product(rows, cols):
            block = Window(row, col, LATTICE, LATTICE).within(self._warped.geobox.extent)
            part = block.within(window)
            made, fine = self._block(block)
            inside, target = part.relative_to(block).slices, part.relative_to(window).slices
            pixels[:, *target] = made[:, *inside]
            valid[target] = fine[inside]

    def _block(self, window: Window) -> tuple[Pixels, Mask]:
        """The pixels of one block of the lattice, and which are valid."""
        size = (window.height, window.width)
        nothing = np.zeros((self._bands, *size), self._dtype), np.zeros(size, bool)
        needed = self._warped.source_window(window, self._scale)
        if needed is None:
            return nothing
        pixels, valid = self._read(needed)
        if not valid.any():
            return nothing
        made, fine = self._weighed(pixels, valid, needed, window)
        if self._slivers:
            self._add_slivers(made, fine, pixels, valid, needed, window)
        return made, fine

    def _weighed(
        self, pixels: Pixels, valid: Mask, needed: Window, window: Window
    ) -> tuple[Pixels, Mask]:
        """The pixels that the kernel makes of the source's window `needed`, and which are valid."""
        weights = valid[None].astype(np.float32)
        covered = self._resampled(weights, needed, window, Resampling.average)
        centres = self._resampled(weights, needed, window, Resampling.nearest)
        least = COMMON * min(self._scale[0], 1.0) * min(self._scale[1], 1.0)
        fine = centres[0] > 0 if self._warped.by_centre else covered[0] >= least
        if valid.all():
            made = self._resampled(pixels, needed, window)
            made[:, ~fine] = 0
            return made, fine
        working = np.float32 if self._dtype.itemsize <= 2 else np.float64
        known = np.where(valid, pixels, 0).astype(working)
        share = self._resampled(weights, needed, window)
        summed = self._resampled(known, needed, window)
        few = fine & (share[0] < HALF)
        if few.any():
            means = self._resampled(known, needed, window, Resampling.average)
            summed[:, few], share[:, few] = means[:, few], covered[:, few]
        made = np.divide(summed, share, out=np.zeros_like(summed), where=fine)
        if self._dtype.kind in "iu":
            limits = np.iinfo(self._dtype)
            made = np.rint(made).clip(limits.min, limits.max)
        return made.astype(self._dtype), fine

    def _add_slivers(
        self, made: Pixels, fine: Mask, pixels: Pixels, valid: Mask, needed: Window, window: Window
    ) -> None:
        """Give the pixels that hold the centre of a valid one of the source its value, if none."""
        source, grid = self._warped.scene.geobox, self._warped.geobox
        row, col = np.nonzero(valid)
        x, y = source.to_world(col + needed.col + 0.5, row + needed.row + 0.5)
        x, y = rasterio.warp.transform(source.crs, grid.crs, x, y)
        right, down = grid.to_pixels(np.asarray(x), np.asarray(y))
        to_col, to_row = np.floor(right) - window.col, np.floor(down) - window.row
        inside = (to_row >= 0) & (to_row < window.height) & (to_col >= 0) & (to_col < window.width)
        place = to_row[inside].astype(int), to_col[inside].astype(int)
        empty = ~fine[place]
        lost = place[0][empty], place[1][empty]
        made[:, *lost] = pixels[:, row[inside][empty], col[inside][empty]]
        fine[lost] = True

    def _read(self, window: Window) -> tuple[Pixels, Mask]:
        """A window of the source that may reach beyond it; there nothing is valid."""
        inside = window.within(self._source.scene.geobox.extent)
        pixels = np.empty((self._bands, inside.height, inside.width), self._dtype)
        valid = np.empty((inside.height, inside.width), bool)
        self._source.read_into(inside, pixels, valid)
        rows = (inside.row - window.row, window.row_stop - inside.row_stop)
        cols = (inside.col - window.col, window.col_stop - inside.col_stop)
        return np.pad(pixels, ((0, 0), rows, cols)), np.pad(valid, (rows, cols))

    def _resampled(
        self,
        pixels: NDArray[Any],
        held: Window,
        window: Window,
        resampling: Resampling | None = None,
    ) -> NDArray[Any]:
        """Pixels of the source's window `held` on the grid's window; by default with the kernel."""
        warped = self._warped
        kernel = Resampling.nearest if warped.nearest else RESAMPLING
        crs = warped.geobox.crs or "EPSG:3857"  # any plane will do where there is none
        out = np.zeros((len(pixels), window.height, window.width), pixels.dtype)
        # rasterio changes the filters, too: its arrays in memory have no georeference at first.
        with FILTERS:
            rasterio.warp.reproject(
                pixels,
                out,
                src_transform=warped.scene.geobox.window(held).transform,
                src_crs=warped.scene.crs or crs,
                dst_transform=warped.geobox.window(window).transform,
                dst_crs=crs,
                resampling=kernel if resampling is None else resampling,
                tolerance=0,
                XSCALE=min(self._scale[0], 1.0),
                YSCALE=min(self._scale[1], 1.0),
            )
        return out


def around(lon: NDArray[np.float64], scene: Scene) -> NDArray[np.float64]:
    """Longitudes with as many turns added as bring them nearest to the middle of a scene.

    A scene across the antimeridian goes on beyond 180 degrees.
    """
    middle = (scene.transform @ (scene.width / 2, scene.height / 2))[0]
    return lon + 360 * np.round((middle - lon) / 360)
