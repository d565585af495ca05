"""`geohr plan`: what a run will take, before it is made."""

from __future__ import annotations

import click

from geohr.options import SegmentOptions
from geohr_cli.flags import chosen, config_option, debug_option, options_of


@click.command()
@click.argument("scenes", metavar="SCENE...", nargs=-1, required=True)
@click.option(
    "--model",
    metavar="NAME|FILE",
    help="A bundled model's name or a .safetensors file.  [default: buildings]",
)
@options_of(SegmentOptions)
@config_option
@debug_option
def plan(scenes: tuple[str, ...], model: str | None) -> None:
    """Say what segmenting the raster SCENE will take: windows, time, memory, disk.

    Disk is for one file of polygons, one raster of classes and one of probabilities.

    Example: geohr plan scene.tif
    """
    options = chosen(SegmentOptions)

    from geohr.model import resolve_model
    from geohr.plan import OutputCounts, make_plan
    from geohr.run import prepare

    run = prepare(scenes, resolve_model(model), options)
    outputs = OutputCounts(len(run.card.classes), vectors=1, rasters=1, probabilities=1)
    made = make_plan(run.scene, run.card, run.grid, run.predictor, outputs=outputs)
    click.echo(made.describe())
