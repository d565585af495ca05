"""`geohr plan`: what a run will take, before it is made."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from geohr._runtime.progress import phase
from geohr.errors import UsageError
from geohr.options import SegmentOptions
from geohr_cli.facts import json_option, tell
from geohr_cli.flags import chosen, config_option, debug_option, options_of
from geohr_cli.progress import progress


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
    help="Also divide the time by N workers of a cluster, of one core each.",
)
@click.option("--block", metavar="ROWSxCOLS", help="Windows of a block of the cluster.")
@options_of(SegmentOptions)
@config_option
@json_option
@debug_option
def plan(
    scenes: tuple[str, ...],
    model: str | None,
    workers: int | None,
    block: str | None,
    as_json: bool,
) -> None:
    """Estimate what segmenting the raster SCENE will take: windows, time, memory, disk.

    Disk space is for one file of polygons, a class raster and a raster of probabilities.

    Example: geohr plan scene.tif
    """
    options = chosen(SegmentOptions)

    from geohr.api.plan import plan as make_plan
    from geohr.scene.prepare import display_name
    from geohr.tiling.blocks import BlockSize

    if block is not None and workers is None:
        raise UsageError("--block is for a cluster; add --workers N")
    with progress(f"plan {Path(display_name(scenes)).name}"):
        phase("measuring")
        made = make_plan(scenes, model=model, options=options, block_size=BlockSize.parse(block))
    lines = [made.describe()]
    if workers is not None:
        lines.append(made.describe_cluster(workers))
    tell("\n".join(lines), dataclasses.asdict(made), as_json=as_json)
