"""`geohr train`: scenes with labels in, a model file out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click

from geohr._runtime.progress import note
from geohr.errors import UsageError
from geohr.training.options import NOT_SCORES, TrainOptions
from geohr_cli.facts import json_option, tell
from geohr_cli.flags import chosen, config_option, debug_option, options_of
from geohr_cli.progress import progress


@click.command()
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.safetensors",
    help="Model to write; checkpoints and the log go into a folder beside it.",
)
@click.option("--scene", multiple=True, metavar="FILE", help="Training scene; repeatable.")
@click.option(
    "--labels",
    multiple=True,
    metavar="FILE",
    help="Labels of a training scene: polygons, or a raster on its grid; in the same order.",
)
@click.option(
    "--validation-scene",
    multiple=True,
    metavar="FILE",
    help="Validation scene, on which the weights are chosen; repeatable.",
)
@click.option(
    "--validation-labels", multiple=True, metavar="FILE", help="Labels of a validation scene."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Manifest of images and labels, instead of --scene or besides it.",
)
@click.option(
    "--gsd",
    type=float,
    metavar="M",
    help="Ground sampling distance of scenes without a georeference, in metres per pixel.",
)
@click.option(
    "--class-attribute",
    metavar="NAME",
    help="Attribute of vector labels that holds the class, as a name from the card or an id; "
    "ignore or 255 means not annotated.",
)
@click.option(
    "--aoi",
    metavar="FILE",
    help="Annotated area: polygons; what lies outside is not used.",
)
@click.option(
    "--card",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Model card: name, classes, licence, sources, notes; by default one class, building.",
)
@options_of(TrainOptions)
@config_option
@click.option("--resume", is_flag=True, help="Resume from the last checkpoint of the same output.")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace a model that exists, and start over where there is a checkpoint.",
)
@json_option
@debug_option
def train(
    out: Path,
    scene: tuple[str, ...],
    labels: tuple[str, ...],
    validation_scene: tuple[str, ...],
    validation_labels: tuple[str, ...],
    data: Path | None,
    gsd: float | None,
    class_attribute: str | None,
    aoi: str | None,
    card: Path | None,
    resume: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train a model on scenes and their labels, or fine-tune one with --init.

    Example: geohr train --scene a.tif --labels a.gpkg --init buildings --out mine.safetensors
    """
    if not scene and data is None:
        raise UsageError("nothing to train on; add --scene and --labels, or --data")
    options = chosen(TrainOptions)

    from geohr._runtime.files import check_writable
    from geohr.models.card import start_card
    from geohr.scene.labels import Legend
    from geohr.training.samples import pair, read_manifest
    from geohr.training.train import train as run_training

    inputs = [*scene, *labels, *validation_scene, *validation_labels, data, aoi, card, options.init]
    check_writable(out, overwrite=overwrite, inputs=inputs)
    started = start_card(card, out.stem)
    legend = Legend(class_attribute, tuple(each.name for each in started.classes))
    named = (
        *(replace(each, aoi=aoi) for each in pair(scene, labels, split="train", gsd=gsd)),
        *pair(validation_scene, validation_labels, split="validation", gsd=gsd),
    )
    listed = read_manifest(data) if data is not None else ()
    samples = tuple(replace(each, legend=legend) for each in (*listed, *named))
    watcher = Watcher()
    with progress(f"train {out.name}") as report:
        model = run_training(
            samples,
            out,
            card=started,
            options=options,
            resume=resume,
            overwrite=overwrite,
            progress=report,
            watch=watcher.watch,
        )
    scores = {
        split: {
            place: each[measure] for place, each in model.card.metrics.items() if measure in each
        }
        for split, measure in (("validation", "iou"), ("test", "test_iou"))
    }
    facts = {
        "outputs": [out, out.with_suffix(".run")],
        "steps": watcher.step,
        "loss": watcher.loss,
        "scores": scores,
        "threshold": model.card.threshold,
    }
    tell(describe(out, scores), facts, as_json=as_json)


def describe(out: Path, scores: Mapping[str, Mapping[str, float]]) -> str:
    """The scores of a model on each split, a line each."""
    lines = [
        f"{out}: {split} IoU {', '.join(f'{place} {iou:.3f}' for place, iou in each.items())}"
        for split, each in scores.items()
        if each
    ]
    return "\n".join(lines if scores["validation"] else [f"{out}: written, not validated", *lines])


class Watcher:
    """Shows loss and last score beside the bar, and says a line a validation.

    Attributes:
        step: The last step.
        loss: Its loss; None before the first.
    """

    def __init__(self) -> None:
        self._score = ""
        self.step = 0
        self.loss: float | None = None

    def watch(self, record: Mapping[str, float]) -> None:
        """Take a step or a validation in; see `geohr.training.train.train`."""
        self.step, self.loss = int(record["step"]), record.get("loss", self.loss)
        loss = f"loss {record['loss']:.4f}" if "loss" in record else ""
        places = {name: value for name, value in record.items() if name not in NOT_SCORES}
        if places:
            self._score = f"IoU {sum(places.values()) / len(places):.3f}"
            each = ", ".join(f"{name} {value:.3f}" for name, value in places.items())
            said = ", ".join(filter(None, [loss, f"IoU {each}"]))
            click.echo(f"step {record['step']:.0f}: {said}", err=True)
        note(" ".join(filter(None, [loss, self._score])))
