"""Counts of pixels and objects, by blocks of ground, in one pass of windows.

A block is the unit of the bootstrap: neighbouring pixels and objects are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import shapely
from scipy import ndimage

from geohr import geodesy
from geohr.encoding import IGNORE, Bools, Geometries
from geohr.evaluation.layers import Layer
from geohr.evaluation.objects import match
from geohr.geobox import Bounds, GeoBox, Window
from geohr.tiling.grid import Grid

# The side, in pixels, of the windows that are compared one at a time.
WINDOW = 2048
# 64 by 64 blocks are enough for a bootstrap, and keep its table of counts small.
# The largest number of blocks along the longer side of the grid.
BLOCKS_ACROSS = 64
# The smallest side of a block, in metres: about a house and its garden.
BLOCK_LEAST = 30.0

PIXEL_COUNTS = ("true", "false", "missed", "edge_shared", "edge_either")


@dataclass(frozen=True)
class Layers:
    """The two layers that are compared, and the grid on which they are.

    Attributes:
        predicted: The layer that is scored.
        truth: The layer that it is scored against.
        aoi: The area of interest, or None where everything is scored.
        geobox: The grid on which pixels are compared.
        gsd: The side of a pixel in metres on the ground.
        edge: The width in pixels of the band along outlines for boundary IoU.
    """

    predicted: Layer
    truth: Layer
    aoi: Layer | None
    geobox: GeoBox
    gsd: float
    edge: float

    @property
    def block(self) -> int:
        """The side of a block in pixels."""
        longer = max(self.geobox.shape)
        return max(-(-longer // BLOCKS_ACROSS), round(BLOCK_LEAST / self.gsd), 1)

    @property
    def blocks_across(self) -> int:
        """The number of blocks in a row of blocks."""
        return -(-self.geobox.width // self.block)


@dataclass(frozen=True)
class WindowCounts:
    """The pixels and objects of one window.

    Attributes:
        pixels: One row per block: `block` and the `PIXEL_COUNTS`.
        truth: One row per true object: block, area_m2, iou of its match or 0, geometry.
        found: One row per found object, with the same columns.
    """

    pixels: pd.DataFrame
    truth: pd.DataFrame
    found: pd.DataFrame


def count_windows(
    layers: Layers, progress: Callable[[int, int], None] | None
) -> Iterator[WindowCounts]:
    """Count window by window; each pixel and each object counts in exactly one of them."""
    geobox = layers.geobox
    grid = Grid(geobox.height, geobox.width, min(WINDOW, max(geobox.shape)), 0)
    rows = [*grid.row_starts[:1], *grid.row_starts[1:], geobox.height]
    cols = [*grid.col_starts[:1], *grid.col_starts[1:], geobox.width]
    rows[0] = cols[0] = 0
    for index in range(len(grid)):
        row, col = divmod(index, grid.shape[1])
        core = Window(rows[row], cols[col], rows[row + 1] - rows[row], cols[col + 1] - cols[col])
        yield count_window(layers, core)
        if progress:
            progress(index + 1, len(grid))


def count_window(layers: Layers, core: Window) -> WindowCounts:
    """Count the pixels and objects of the window `core`, which lies inside the grid."""
    geobox = layers.geobox
    margin = int(np.ceil(layers.edge)) + 1
    wide = Window(
        core.row - margin, core.col - margin, core.height + 2 * margin, core.width + 2 * margin
    ).within(geobox.extent)
    truth, found = layers.truth.mask(geobox, wide), layers.predicted.mask(geobox, wide)
    counts = truth != IGNORE
    if layers.aoi is not None:
        inside = layers.aoi.mask(geobox, wide)
        # A raster counts wherever it is annotated, polygons where they are.
        counts &= inside != IGNORE if layers.aoi.raster else inside == 1
    middle = core.relative_to(wide).slices
    pixels = count_pixels(truth == 1, found == 1, counts, layers.edge)
    summed = sum_blocks(pixels[:, *middle], core, layers)
    return WindowCounts(summed, *count_objects(layers, core, counts[middle]))


def count_pixels(truth: Bools, found: Bools, counts: Bools, edge: float) -> Bools:
    """Sort pixels into the kinds of `PIXEL_COUNTS`: `(count, row, col)`, True where one applies.

    The edge of a mask is the part of it within `edge` pixels of its outline (Cheng et al., Boundary
    IoU, 2021, equation 2).
    """
    rims = [rim(mask, edge) for mask in (truth, found)]
    return counts & np.stack(
        [truth & found, ~truth & found, truth & ~found, rims[0] & rims[1], rims[0] | rims[1]]
    )


def rim(mask: Bools, width: float) -> Bools:
    """The pixels of the mask whose centre is within `width` pixels of its outline.

    These are the pixels that an erosion by a disc removes; the disc is applied row by row.
    """
    # The nearest pixel outside is half a pixel further off than the outline.
    radius = max(width, 0.5) + 0.5
    inside = mask.view(np.uint8)
    reach = min(int(radius), mask.shape[0] - 1)
    kept = np.ones(mask.shape, bool)
    for offset in range(reach + 1):
        across = int(np.sqrt(radius**2 - offset**2))
        row: Bools = ndimage.minimum_filter1d(inside, 2 * across + 1, axis=1, mode="nearest") > 0
        kept[: len(kept) - offset] &= row[offset:]
        kept[offset:] &= row[: len(kept) - offset]
    near: Bools = mask & ~kept
    return near


def sum_blocks(pixels: Bools, core: Window, layers: Layers) -> pd.DataFrame:
    """Sum the counts of the window `core` over blocks."""
    block = layers.block
    rows = np.arange(core.row, core.row_stop) // block
    cols = np.arange(core.col, core.col_stop) // block
    first_row, first_col = np.unique(rows, return_index=True), np.unique(cols, return_index=True)
    sums = np.add.reduceat(pixels, first_col[1], axis=2, dtype=np.int32)
    sums = np.add.reduceat(sums, first_row[1], axis=1).reshape(len(pixels), -1)
    numbers = first_row[0][:, None] * layers.blocks_across + first_col[0]
    columns = dict(zip(PIXEL_COUNTS, sums.astype(np.int64), strict=True))
    return pd.DataFrame({"block": numbers.ravel(), **columns})


def count_objects(layers: Layers, core: Window, counts: Bools) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of the true and found objects whose inner point is on a counted pixel of `core`."""
    geobox = layers.geobox
    truth, found = neighbourhood(layers, geobox.window(core).bounds)
    matches = match(truth, found)
    tables = []
    for shapes, index in ((truth, matches.truth), (found, matches.found)):
        iou = np.zeros(len(shapes))
        iou[index] = matches.iou
        inner = shapely.point_on_surface(shapes)
        place = geobox.to_pixels(shapely.get_x(inner), shapely.get_y(inner))
        col, row = (np.floor(each).astype(np.int64) for each in place)
        own = (row >= core.row) & (row < core.row_stop) & (col >= core.col) & (col < core.col_stop)
        own[own] = counts[row[own] - core.row, col[own] - core.col]
        kept = shapes[own]
        tables.append(
            pd.DataFrame(
                {
                    "block": row[own] // layers.block * layers.blocks_across
                    + col[own] // layers.block,
                    "area_m2": geodesy.areas(kept, geobox.crs),
                    "iou": iou[own],
                    "geometry": kept,
                }
            )
        )
    return tables[0], tables[1]


def neighbourhood(layers: Layers, bounds: Bounds) -> tuple[Geometries, Geometries]:
    """The objects that touch the bounds, and all others that can affect their matches.

    A partner of such an object may reach further out, and so may another candidate of that partner.
    """
    # Three rounds: an object, its partners, and their other candidates.
    for _ in range(3):
        truth = layers.truth.objects(layers.geobox.crs, bounds)
        found = layers.predicted.objects(layers.geobox.crs, bounds)
        if not len(truth) and not len(found):
            break
        edges = shapely.bounds(np.concatenate([truth, found]))
        low = np.minimum(edges[:, :2].min(axis=0), bounds[:2])
        high = np.maximum(edges[:, 2:].max(axis=0), bounds[2:])
        bounds = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    return truth, found
