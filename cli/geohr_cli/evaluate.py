"""`geohr evaluate`: what was found against what is there."""

from __future__ import annotations

from pathlib import Path

import click

from geohr.evaluation.options import EvaluateOptions
from geohr_cli.flags import chosen, config_option, debug_option, options_of
from geohr_cli.progress import progress


@click.command()
@click.argument("predicted")
@click.argument("truth")
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
@debug_option
def evaluate(
    predicted: str, truth: str, out: Path | None, objects: Path | None, overwrite: bool
) -> None:
    """Score PREDICTED against TRUTH, each polygons in any CRS or a raster of class ids.

    Example: geohr evaluate predicted.gpkg truth.gpkg --by-size --objects compared.gpkg
    """
    options = chosen(EvaluateOptions)

    from geohr._runtime.files import check_writable, written_whole
    from geohr.evaluation.evaluate import evaluate as score

    for path in (out, objects):
        if path is not None:
            check_writable(path, overwrite=overwrite)
    with progress("evaluate") as report:
        result = score(predicted, truth, options=options, objects_out=objects, progress=report)
    if out is not None:
        with written_whole(out) as part:
            part.write_text(result.to_json(), "utf-8")
    click.echo(result.describe())
