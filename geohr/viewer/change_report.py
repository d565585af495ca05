"""One page about a comparison of two dates: a single HTML file.

Everything is taken from the GeoPackage of changes; where a date is a scene, it is shown.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.transform import from_bounds
from rasterio.vrt import WarpedVRT

from geohr._runtime.messages import amount
from geohr._runtime.redact import redact
from geohr.encoding import Bytes
from geohr.geobox import Bounds
from geohr.geodesy import parse_crs
from geohr.scene import Scene
from geohr.scene.files import open_raster, settings
from geohr.scene.vectors import is_vector
from geohr.viewer.pictures import Stretch, overview, shown_bands
from geohr.viewer.report import (
    SIDE,
    figure,
    grid,
    in_crs,
    outlined,
    section,
    shown,
    table,
    write_page,
)
from geohr.workflows.change.output import COLOURS
from geohr.workflows.change.verdicts import KINDS, SAME, UNSURE

FOOT = (
    "Made with <code>geohr change --report</code>. Areas are true ground square metres, whatever "
    "the CRS; intervals hold as far as the confidences of the model are calibrated."
)
# Square metres at which classes of size begin.
SIZES = (0, 20, 50, 100, 400)
# The largest changes are shown one by one: how many, and the side of their pictures in pixels.
SHOWN = 12
CROP = 240
# Share of an object's size that is shown around it.
AROUND = 0.6
# The smallest side of what is shown, in metres.
LEAST_M = 20.0


@dataclass(frozen=True)
class ChangeLayer:
    """What changed, without what is the same.

    Attributes:
        shapes: `(n,)` footprints in `crs`.
        kinds: `(n,)` kinds of change.
        confidence: `(n,)` in [0, 1].
        size: `(n,)` square metres of the larger date.
        crs: Their CRS.
        facts: What the comparison noted.
    """

    shapes: NDArray[np.object_]
    kinds: NDArray[np.object_]
    confidence: NDArray[np.float64]
    size: NDArray[np.float64]
    crs: pyproj.CRS
    facts: dict[str, Any]


def write_change_report(changes: Path, out: Path, *, before: str, after: str) -> None:
    """Write the HTML report of a file of `geohr change`; `before` and `after` are shown if scenes.

    Raises:
        InputError: When a scene cannot be read.
        OutputError: When the page cannot be written.
    """
    found = read_changes(changes)
    scenes = [Scene.open(each) for each in (before, after) if not is_vector(each)]
    drawn = draw(found, scenes[-1] if scenes else None)
    sections = [
        section("Overview", figure(drawn) + legend() + table(overview_rows(found))),
        section("By kind", kind_table(found.facts)),
        section("By size", size_table(found)),
        section("The largest changes", largest(found, scenes)),
        section("Options", table(option_rows(found.facts))),
    ]
    names = " and ".join(redact(Path(each).name) for each in (before, after))
    unsure = int(np.count_nonzero(found.kinds == UNSURE))
    certain = len(found.kinds) - unsure
    told = amount(certain, "change") + (f", {unsure:,} unsure" if unsure else "")
    write_page(out, f"{names}: {told}", sections, foot=FOOT)


def read_changes(path: Path) -> ChangeLayer:
    """What changed, by the layer `changes` of a file."""
    about, _, wkb, values = pyogrio.raw.read(
        path,
        layer="changes",
        columns=["change", "confidence", "area_before_m2", "area_after_m2"],
        where=f"change <> '{SAME}'",
    )
    columns = dict(zip(about["fields"].tolist(), values, strict=True))
    told = pyogrio.read_info(path, layer="changes")["layer_metadata"] or {}
    return ChangeLayer(
        np.asarray(shapely.from_wkb(wkb), object),
        columns["change"],
        columns["confidence"].astype(np.float64),
        np.fmax(columns["area_before_m2"], columns["area_after_m2"]),
        parse_crs(about["crs"]),
        json.loads(told.get("DESCRIPTION", "{}")),
    )


def draw(found: ChangeLayer, scene: Scene | None) -> Bytes:
    """Outlines in the colours of their kinds, on the later scene or on white."""
    if scene is not None and scene.crs is not None:
        picture = overview(scene, SIDE)
        return drawn_on(picture.pixels, picture.bounds, found, parse_crs(scene.crs.to_wkt()))
    if len(found.shapes) == 0:
        return np.full((SIDE // 4, SIDE, 4), 255, np.uint8)
    west, south, east, north = shapely.total_bounds(found.shapes)
    longest = max(east - west, north - south)
    height, width = (max(int(SIDE * each / longest), 1) for each in (north - south, east - west))
    white = np.full((height, width, 4), 255, np.uint8)
    return drawn_on(white, (west, south, east, north), found, found.crs)


def drawn_on(pixels: Bytes, bounds: Bounds, found: ChangeLayer, crs: pyproj.CRS) -> Bytes:
    """A picture with outlines in the colours of their kinds."""
    kinds = list(COLOURS)
    which = [kinds.index(kind) for kind in found.kinds]
    shapes = in_crs(found.shapes, found.crs, crs)
    return outlined(pixels, bounds, shapes, which, list(COLOURS.values()))


def legend() -> str:
    """The colours of the kinds."""
    return (
        "<p class='legend'>"
        + " ".join(
            f"<span><i style='background:{COLOURS[kind]}'></i>{kind}</span>"
            for kind in KINDS
            if kind != SAME
        )
        + "</p>"
    )


def overview_rows(found: ChangeLayer) -> list[tuple[str, str]]:
    """The rows about both dates and what lies between them."""
    facts = found.facts
    windows = int(facts.get("shift_windows", 0))
    shift = "not estimated"
    if windows:
        shift = f"{facts['shift_m']:.2f} m, from {amount(windows, 'window')}"
    return [
        ("Before", str(facts.get("before", ""))),
        ("After", str(facts.get("after", ""))),
        ("Shift between them, corrected", shift),
        ("Not compared, as one date does not show them", f"{facts.get('not_compared', 0):,}"),
        ("Invalid polygons repaired", f"{facts.get('repaired', 0):,}"),
    ]


def kind_table(facts: dict[str, Any]) -> str:
    """Numbers and areas by kind of change."""
    rows = []
    for kind in KINDS:
        told = facts["kinds"][kind]
        interval = "" if "interval" not in told else "{:.0f} to {:.0f}".format(*told["interval"])
        rows.append(
            (
                kind,
                f"{told['objects']:,}",
                interval,
                f"{told['area_before_m2']:,.0f} m²",
                f"{told['area_after_m2']:,.0f} m²",
            )
        )
    return grid(("Change", "Objects", "95% by the confidences", "Before", "After"), rows)


def size_table(found: ChangeLayer) -> str:
    """Numbers by kind and size."""
    limits = np.array(SIZES)
    step = np.digitize(found.size, limits) - 1
    names = [f"{low} to {high} m²" for low, high in pairwise(SIZES)]
    names.append(f"over {SIZES[-1]} m²")
    rows = []
    for kind in KINDS:
        counts = np.bincount(step[found.kinds == kind], minlength=len(names))
        if kind != SAME:
            rows.append((kind, *(f"{count:,}" for count in counts)))
    return grid(("Change", *names), rows)


def largest(found: ChangeLayer, scenes: list[Scene]) -> str:
    """Pictures of the largest certain changes, on each date that is a scene."""
    certain = np.flatnonzero(found.kinds != UNSURE)
    chosen = certain[np.argsort(-found.size[certain], kind="stable")][:SHOWN]
    if len(chosen) == 0 or not scenes:
        return "<p>None.</p>" if len(chosen) == 0 else "<p>Neither date is a scene.</p>"
    made = []
    for index in chosen:
        pictures = "".join(figure(crop(each, found, int(index))) for each in scenes)
        made.append(
            f"<figure>{pictures}<figcaption>{found.kinds[index]}, {found.size[index]:,.0f} m², "
            f"confidence {found.confidence[index]:.2f}</figcaption></figure>"
        )
    return f"<div class='pairs'>{''.join(made)}</div>"


def crop(scene: Scene, found: ChangeLayer, index: int) -> Bytes:
    """The ground around an object in one scene, with the object's outline."""
    crs = parse_crs(scene.crs.to_wkt()) if scene.crs is not None else found.crs
    here = in_crs(found.shapes[index : index + 1], found.crs, crs)
    west, south, east, north = shapely.bounds(here[0])
    unit = np.sqrt(shapely.area(here[0]) / max(found.size[index], 1e-6))
    half = max((1 + AROUND) * max(east - west, north - south), LEAST_M * unit) / 2
    x, y = (west + east) / 2, (south + north) / 2
    box = (x - half, y - half, x + half, y + half)
    transform = from_bounds(*box, CROP, CROP)
    bands = shown_bands(scene)
    with (
        rasterio.Env(**settings(scene.path)),
        open_raster(scene.path) as raster,
        WarpedVRT(
            raster,
            crs=raster.crs,
            transform=transform,
            height=CROP,
            width=CROP,
            resampling=Resampling.bilinear,
        ) as window,
    ):
        pixels = window.read(list(bands.bands))
        valid = window.dataset_mask() > 0
    picture = Stretch.of(bands).apply(pixels, valid)
    one = ChangeLayer(
        found.shapes[index : index + 1],
        found.kinds[index : index + 1],
        found.confidence[index : index + 1],
        found.size[index : index + 1],
        found.crs,
        found.facts,
    )
    return drawn_on(picture, box, one, crs)


def option_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """The options of the comparison."""
    return [
        (f"--{name.replace('_', '-')}", shown(value))
        for name, value in facts.get("options", {}).items()
    ]
