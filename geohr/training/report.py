"""A training run as an HTML page: curves, confusion, calibration, best and worst windows.

The figures need matplotlib, which comes with the extra `train`; without it the page has the tables.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geohr._runtime.files import written_whole
from geohr._runtime.messages import amount
from geohr.training.finish import TrainResult
from geohr.training.options import NOT_SCORES
from geohr.training.reliability import reliability
from geohr.training.showcase import Showcase
from geohr.training.state import State
from geohr.training.validate import LEVELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = (
    "body{font:15px sans-serif;margin:2em auto;max-width:760px;color:#222}img{max-width:100%}"
    "td,th{padding:2px 12px 2px 0;text-align:left}"
)


def write_report(path: Path, state: State, finished: TrainResult) -> None:
    """Write the report, atomically.

    Args:
        path: An HTML file; it needs nothing else to be read.
        state: The run at its end.
        finished: The model, and what was counted on validation.

    Raises:
        OutputError: When it cannot be written.
    """
    card = finished.model.card
    rows = "".join(
        f"<tr><td>{escape(place)}</td><td>{escape(measure)}</td><td>{value:g}</td></tr>"
        for place, scores in card.metrics.items()
        for measure, value in scores.items()
    )
    if find_spec("matplotlib") is None:
        figures = "<p>Figures need matplotlib: pip install 'geohr[train]'.</p>"
    else:
        figures = "".join(draw(state, finished))
    scored = any(name not in NOT_SCORES for name in state.history[-1])
    best = f"best mean intersection over union {state.best:.4f}" if scored else "not validated"
    page = (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"/>'
        f"<title>{escape(card.name)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(card.name)}</h1>"
        f"<p>{escape(card.architecture)} on {escape(card.encoder)}, {amount(state.step, 'step')}; "
        f"{best}.</p>"
        f"<table><tr><th>place</th><th>measure</th><th>score</th></tr>{rows}</table>"
        f"{confusions(finished)}{figures}</body></html>"
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
            level = math.ceil(finished.threshold * LEVELS)
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


def draw(state: State, finished: TrainResult) -> Iterator[str]:
    """The figures of the page, each with its heading, as HTML."""
    yield embed("Curves", curves(state.history), "svg")
    if finished.counts and not finished.model.card.background:
        title = f"Reliability before and after temperature {finished.temperature:g}"
        yield embed(title, reliability_diagrams(finished), "svg")
    if finished.showcase.best:
        title = "Best and worst windows: right green, false orange, missed blue"
        yield embed(title, windows(finished.showcase), "png")


def embed(title: str, figure: Figure, kind: str) -> str:
    """A figure inside the page, as SVG or PNG."""
    import matplotlib as mpl

    file = io.BytesIO()
    # Letters stay letters, which can be searched for.
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else None)
    mime = {"svg": "image/svg+xml", "png": "image/png"}[kind]
    text = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<h2>{escape(title)}</h2><img alt="" src="data:{mime};base64,{text}"/>'


def curves(history: list[dict[str, float]]) -> Figure:
    """Loss, learning rate and scores over the steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 8), layout="constrained")
    scores = [name for name in history[-1] if name not in NOT_SCORES]
    panels = [("loss", ["loss"]), ("learning rate", ["learning_rate"])]
    if scores:
        panels.append(("intersection over union", scores))
    axes = figure.subplots(len(panels), 1, sharex=True)
    for axis, (label, names) in zip(axes, panels, strict=True):
        for name in names:
            known = [(each["step"], each[name]) for each in history if name in each]
            axis.plot(*zip(*known, strict=True), marker=".", label=name)
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    axes[-1].set_xlabel("steps")
    if scores:
        axes[-1].set_ylim(0, 1)
        axes[-1].legend()
    return figure


def reliability_diagrams(finished: TrainResult) -> Figure:
    """The share of true pixels by probability, a panel a place."""
    from matplotlib.figure import Figure

    count = len(finished.counts)
    figure = Figure(figsize=(7.5, 3.2 * count), layout="constrained")
    axes = figure.subplots(count, 1, squeeze=False)[:, 0]
    for axis, (place, table) in zip(axes, finished.counts.items(), strict=True):
        axis.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
        for name, temperature in (("before", 1.0), ("after", finished.temperature)):
            told = reliability(table, temperature)
            axis.plot(told.probability, told.share, marker="o", label=name)
        axis.set(title=place, xlabel="probability", ylabel="share of true pixels")
        axis.legend()
    return figure


def windows(showcase: Showcase) -> Figure:
    """The best and the worst windows, a row each, without and with what was found."""
    from matplotlib.figure import Figure

    shown = [*showcase.best, *showcase.worst]
    figure = Figure(figsize=(7.5, 3.6 * len(shown)), layout="constrained", dpi=60)
    for row, each in zip(figure.subplots(len(shown), 2, squeeze=False), shown, strict=True):
        for axis in row:
            axis.imshow(showcase.image(each))
            axis.set_axis_off()
        row[0].set_title(
            f"{each.sample.place}, row {each.window.row}, column {each.window.col}: "
            f"{each.score:.2f}"
        )
        row[1].imshow(each.overlay())
    return figure
