"""Objects drawn over their scene, with a scale bar. Needs matplotlib, the extra `notebook`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geohr.errors import UsageError
from geohr.geodesy import local_scale
from geohr.outputs.layers import CONFIDENCE_COLOURS, FALLBACK_COLOUR
from geohr.scene import Scene
from geohr.viewer.pictures import overview

if TYPE_CHECKING:
    import geopandas
    from matplotlib.axes import Axes

# Longest side in pixels of the scene as it is drawn.
SIDE = 2000
# The largest share of the picture's width that the scale bar takes.
BAR_SHARE = 0.25
TRUTH_COLOUR = "white"


def plot(
    scene: str | Path,
    objects: geopandas.GeoDataFrame | None = None,
    *,
    truth: geopandas.GeoDataFrame | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Outlines over the image, coloured by confidence, with a scale bar in metres of true ground.

    Args:
        scene: A raster file, or any name GDAL can open.
        objects: Polygons in any coordinate reference system, such as `segment` gives; those
            without the column `confidence` are drawn in one colour.
        truth: Polygons to compare with, drawn in white below the others.
        axes: The axes to draw on; by default those of a new figure.

    Returns:
        The axes, in the scene's coordinates.

    Raises:
        InputError: When the scene cannot be read.
        UsageError: When matplotlib is not installed, or polygons have a coordinate reference
            system and the scene has none, or the other way round.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise UsageError("plot needs matplotlib; pip install 'geohr[notebook]'") from error
    described = Scene.open(scene)
    picture = overview(described, SIDE)
    left, bottom, right, top = picture.bounds
    if axes is None:
        _, axes = plt.subplots(figsize=(10, 10 * described.height / described.width))
    axes.imshow(picture.pixels, extent=(left, right, bottom, top))
    if truth is not None:
        draw_outlines(axes, on_scene(truth, described), {TRUTH_COLOUR: "truth"}, [TRUTH_COLOUR])
    if objects is not None:
        draw_objects(axes, on_scene(objects, described))
    if described.gsd is not None:
        draw_scale_bar(axes, described)
    axes.set(xlim=(left, right), ylim=(bottom, top))
    axes.set_axis_off()
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper right", fontsize="small", facecolor="#999999")
    return axes


def on_scene(objects: geopandas.GeoDataFrame, scene: Scene) -> geopandas.GeoDataFrame:
    """The objects in the scene's coordinates.

    Raises:
        UsageError: When only one of the two has a coordinate reference system.
    """
    if (objects.crs is None) != (scene.crs is None):
        without = "the polygons have" if objects.crs is None else f"{scene.path} has"
        raise UsageError(
            f"{without} no CRS and the other does; give it one, such as with GeoDataFrame.set_crs"
        )
    return objects if scene.crs is None else objects.to_crs(scene.crs)


def draw_objects(axes: Axes, objects: geopandas.GeoDataFrame) -> None:
    """Outlines by class of confidence, in the colours of the style that a GPKG carries."""
    if "confidence" not in objects:
        draw_outlines(axes, objects, {FALLBACK_COLOUR: "objects"}, [FALLBACK_COLOUR] * len(objects))
        return
    lows = [low for low, _ in CONFIDENCE_COLOURS]
    labels = {
        colour: f"confidence below {lows[1]:g}" if place == 0 else f"{low:g} and more"
        for place, (low, colour) in enumerate(CONFIDENCE_COLOURS)
    }
    steps = sum((objects["confidence"].to_numpy() >= low).astype(int) for low in lows[1:])
    draw_outlines(axes, objects, labels, [CONFIDENCE_COLOURS[step][1] for step in steps])


def draw_outlines(
    axes: Axes, objects: geopandas.GeoDataFrame, labels: dict[str, str], colours: list[str]
) -> None:
    """Draw outlines in one colour each, or one for all, with a legend of the colours that occur."""
    each = colours * len(objects) if len(colours) == 1 else colours
    if len(objects):
        objects.boundary.plot(ax=axes, color=each, linewidth=1.5, aspect=None)
    for colour, label in labels.items():
        if colour in each:
            axes.plot([], [], color=colour, label=label)


def draw_scale_bar(axes: Axes, scene: Scene) -> None:
    """A bar of a round length in the lower left corner, horizontal, true at the scene's centre."""
    metres_across = scene.width * ground_width(scene)
    length = round_length(metres_across * BAR_SHARE)
    share = length / metres_across
    place = axes.transAxes
    x, y, high = 0.03, 0.03, 0.012
    from matplotlib.patches import Rectangle

    axes.add_patch(
        Rectangle((x, y), share, high, transform=place, facecolor="white", edgecolor="black")
    )
    label = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    text = axes.text(x + share / 2, y + 1.6 * high, label, transform=place, ha="center")
    text.set_bbox({"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1.5})


def ground_width(scene: Scene) -> float:
    """Width in true ground metres of the pixel at the scene's centre."""
    x, y = scene.transform @ (scene.width / 2, scene.height / 2)
    scale = local_scale(scene.crs, np.array([x]), np.array([y]))[0]
    return float(np.hypot(*(scale @ np.array([scene.transform.a, scene.transform.d]))))


def round_length(most: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not above `most`."""
    power = 10.0 ** math.floor(math.log10(most))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= most)
