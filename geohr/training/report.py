"""A training run as a page: curves, confusion, calibration, best and worst windows."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from geohr._runtime.files import written_whole
from geohr.training.finish import TrainResult
from geohr.training.reliability import reliability
from geohr.training.showcase import Showcase
from geohr.training.state import State
from geohr.training.validate import LEVELS

WIDTH, HEIGHT, MARGIN = 640, 220, 40
"""Of a chart, in pixels."""
COLOURS = ("#1b6ca8", "#e4572e", "#3a7d44", "#8e5ea2", "#c98a00", "#444444")
NOT_SCORES = ("step", "loss", "learning_rate", "seconds")

STYLE = (
    "body{font:15px sans-serif;margin:2em auto;max-width:700px;color:#222}"
    "text{font:12px sans-serif}td,th{padding:2px 12px 2px 0;text-align:left}"
    "figure{display:inline-block;margin:0 1em 1em 0}figcaption{font-size:12px}"
)


def write_report(path: Path, state: State, finished: TrainResult) -> None:
    """Write the page, whole.

    Args:
        path: An HTML file; it needs nothing else to be read.
        state: The run at its end.
        finished: The model, and what was counted on validation.

    Raises:
        OutputError: When it cannot be written.
    """
    card, history = finished.model.card, state.history
    names = [name for name in history[-1] if name not in NOT_SCORES]
    charts = [
        chart("Loss", history, ["loss"]),
        chart("Learning rate", history, ["learning_rate"]),
        chart("Intersection over union on validation", history, names, span=(0.0, 1.0)),
    ]
    rows = "".join(
        f"<tr><td>{escape(place)}</td><td>{escape(measure)}</td><td>{value:g}</td></tr>"
        for place, scores in card.metrics.items()
        for measure, value in scores.items()
    )
    page = (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"/>'
        f"<title>{escape(card.name)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(card.name)}</h1>"
        f"<p>{escape(card.architecture)} on {escape(card.encoder)}, {state.step} steps; "
        f"best score {state.best:.4f}.</p>{''.join(charts)}"
        f"<table><tr><th>place</th><th>measure</th><th>score</th></tr>{rows}</table>"
        f"{confusions(finished)}{calibration(finished)}{windows(finished.showcase)}</body></html>"
    )
    with written_whole(path) as part:
        part.write_text(page, "utf-8")


def confusions(finished: TrainResult) -> str:
    """A table for each place: true classes down, found ones across, in pixels."""
    card = finished.model.card
    names = ["background", *(each.name for each in card.classes)]
    drawn = []
    for place, table in finished.counts.items():
        counts = table
        if not card.background and finished.threshold is not None:
            level = round(finished.threshold * LEVELS)
            counts = np.stack([table[:, :level].sum(axis=1), table[:, level:].sum(axis=1)], axis=1)
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        body = "".join(
            f"<tr><th>{escape(name)}</th>{''.join(f'<td>{count:,}</td>' for count in row)}</tr>"
            for name, row in zip(names, counts.tolist(), strict=True)
        )
        drawn.append(
            f"<h2>{escape(place)}: pixels</h2><table><tr><th>true \\ found</th>{head}</tr>{body}"
            "</table>"
        )
    return "".join(drawn)


def calibration(finished: TrainResult) -> str:
    """Reliability diagrams, before and after the temperature; nothing with several classes."""
    if finished.model.card.background:
        return ""
    drawn = []
    for place, table in finished.counts.items():
        records = []
        for name, temperature in (("before", 1.0), ("after", finished.temperature)):
            told = reliability(table, temperature)
            filled = told.pixels > 0
            records += [
                {"step": float(probability), name: float(share)}
                for probability, share in zip(
                    told.probability[filled], told.share[filled], strict=True
                )
            ]
        records += [{"step": 0.0, "even": 0.0}, {"step": 1.0, "even": 1.0}]
        title = (
            f"{place}: share of true pixels by probability, temperature {finished.temperature:g}"
        )
        drawn.append(
            chart(title, records, ["before", "after", "even"], span=(0.0, 1.0), unit="probability")
        )
    return "".join(drawn)


def windows(showcase: Showcase) -> str:
    """The best and the worst validation windows: right green, false orange, missed blue."""
    drawn = []
    for title, shown in (("Best windows", showcase.best), ("Worst windows", showcase.worst)):
        pictures = "".join(
            f'<figure><img alt="" src="{showcase.picture(each)}"/><figcaption>'
            f"{escape(each.sample.place)}, row {each.window.row}, column {each.window.col}: "
            f"{each.score:.2f}</figcaption></figure>"
            for each in shown
        )
        if pictures:
            drawn.append(f"<h2>{title}</h2>{pictures}")
    return "".join(drawn)


def chart(
    title: str,
    history: Sequence[dict[str, float]],
    names: Sequence[str],
    *,
    span: tuple[float, float] | None = None,
    unit: str = "steps",
) -> str:
    """Lines over the steps as SVG.

    Args:
        title: Above the chart.
        history: Records with a `step`.
        names: Which values to draw; a record may lack one.
        span: Bottom and top of the chart; by default those of the values.
        unit: Of what is drawn along.
    """
    lines = [
        (name, [(each["step"], each[name]) for each in history if name in each]) for name in names
    ]
    values = [value for _, points in lines for _, value in points]
    if not values:
        return ""
    low, high = span or (min(values), max(values))
    last = max(each["step"] for each in history)
    drawn = [
        f'<text x="{MARGIN}" y="14">{escape(title)}</text>',
        f'<text x="0" y="{HEIGHT - MARGIN}">{low:.3g}</text>',
        f'<text x="0" y="{MARGIN}">{high:.3g}</text>',
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - 8}">{last:g} {unit}</text>',
    ]
    for index, (name, points) in enumerate(lines):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(place(step / last, value, low, high) for step, value in points)
        drawn.append(f'<polyline fill="none" stroke="{colour}" points="{path}"/>')
        left = MARGIN + 150 * index
        drawn.append(f'<text x="{left}" y="{HEIGHT - 8}" fill="{colour}">{escape(name)}</text>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
        f"{''.join(drawn)}</svg>"
    )


def place(share: float, value: float, low: float, high: float) -> str:
    """A point of a chart as SVG writes it."""
    x = MARGIN + share * (WIDTH - 2 * MARGIN)
    up = (value - low) / (high - low) if high > low else 0.5
    return f"{x:.1f},{HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN):.1f}"
