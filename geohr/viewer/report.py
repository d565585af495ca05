"""One page about a run, for the person who finds it next year: a single HTML file.

Everything is taken from the GeoPackage, which says what made it, from the scene, and from the
model's card. Where the run itself is at hand, its time and its windows are told too.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import shapely
from numpy.typing import NDArray
from pyogrio.raw import read
from rasterio.features import rasterize
from rasterio.transform import from_bounds

from geohr._runtime.files import written_whole
from geohr._runtime.messages import amount
from geohr.api.segment import Summary
from geohr.encoding import Bytes
from geohr.geobox import Bounds
from geohr.geodesy import parse_crs
from geohr.models.card import Card
from geohr.models.model import Model, bundled_models
from geohr.outputs.layers import CONFIDENCE_COLOURS
from geohr.scene import Scene
from geohr.viewer.objects import ObjectTable, numbers
from geohr.viewer.page import static
from geohr.viewer.pictures import overview, to_webp

# Longest side of the picture in pixels.
SIDE = 1600
# Width of an outline in the picture.
LINE_PIXELS = 3.0
# Bars of the histogram of confidences.
BINS = 20
BAR_HEIGHT = 120
FOOT = (
    "Made with <code>geohr report</code>. Confidence is the mean probability over an object's "
    "pixels; areas are true ground square metres, whatever the CRS."
)
# The prefix of names of provenance in a GeoPackage.
PREFIX = "geohr_"


@dataclass(frozen=True)
class ResultLayer:
    """The layer of objects that a report is about.

    Attributes:
        shapes: `(n,)` polygons in the layer's coordinates.
        classes: `(n,)` names.
        confidence: `(n,)` mean probabilities; NaN where there is none.
        areas: `(n,)` square metres of true ground; NaN where they are not known.
        reviews: `(n,)` `accepted`, `rejected` or None.
        provenance: The provenance of the objects, by name.
    """

    shapes: NDArray[np.object_]
    classes: NDArray[np.object_]
    confidence: NDArray[np.float64]
    areas: NDArray[np.float64]
    reviews: NDArray[np.object_]
    provenance: dict[str, str]


def write_report(
    scene: str | Path,
    objects: str | Path,
    out: str | Path,
    *,
    model: Model | None = None,
    summary: Summary | None = None,
) -> None:
    """Write the report.

    Args:
        scene: The raster that was segmented.
        objects: The GeoPackage that came of it.
        out: The HTML file.
        model: The model that was used; by default looked for among the bundled ones.
        summary: The summary of the run, if it is at hand.

    Raises:
        InputError: When scene or objects cannot be used.
        UsageError: When the objects are no GeoPackage.
        OutputError: When the page cannot be written.
    """
    objects, out = Path(objects), Path(out)
    described, layer = Scene.open(scene), ObjectTable.open(objects)
    found = read_found(layer)
    picture = overview(described, SIDE)
    drawn = draw(picture.pixels, picture.bounds, found, layer.crs, described)
    sections = [
        section("Overview", figure(drawn) + table(overview_rows(described, found))),
        section("Objects by class", class_table(found)),
        section("Confidence", histogram(found.confidence) + table(confidence_rows(found))),
        section("The run", table(run_rows(objects, found, summary))),
        section("Model", model_part(found, model)),
        section("Options", table(options_rows(found))),
    ]
    write_page(
        out,
        f"{Path(described.path).name}: {amount(len(found.shapes), 'object')}",
        sections,
        foot=FOOT,
    )


def write_page(out: Path, title: str, sections: Sequence[str], *, foot: str) -> None:
    """Write a page of HTML sections; the title is text, the foot HTML. It appears when whole.

    Raises:
        OutputError: When it cannot be written.
    """
    page = static("report.html").replace("<!--TITLE-->", html.escape(title))
    page = page.replace("<!--FOOT-->", foot).replace("<!--SECTIONS-->", "\n".join(sections))
    with written_whole(out) as part:
        part.write_text(page, "utf-8")


def read_found(layer: ObjectTable) -> ResultLayer:
    """The objects of a layer, with what made them."""
    about, _, shapes, columns = read(layer.path, layer=layer.layer)
    count = len(shapes)
    values = dict(zip(about["fields"].tolist(), columns, strict=True))
    unknown, none = np.full(count, np.nan), np.full(count, None, object)
    told = pyogrio.read_info(layer.path, layer=layer.layer)["layer_metadata"] or {}
    return ResultLayer(
        shapes=np.asarray(shapely.from_wkb(shapes), object),
        classes=values.get("class", np.full(count, "object", object)),
        confidence=numbers(values.get("confidence", unknown)),
        areas=numbers(values.get("area_m2", unknown)),
        reviews=values.get("review", none),
        provenance={
            name.removeprefix(PREFIX): value
            for name, value in told.items()
            if name.startswith(PREFIX)
        },
    )


def draw(pixels: Bytes, bounds: Bounds, found: ResultLayer, crs: str, scene: Scene) -> Bytes:
    """The picture with outlines in the colours of their confidence."""
    shapes = found.shapes
    if scene.crs is not None:
        shapes = in_crs(shapes, parse_crs(crs), parse_crs(scene.crs.to_wkt()))
    lows = [low for low, _ in CONFIDENCE_COLOURS[1:]]
    steps = np.digitize(np.nan_to_num(found.confidence), lows).tolist()
    return outlined(pixels, bounds, shapes, steps, [colour for _, colour in CONFIDENCE_COLOURS])


def outlined(
    pixels: Bytes, bounds: Bounds, shapes: Any, which: Sequence[int], colours: Sequence[str]
) -> Bytes:
    """A picture of these bounds with an outline for each shape, in the colour of its number."""
    if len(shapes) == 0:
        return pixels
    height, width = pixels.shape[:2]
    transform = from_bounds(*bounds, width, height)
    lines = shapely.buffer(shapely.boundary(shapes), LINE_PIXELS / 2 * abs(transform.a))
    drawn = rasterize(
        [(line, number + 1) for line, number in zip(lines, which, strict=True)],
        out_shape=(height, width),
        transform=transform,
        dtype="uint8",
    )
    picture = pixels.copy()
    for number, colour in enumerate(colours, start=1):
        picture[drawn == number] = (*bytes.fromhex(colour[1:]), 255)
    return picture


def in_crs(shapes: Any, crs: pyproj.CRS, target: pyproj.CRS) -> Any:
    """Shapes in another CRS."""
    if crs == target:
        return shapes
    change = pyproj.Transformer.from_crs(crs, target, always_xy=True)
    return shapely.transform(shapes, lambda points: np.column_stack(change.transform(*points.T)))


def overview_rows(scene: Scene, found: ResultLayer) -> list[tuple[str, str]]:
    """The rows about the scene and the result."""
    gsd = "not known" if scene.gsd is None else f"{scene.gsd:.3g} m"
    total = float(np.nansum(found.areas))
    rows = [
        ("Scene", f"{Path(scene.path).name}, {scene.width:,} x {scene.height:,} pixels"),
        ("Ground sampling distance", gsd),
        ("CRS", scene.crs.to_string() if scene.crs is not None else "none"),
        ("Objects", f"{len(found.shapes):,}"),
        ("Area of all objects", f"{total:,.0f} m²"),
    ]
    if scene.gsd is not None:
        share = total / (scene.width * scene.height * scene.gsd**2)
        rows.append(("Share of the scene's area", f"{share:.1%}"))
    return rows


def class_table(found: ResultLayer) -> str:
    """Counts and areas by class."""
    rows = []
    for name in sorted(set(found.classes.tolist()), key=str):
        mine = found.areas[found.classes == name]
        middle = f"{np.nanmedian(mine):,.0f} m²" if np.isfinite(mine).any() else "not known"
        rows.append((str(name), f"{len(mine):,}", f"{np.nansum(mine):,.0f} m²", middle))
    return grid(("Class", "Objects", "Area", "Median area"), rows)


def confidence_rows(found: ResultLayer) -> list[tuple[str, str]]:
    """The rows about confidence and review."""
    known = found.confidence[np.isfinite(found.confidence)]
    rows = []
    if len(known):
        rows.append(("Median confidence", f"{np.median(known):.2f}"))
        rows.append(("Below 0.6", amount(int((known < CONFIDENCE_COLOURS[1][0]).sum()), "object")))
    counts = {name: int((found.reviews == name).sum()) for name in ("accepted", "rejected")}
    rows.append(("Reviewed", f"{counts['accepted']:,} accepted, {counts['rejected']:,} rejected"))
    return rows


def run_rows(objects: Path, found: ResultLayer, summary: Summary | None) -> list[tuple[str, str]]:
    """The rows about the run: program, time, duration."""
    written = datetime.fromtimestamp(objects.stat().st_mtime, UTC)
    rows = [
        ("Result", objects.name),
        ("File last changed", f"{written:%Y-%m-%d %H:%M} UTC"),
        ("geohr", found.provenance.get("version", "not told by the file")),
        ("Engine", found.provenance.get("engine", "not told by the file")),
    ]
    if summary is not None:
        rows += [
            ("Windows", f"{summary.predicted:,} predicted of {summary.windows:,}"),
            ("Time", f"{summary.seconds:,.1f} s"),
            ("Blocks used again", f"{summary.reused:,} of {summary.blocks:,}"),
        ]
        if summary.seam_score is not None:
            rows.append(("Seam score", f"{summary.seam_score:.2f} (1: window lines do not show)"))
    return rows


def model_part(found: ResultLayer, model: Model | None) -> str:
    """The model's name and, where the very file is at hand, its card."""
    digest = found.provenance.get("model_sha256", "")
    rows = [
        ("Name", found.provenance.get("model", "not told by the file")),
        ("SHA-256", digest or "not told by the file"),
    ]
    card = card_of(digest, model)
    if card is None:
        rows.append(("Card", "the model with this SHA-256 is not at hand; name it with --model"))
        return table(rows)
    return table(rows) + f"<pre>{html.escape(card.describe())}</pre>"


