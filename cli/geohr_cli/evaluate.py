"""`geohr evaluate`: what was found against what is there."""

from __future__ import annotations

import json
from pathlib import Path

import click

from geohr.errors import UsageError
from geohr.evaluation.options import EvaluateOptions
from geohr_cli.facts import json_option
from geohr_cli.flags import chosen, config_option, debug_option, options_of
from geohr_cli.progress import progress


@click.command()
@click.argument("predicted", required=False)
@click.argument("truth", required=False)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Instead of PREDICTED and TRUTH: a manifest of chips and labels, on which --model is "
    "scored by place.",
)
@click.option(
    "--model",
    metavar="NAME|FILE",
    help="The model that predicts the chips of --data.  [default: buildings]",
)
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    default="test",
    show_default=True,
    help="Which chips of --data are scored.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE.json", help="Write the scores as JSON."
)
@click.option(
    "--objects",
    type=click.Path(path_type=Path),
    metavar="FILE.gpkg",
    help="Write the matched, missed and false objects, to look at in a GIS.",
)
@options_of(EvaluateOptions)
@config_option
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@json_option
@debug_option
def evaluate(
    predicted: str | None,
    truth: str | None,
    data: Path | None,
    model: str | None,
    split: str,
    out: Path | None,
    objects: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Score PREDICTED against TRUTH, each polygons in any CRS or a raster of class ids.

    Example: geohr evaluate predicted.gpkg truth.gpkg --by-size --objects compared.gpkg
    """
    options = chosen(EvaluateOptions)

    from geohr._runtime.files import check_writable, written_whole

    for path in (out, objects):
        if path is not None:
            inputs = [predicted, truth, data, model, options.aoi]
            check_writable(path, overwrite=overwrite, inputs=inputs)
    if data is not None:
        if predicted is not None or objects is not None:
            raise UsageError("--data scores pixels of chips; leave out PREDICTED and --objects")
        described, values = score_chips(data, model, split)
    else:
        if predicted is None or truth is None:
            raise UsageError("name what was found and what is there, or chips with --data")
        from geohr.evaluation.evaluate import evaluate as score

        with progress("evaluate") as report:
            result = score(predicted, truth, options=options, objects_out=objects, progress=report)
        described, values = result.describe(), result.to_json()
    if out is not None:
        with written_whole(out) as part:
            part.write_text(values, "utf-8")
    click.echo(values if as_json else described)


def score_chips(data: Path, model: str | None, split: str) -> tuple[str, str]:
    """Intersection over union by place of the chips of a manifest, as text and as JSON.

    Raises:
        InputError: When manifest or model cannot be used, or no chip is of that split.
    """
    from geohr.training.finish import score_manifest

    with progress("evaluate") as report:
        scores = score_manifest(data, model, split, progress=report)
    mean = sum(scores.values()) / len(scores)
    lines = [f"{place:28} {value:.4f}" for place, value in {**scores, "mean": mean}.items()]
    return "\n".join(["intersection over union", *lines]), json.dumps(
        {"scores": {"iou": mean}, "places": scores}, indent=2
    )
