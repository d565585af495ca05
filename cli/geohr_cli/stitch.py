"""`geohr stitch`: tile predictions of any tool in, one raster of probabilities out."""

from __future__ import annotations

from pathlib import Path

import click

from geohr.errors import InputError
from geohr.options import StitchOptions
from geohr_cli.facts import json_option, tell
from geohr_cli.flags import chosen, config_option, creation_option, debug_option, options_of


@click.command()
@click.argument("tiles", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.tif",
    help="File to write.",
)
@creation_option
@options_of(StitchOptions)
@config_option
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
@json_option
@debug_option
def stitch(
    tiles: tuple[Path, ...], out: Path, co: dict[str, str], overwrite: bool, as_json: bool
) -> None:
    """Join TILES, files or folders of georeferenced probabilities, into one raster.

    Example: geohr stitch predictions/ --out probs.tif
    """
    options = chosen(StitchOptions)

    from geohr.api.stitch import stitch as join_tiles

    extent = join_tiles(
        tile_files(tiles),
        out,
        options=options,
        creation_options=co,
        overwrite=overwrite,
    )
    facts = {"outputs": [out], "height": extent.height, "width": extent.width}
    tell(f"{out}: {extent.height} x {extent.width} pixels", facts, as_json=as_json)


def tile_files(named: tuple[Path, ...]) -> list[Path]:
    """Files as named, and the .tif and .tiff files of folders.

    Raises:
        InputError: When a name is neither a file nor a folder.
    """
    found: list[Path] = []
    for path in named:
        if path.is_dir():
            found += sorted(
                each for each in path.iterdir() if each.suffix.lower() in (".tif", ".tiff")
            )
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"{path}: no such file or folder")
    return found
