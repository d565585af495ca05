"""Labelled ground of one scene, in memory: what a model is fitted to a place on, and judged on.

Ground is labelled inside areas that were marked as complete, and under labelled polygons; all else
is unknown. It is cut into plots, the units that cross-validation leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyogrio
import pyogrio.errors
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize

from geohr._runtime.messages import amount
from geohr.encoding import IGNORE, Bytes, Floats32, Geometries, Mask
from geohr.errors import InputError
from geohr.geobox import Window
from geohr.scene import Scene
from geohr.scene.vectors import LABELLED, LABELS, PARQUET, check_layer, read_parquet

# Unlabelled pixels round labelled ground that are read with it, as context.
MARGIN = 128
# Longest side of labelled ground that is held as one piece.
PIECE_SIDE = 1024
# Plots that labelled ground is cut into at least, as long as they stay `PLOT_SIDE` long.
PLOTS = 12
PLOT_SIDE = 64
# Pixels of labelled ground that fit into memory and into a person's day.
PIXELS_MAX = 1 << 27
NO_PLOT = -1


@dataclass(frozen=True)
class Piece:
    """A part of a scene with labelled ground.

    Attributes:
        bands: `(band, row, col)` float32, the scene's values.
        valid: `(row, col)`, True = valid.
        classes: `(row, col)` class ids, 255 where nothing is labelled.
        plots: `(row, col)` number of the plot; -1 where nothing is labelled.
    """

    bands: Floats32
    valid: Mask
    classes: Bytes
    plots: NDArray[np.int32]

    def without(self, plots: Sequence[int]) -> Bytes:
        """The classes with the ground of some plots unlabelled."""
        return np.where(np.isin(self.plots, plots), np.uint8(IGNORE), self.classes)


def read_labelled(scene: Scene, labels: str, areas: str | None) -> tuple[list[Piece], int]:
    """The labelled ground that files describe, and how many objects lie on it.

    Args:
        scene: On the pixel grid on which it is predicted.
        labels: Vectors: objects in the layer `labels`, else in the first; and, in the layer
            `labelled`, the ground that is completely labelled.
        areas: Vectors of that ground, instead of the layer.

    Raises:
        InputError: When a file cannot be read, or no such ground lies on the scene.
    """
    if scene.crs is None:
        raise InputError(
            f"{scene.path}: has no CRS, so labels cannot be placed on it; set it with gdal_edit.py "
            "-a_srs"
        )
    if areas is None and LABELLED not in layer_names(labels):
        raise InputError(
            f"{labels}: does not say which ground is completely labelled; draw that into a layer "
            f"{LABELLED!r} of the file, or name a file of polygons with --areas"
        )
    objects = on_scene(scene, labels, LABELS)
    complete = on_scene(scene, areas or labels, LABELLED)
    if len(objects) == 0 or len(complete) == 0:
        raise InputError(
            f"{labels}: {amount(len(objects), 'object')} and "
            f"{amount(len(complete), 'completely labelled area')} on {scene.path}; some of both "
            "are needed"
        )
    return read_ground(scene, objects, complete), len(objects)


def layer_names(path: str) -> list[str]:
    """The layers of a vector file; none of GeoParquet.

    Raises:
        InputError: When it cannot be read.
    """
    if Path(path).suffix.lower() == PARQUET:
        return []
    try:
        return [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    except pyogrio.errors.DataSourceError as error:
        raise InputError(f"{path}: not vectors that can be read ({error})") from error


def on_scene(scene: Scene, path: str, layer: str) -> Geometries:
    """Valid polygons of a layer, or of the first, that touch the scene, in its CRS."""
    names = layer_names(path)
    if names:
        table = pyogrio.read_dataframe(
            path, layer=layer if layer in names else names[0], columns=[]
        )
    else:
        table = read_parquet(path)
    check_layer(path, table.crs, [], [])
    shapes = usable(table.geometry.to_crs(scene.crs).to_numpy())
    inside: Geometries = shapes[shapely.intersects(shapes, shapely.box(*scene.geobox.bounds))]
    return inside


def usable(shapes: Geometries) -> Geometries:
    """Valid polygons, without what is none."""
    valid = shapely.make_valid(shapes[~shapely.is_missing(shapes)])
    kept: Geometries = valid[shapely.area(valid) > 0]
    return kept


def read_ground(scene: Scene, objects: Geometries, areas: Geometries) -> list[Piece]:
    """Read the labelled ground of a scene.

    Args:
        scene: On the pixel grid on which it is predicted.
        objects: `(n,)` labelled polygons, in the scene's CRS.
        areas: `(m,)` polygons of completely labelled ground, in the scene's CRS.

    Raises:
        InputError: When none of it lies on the scene, or it is more than fits into memory.
    """
    known = shapely.union_all(np.concatenate([areas, objects]))
    extent = shapely.box(*scene.geobox.bounds)
    known = shapely.intersection(known, extent)
    # Outlines that end at the edge of an area leave slivers there, by rounding.
    least = abs(scene.geobox.transform.determinant)
    windows = [
        each
        for part in np.atleast_1d(shapely.get_parts(known))
        if part.area >= least
        for each in halves(pixel_window(scene, part.bounds), PIECE_SIDE)
    ]
    if not windows:
        raise InputError(
            f"{scene.path}: no labelled ground lies on it; check the CRS of the labels"
        )
    if sum(each.height * each.width for each in windows) > PIXELS_MAX:
        raise InputError(
            f"{scene.path}: more than {PIXELS_MAX:,} pixels are labelled; use geohr train"
        )
    cells = spread(windows)
    pieces, first = [], 0
    for window, cuts in cells:
        pieces.append(read_piece(scene, window, cuts, first, (objects, known)))
        first += len(cuts)
    return pieces


def pixel_window(scene: Scene, bounds: tuple[float, float, float, float]) -> Window:
    """The pixels of a scene that a box in its CRS touches."""
    corners = shapely.get_coordinates(shapely.box(*bounds))
    cols, rows = scene.geobox.to_pixels(corners[:, 0], corners[:, 1])
    top, left = max(int(rows.min()), 0), max(int(cols.min()), 0)
    bottom = min(int(np.ceil(rows.max())), scene.height)
    right = min(int(np.ceil(cols.max())), scene.width)
    return Window(top, left, max(bottom - top, 1), max(right - left, 1))


def halves(window: Window, side: int) -> list[Window]:
    """A window cut in two along its longer side until no part is longer than `side`."""
    if max(window.height, window.width) <= side:
        return [window]
    return [each for part in cut(window) for each in halves(part, side)]


def cut(window: Window) -> tuple[Window, Window]:
    """The two halves of a window, along its longer side."""
    row, col, height, width = window.row, window.col, window.height, window.width
    if height > width:
        half = height // 2
        return Window(row, col, half, width), Window(row + half, col, height - half, width)
    half = width // 2
    return Window(row, col, height, half), Window(row, col + half, height, width - half)


def spread(windows: Sequence[Window]) -> list[tuple[Window, list[Window]]]:
    """Windows with the plots in each: the largest plot is halved until there are enough."""
    made = [(window, [window]) for window in windows]
    while sum(len(plots) for _, plots in made) < PLOTS:
        longest = max(
            (plot for _, plots in made for plot in plots), key=lambda each: each.height * each.width
        )
        if max(longest.height, longest.width) < 2 * PLOT_SIDE:
            break
        for _, plots in made:
            if longest in plots:
                plots.remove(longest)
                plots += cut(longest)
                break
    return made


def read_piece(
    scene: Scene,
    window: Window,
    cuts: Sequence[Window],
    first: int,
    known: tuple[Geometries, shapely.Geometry],
) -> Piece:
    """The pixels of a window and its margin, with classes and numbers of plots from `first` on."""
    objects, ground = known
    top, left = max(window.row - MARGIN, 0), max(window.col - MARGIN, 0)
    bottom = min(window.row_stop + MARGIN, scene.height)
    right = min(window.col_stop + MARGIN, scene.width)
    outer = Window(top, left, bottom - top, right - left)
    tile = scene.read(outer)
    shape = (outer.height, outer.width)
    transform = scene.geobox.window(outer).transform
    classes = rasterize(objects, out_shape=shape, transform=transform, dtype=np.uint8)
    inside = rasterize([ground], out_shape=shape, transform=transform, dtype=np.uint8) > 0
    plots = np.full(shape, NO_PLOT, np.int32)
    for number, each in enumerate(cuts, first):
        top, left = each.row - outer.row, each.col - outer.col
        plots[top : top + each.height, left : left + each.width] = number
    plots[~inside | ~tile.valid] = NO_PLOT
    classes[plots == NO_PLOT] = IGNORE
    return Piece(tile.pixels.astype(np.float32), tile.valid, classes, plots)
