"""`geohr check`: the quality of a map, from a sample that a person judges."""

from __future__ import annotations

from pathlib import Path

import click

from geohr._runtime.messages import amount
from geohr.errors import UsageError
from geohr.workflows.check.options import EstimateOptions, NextOptions, SampleOptions
from geohr_cli.facts import json_option, tell
from geohr_cli.flags import chosen, config_option, debug_option, options_of

probs_option = click.option(
    "--probs",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.tif",
    help="Probabilities that geohr wrote together with RESULT.",
)


@click.group()
def check() -> None:
    """Estimate how good a map is from a sample that you judge.

    Example: geohr check sample buildings.gpkg --probs probs.tif --minutes 20 --out check.gpkg
    """


@check.command()
@click.argument("result", type=click.Path(path_type=Path))
@probs_option
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.gpkg",
    help="The sample: objects and places to judge.",
)
@options_of(SampleOptions)
@config_option
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
@json_option
@debug_option
def sample(result: Path, probs: Path, out: Path, overwrite: bool, as_json: bool) -> None:
    """Draw a sample of objects and places of RESULT to judge.

    In QGIS, set `answer` to 1 (yes) or 0 (no). In the layer `objects`: is the object right? In
    `places`: is there an object that the map misses? Draw missed objects into a layer `traced`.

    Example: geohr check sample buildings.gpkg --probs probs.tif --out check.gpkg
    """
    options = chosen(SampleOptions)

    from geohr.workflows.check.sample import draw_sample

    counts = draw_sample(result, probs, out, options=options, overwrite=overwrite)
    facts = {
        "outputs": [out],
        "objects": counts.judged_objects,
        "places": counts.judged_places,
        "minutes": round(counts.minutes),
        "area_m2": round(counts.ground, 1),
    }
    tell(f"{out}: {counts.describe()}", facts, as_json=as_json)


@check.command("next")
@click.argument("scene")
@click.argument("result", type=click.Path(path_type=Path))
@probs_option
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.gpkg",
    help="The windows to label, in order.",
)
@options_of(NextOptions)
@config_option
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
@json_option
@debug_option
def next_(scene: str, result: Path, probs: Path, out: Path, overwrite: bool, as_json: bool) -> None:
    """Choose the windows of SCENE most worth labelling: doubtful ones, unlike each other.

    Example: geohr check next scene.tif buildings.gpkg --probs probs.tif --out next.gpkg
    """
    options = chosen(NextOptions)

    from geohr.workflows.check.candidates import next_windows

    count = next_windows(scene, result, probs, out, options=options, overwrite=overwrite)
    facts = {"outputs": [out], "windows": count}
    tell(f"{out}: {amount(count, 'window')} to label", facts, as_json=as_json)


@check.command()
@click.argument("judged", metavar="SAMPLE", type=click.Path(path_type=Path))
@options_of(EstimateOptions)
@config_option
@click.option(
    "--map",
    "result",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The map that the sample is of; for --out-map.",
)
@click.option(
    "--out-map",
    type=click.Path(path_type=Path),
    metavar="FILE.gpkg",
    help="Write the objects of --map from the best threshold on.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Write a page that can be printed.",
)
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@json_option
@debug_option
def estimate(
    judged: Path,
    result: Path | None,
    out_map: Path | None,
    report: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Estimate precision, recall, counts and areas from a judged SAMPLE.

    Example: geohr check estimate check.gpkg --cost 2
    """
    options = chosen(EstimateOptions)

    from geohr._runtime.files import check_writable
    from geohr.workflows.check.estimate import estimate as estimate_map

    if (result is None) != (out_map is None):
        raise UsageError("--map and --out-map go together: the map, and where its best part goes")
    for out in (out_map, report):
        if out is not None:
            check_writable(out, overwrite=overwrite, inputs=[judged, result])
    found = estimate_map(judged, options=options)
    if result is not None and out_map is not None:
        from geohr.workflows.check.filtered import write_filtered

        kept = write_filtered(result, found.threshold, out_map, overwrite=overwrite)
        kept_ = amount(kept, "object")
        click.echo(f"{out_map}: {kept_} from confidence {found.threshold:.2f} on", err=True)
    if report is not None:
        from geohr.viewer.check_report import write_check_report

        write_check_report(found, report, name=judged.name, cost=options.cost)
    outputs = [each for each in (out_map, report) if each is not None]
    tell(found.describe(), {"outputs": outputs, **found.as_dict()}, as_json=as_json)
