"""One page about the quality of a map, to be printed: a single HTML file."""

from __future__ import annotations

from pathlib import Path

from geohr._runtime.messages import amount
from geohr.viewer.report import grid, section, table, write_page
from geohr.workflows.check.estimate import Estimate, numbers, percent

FOOT = (
    "Made with <code>geohr check estimate --report</code>. Values are estimates from a random "
    "sample that a person judged, with their 95% intervals in brackets."
)
WIDTH, HEIGHT = 600, 200
COLOURS = {"precision": "#1a7f37", "recall": "#d7191c"}


def write_check_report(told: Estimate, out: Path, *, name: str, cost: float) -> None:
    """Write the HTML page of a sample of this name; a false object costs `cost` missed ones.

    Raises:
        OutputError: When it cannot be written.
    """
    rows = [
        ("Precision", f"{percent(told.precision)} of the map's objects are right"),
        ("Recall", f"{percent(told.recall)} of the objects that are there are in the map"),
        ("Objects there", numbers(told.count)),
        ("Objects missed", numbers(told.missed)),
        ("Area found", f"{numbers(told.found_m2)} m²"),
        ("Area missed", f"{numbers(told.missed_m2)} m²"),
        ("Judged", f"{amount(told.objects, 'object')} and {amount(told.places, 'place')}"),
    ]
    parts = [*told.by_class.items(), *told.by_size.items()]
    best = min(told.curve, key=lambda each: abs(each[0] - told.threshold))
    choice = (
        f"<p>A false object costs as much as {cost:g} missed. From a confidence of "
        f"{told.threshold:.2f} on, {best[1]:.0%} of the objects are right and {best[2]:.0%} of "
        "those that are there are in the map.</p>"
    )
    sections = [
        section("How good the map is", table(rows)),
        section(
            "Precision by class and size",
            grid(("Objects", "Right"), [(part, percent(each)) for part, each in parts]),
        ),
        section("Precision and recall by confidence", curve(told) + choice),
    ]
    write_page(out, f"{name}: {told.precision.value:.0%} right", sections, foot=FOOT)


def curve(told: Estimate) -> str:
    """Precision and recall over the least confidence that is kept."""
    lines = []
    for place, (name, colour) in enumerate(COLOURS.items(), start=1):
        points = " ".join(
            f"{each[0] * WIDTH:.1f},{HEIGHT * (1 - each[place]):.1f}"
            for each in told.curve
            if each[place] == each[place]  # a share of nothing is nan
        )
        lines.append(
            f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='2'/>"
            f"<text x='4' y='{14 * place}' fill='{colour}'>{name}</text>"
        )
    at = told.threshold * WIDTH
    ticks = "".join(
        f"<text x='{share * WIDTH}' y='{HEIGHT + 16}' text-anchor='middle'>{share:g}</text>"
        for share in (0, 0.2, 0.4, 0.6, 0.8, 1)
    )
    return (
        f"<svg viewBox='-12 -4 {WIDTH + 24} {HEIGHT + 26}' role='img' "
        "aria-label='Precision and recall over confidence'>"
        f"<rect x='0' y='0' width='{WIDTH}' height='{HEIGHT}' fill='none'/>"
        f"<line x1='{at:.1f}' x2='{at:.1f}' y1='0' y2='{HEIGHT}' stroke='#666' "
        f"stroke-dasharray='4'/>{''.join(lines)}{ticks}</svg>"
    )
