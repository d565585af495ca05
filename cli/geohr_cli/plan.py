"""`geohr plan`: what a run will take, before it is made."""

from __future__ import annotations

import click

from geohr.errors import UsageError
from geohr.options import SegmentOptions
from geohr_cli.flags import chosen, config_option, debug_option, options_of


@click.command()
@click.argument("scenes", metavar="SCENE...", nargs=-1, required=True)
@click.option(
    "--model",
    metavar="NAME|FILE",
    help="Name of a bundled model, or a .safetensors file.  [default: buildings]",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Also say what a cluster of N workers of one core takes; tries out some blocks.",
)
@click.option("--block", metavar="ROWSxCOLS", help="Windows of a block of the cluster.")
@options_of(SegmentOptions)
@config_option
@debug_option
def plan(
    scenes: tuple[str, ...], model: str | None, workers: int | None, block: str | None
) -> None:
    """Estimate what segmenting the raster SCENE will take: windows, time, memory, disk.

    Disk space is for one file of polygons, a class raster and a raster of probabilities.

    Example: geohr plan scene.tif
    """
    options = chosen(SegmentOptions)

    from geohr.api.plan import make_plan
    from geohr.cluster.scaling import forecast, measure_costs
    from geohr.engines.cores import share_cores
    from geohr.inference.disk import OutputCounts
    from geohr.inference.job import prepare
    from geohr.models.model import resolve_model
    from geohr.tiling.blocks import BlockSize, square

    cut = BlockSize.parse(block)
    if block is not None and workers is None:
        raise UsageError("--block is for a cluster; add --workers N")
    run = prepare(scenes, resolve_model(model), options)
    outputs = OutputCounts(len(run.card.classes), vectors=1, rasters=1, probabilities=1)
    made = make_plan(run.scene, run.card, run.grid, run.predictor, outputs=outputs)
    click.echo(made.describe())
    if workers is not None:
        share_cores(1)
        alone = prepare(scenes, run.model, options, cut=lambda grid: cut or square(grid))
        click.echo(forecast(measure_costs(alone), workers).describe())
