"""The windows of a map that are most worth labelling next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyproj
import shapely

from geohr._runtime.files import check_writable, written_whole
from geohr.encoding import Floats, Geometries, Ints
from geohr.errors import InputError, UsageError
from geohr.geobox import Window
from geohr.geodesy import parse_crs
from geohr.outputs.layers import append_layer
from geohr.scene import Scene
from geohr.scene.footprints import FootprintLayer
from geohr.workflows.check.options import NextOptions
from geohr.workflows.check.sample import placed
from geohr.workflows.check.windows import MapWindows, read_windows

# Windows looked at in the scene, for each that is wanted: those with the most to learn.
CANDIDATES = 20


def next_windows(
    scene: str | Path,
    result: Path,
    probabilities: Path,
    out: Path,
    *,
    options: NextOptions | None = None,
    overwrite: bool = False,
) -> int:
    """Choose windows to label, and write them as tasks.

    They are those where the map is in doubt: where it is expected to miss objects, and where
    probabilities are near a half. Each next one is as unlike those before it in its colours as it
    is doubtful. `out` has the layers of a sample: `places`, with `turn`, `score` and `answer`, and
    `objects` without a row.

    Args:
        scene: The raster that the map was made of.
        result: Vector file of objects, as geohr writes it.
        probabilities: Raster written with it.
        out: A .gpkg; it appears when it is whole.
        options: How many.
        overwrite: Replace `out` if it exists.

    Returns:
        How many were written: fewer where the map has fewer.

    Raises:
        UsageError: When `out` exists or is no .gpkg.
        InputError: When an input cannot be read, or does not lie where the others do.
        OutputError: When `out` cannot be written.
    """
    options = options or NextOptions()
    if out.suffix.lower() != ".gpkg":
        raise UsageError(f"{out}: windows go to a GeoPackage; name a file that ends in .gpkg")
    check_writable(out, overwrite=overwrite, inputs=[scene, result, probabilities])
    described = Scene.open(scene)
    layer = FootprintLayer(str(result))
    windows = read_windows(probabilities, layer)
    score = ranks(windows.expected) + ranks(windows.doubt)
    likely = np.argsort(-score, kind="stable")[: options.windows * CANDIDATES]
    looks = np.array([look(described, each) for each in on_scene(described, windows, likely)])
    known = np.isfinite(looks).all(axis=1)
    if not known.any():
        raise InputError(f"{scene}: no pixel of it lies on {probabilities}; is it the same place?")
    likely, looks = likely[known], looks[known]
    chosen = likely[spread_out(score[likely], looks, options.windows)]
    write_windows(out, layer.crs, windows, chosen, score)
    return len(chosen)


def ranks(values: Floats) -> Floats:
    """`(n,)` places of values in their order, from 0 to 1."""
    order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return np.asarray(order / max(len(values) - 1, 1), np.float64)


def on_scene(scene: Scene, windows: MapWindows, index: Ints) -> Geometries:
    """Windows in the scene's CRS."""
    if scene.crs is None:
        raise InputError(f"{scene.path}: has no CRS; set it with gdal_edit.py -a_srs")
    return placed(windows.shapes[index], windows.crs, parse_crs(scene.crs.to_wkt()))


def look(scene: Scene, shape: shapely.Geometry) -> Floats:
    """`(2 x band,)` mean and spread of the colours under a window; nan beyond the scene."""
    corners = shapely.get_coordinates(shape)
    cols, rows = scene.geobox.to_pixels(corners[:, 0], corners[:, 1])
    top, left = max(int(rows.min()), 0), max(int(cols.min()), 0)
    height = min(int(rows.max()) + 1, scene.height) - top
    width = min(int(cols.max()) + 1, scene.width) - left
    nothing = np.full(2 * len(scene.bands), np.nan)
    if height < 1 or width < 1:
        return nothing
    tile = scene.read(Window(top, left, height, width))
    if not tile.valid.any():
        return nothing
    seen = tile.pixels[:, tile.valid].astype(np.float64)
    return np.concatenate([seen.mean(axis=1), seen.std(axis=1)])


def spread_out(score: Floats, looks: Floats, count: int) -> Ints:
    """`(m,)` places of members with a high score that are unlike each other.

    The farthest-first traversal of Gonzalez, "Clustering to minimize the maximum intercluster
    distance", Theoretical Computer Science 38, 1985, with distances times the score.
    """
    scale = looks.std(axis=0)
    standard = (looks - looks.mean(axis=0)) / np.where(scale > 0, scale, 1)
    chosen = [int(score.argmax())]
    apart = np.full(len(score), np.inf)
    while len(chosen) < min(count, len(score)):
        apart = np.minimum(apart, np.linalg.norm(standard - standard[chosen[-1]], axis=1))
        # What looks the same as one that was chosen still differs by its score.
        worth = score * (apart + 1e-6)
        worth[chosen] = -1.0
        chosen.append(int(worth.argmax()))
    return np.array(chosen, np.int64)


def write_windows(
    out: Path, crs: pyproj.CRS, windows: MapWindows, chosen: Ints, score: Floats
) -> None:
    """Write windows as tasks, in the order in which they were chosen."""
    turn, nothing = np.arange(1, len(chosen) + 1), np.full(len(chosen), np.nan)
    none, text = np.zeros(0), np.zeros(0, object)
    with written_whole(out) as part:
        append_layer(
            part, "objects", crs, text,
            {"object_id": none.astype(np.int64), "class": text, "turn": none, "answer": none},
        )  # fmt: skip
        append_layer(
            part, "places", crs, placed(windows.shapes[chosen], windows.crs, crs),
            {"turn": turn, "score": score[chosen], "answer": nothing, "missed": nothing},
        )  # fmt: skip