def card_of(digest: str, model: Model | None) -> Card | None:
    """The card of the model with this digest, or None."""
    candidates = (
        [model] if model is not None else [Model.load(p) for p in bundled_models().values()]
    )
    return next((each.card for each in candidates if each.digest == digest), None)


def options_rows(found: ResultLayer) -> list[tuple[str, str]]:
    """The options of the run, defaults resolved."""
    try:
        options: Mapping[str, Any] = json.loads(found.provenance.get("options", "{}"))
    except ValueError:
        options = {}
    return [(f"--{name.replace('_', '-')}", shown(value)) for name, value in options.items()]


def shown(value: Any) -> str:
    """An option's value as a person writes it."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def section(title: str, body: str) -> str:
    """A section of the report."""
    return f"<section><h2>{html.escape(title)}</h2>{body}</section>"


def table(rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and values."""
    lines = (
        f"<tr><th scope='row'>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in rows
    )
    return f"<table class='facts'>{''.join(lines)}</table>"


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with a header."""
    top = "".join(f"<th scope='col'>{html.escape(name)}</th>" for name in head)
    lines = (
        "<tr>" + "".join(f"<td>{html.escape(value)}</td>" for value in row) + "</tr>"
        for row in rows
    )
    return f"<table class='grid'><tr>{top}</tr>{''.join(lines)}</table>"


def figure(picture: Bytes) -> str:
    """A picture inside the page."""
    packed = base64.b64encode(to_webp(picture)).decode()
    return (
        f"<img alt='The scene with the outlines of the objects' "
        f"src='data:image/webp;base64,{packed}'>"
    )


def histogram(confidence: NDArray[np.float64]) -> str:
    """Bars in the colours of their confidence, with the number of objects each stands for.

    They are SVG written here, and no chart of matplotlib or Altair: a report needs no extra, stays
    some kilobytes long, and shows the counts under the pointer without a script.
    """
    known = confidence[np.isfinite(confidence)]
    if len(known) == 0:
        return "<p>The objects carry no confidence.</p>"
    counts, edges = np.histogram(known, BINS, (0, 1))
    lows = [low for low, _ in CONFIDENCE_COLOURS[1:]]
    bars = []
    for place, count in enumerate(counts.tolist()):
        colour = CONFIDENCE_COLOURS[int(np.digitize((edges[place] + edges[place + 1]) / 2, lows))][
            1
        ]
        high = BAR_HEIGHT * count / counts.max()
        at = f"x='{place * 30 + 2}' y='{BAR_HEIGHT - high:.1f}'"
        bars.append(
            f"<rect {at} width='26' height='{high:.1f}' "
            f"fill='{colour}'><title>{edges[place]:.2f} to {edges[place + 1]:.2f}: "
            f"{amount(count, 'object')}</title></rect>"
        )
    ticks = "".join(
        f"<text x='{share * BINS * 30}' y='{BAR_HEIGHT + 16}' text-anchor='middle'>{share:g}</text>"
        for share in (0, 0.2, 0.4, 0.6, 0.8, 1)
    )
    return (
        f"<svg viewBox='-12 0 {BINS * 30 + 24} {BAR_HEIGHT + 22}' role='img' "
        f"aria-label='Histogram of confidences'>{''.join(bars)}{ticks}</svg>"
    )
