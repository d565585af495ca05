"""`geohr export`: a model in, a file for another engine out."""

from __future__ import annotations

from pathlib import Path

import click

from geohr.api.options import ExportOptions
from geohr_cli.flags import chosen, config_option, debug_option, options_of
from geohr_cli.progress import progress


@click.command()
@click.argument("model")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write; by default in the current folder, named like the model.",
)
@options_of(ExportOptions)
@config_option
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@debug_option
def export(model: str, out: Path | None, overwrite: bool) -> None:
    """Convert MODEL, a bundled name or a .safetensors file, for another engine.

    Example: geohr export buildings --format openvino --precision int8 --calibrate scene.tif
    """
    options = chosen(ExportOptions)

    from geohr.api.export import SUFFIXES
    from geohr.api.export import export as write

    target = out or Path(Path(model).stem + SUFFIXES[options.format])
    with progress(f"export {target.name}"):
        result = write(model, target, options=options, overwrite=overwrite)
    click.echo(result.describe())
