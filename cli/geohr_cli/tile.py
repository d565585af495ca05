"""`geohr tile`: a scene in, chips out."""

from __future__ import annotations

from pathlib import Path

import click

from geohr._runtime.messages import amount
from geohr.api.options import TileOptions
from geohr_cli.facts import json_option, tell
from geohr_cli.flags import chosen, config_option, debug_option, options_of
from geohr_cli.progress import progress


@click.command()
@click.argument("scenes", metavar="SCENE...", nargs=-1, required=True)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder for chips.",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Labels to cut too: polygons in any CRS, or a raster on the scene's grid.",
)
@options_of(TileOptions)
@config_option
@click.option("--overwrite", is_flag=True, help="Replace chips that exist.")
@json_option
@debug_option
def tile(
    scenes: tuple[str, ...], out: Path, labels: Path | None, overwrite: bool, as_json: bool
) -> None:
    """Cut the raster SCENE, and its labels, into georeferenced chips.

    With --labels, manifest.json in the folder lists the chips for geohr train --data: the lowest
    fifth of the rows is for validation, and chips that overlap it are left out. Several scenes may
    be cut into one folder, one after another.

    Several scenes are read as one mosaic; where they overlap, the last valid pixel is used.

    Example: geohr tile scene.tif --out chips/ --labels buildings.gpkg --tile 256
    """
    options = chosen(TileOptions)

    from geohr.api.tile import MANIFEST
    from geohr.api.tile import tile as cut_tiles
    from geohr.scene.prepare import display_name

    with progress(f"tile {Path(display_name(scenes)).name}") as report:
        count = cut_tiles(
            scenes, out, labels=labels, options=options, overwrite=overwrite, progress=report
        )
    outputs = [out] if labels is None else [out, out / MANIFEST]
    tell(f"{out}: {amount(count, 'chip')}", {"outputs": outputs, "chips": count}, as_json=as_json)
