"""`geohr export`: a model in, a file for another engine out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from geohr.api.options import ExportOptions
from geohr_cli.facts import json_option, tell
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
@json_option
@debug_option
def export(model: str, out: Path | None, overwrite: bool, as_json: bool) -> None:
    """Convert MODEL, a bundled name or a .safetensors file, for another engine.

    Example: geohr export buildings --format openvino --precision int8 --calibrate scene.tif
    """
    options = chosen(ExportOptions)

    from geohr.api.export import SUFFIXES
    from geohr.api.export import export as write

    target = out or Path(Path(model).stem + SUFFIXES[options.format])
    with progress(f"export {target.name}"):
        result = write(model, target, options=options, overwrite=overwrite)
    facts = {
        "outputs": result.files,
        "shape": result.shape,
        "compared_on": result.compared_on,
        "agreement": dataclasses.asdict(result.agreement),
    }
    tell(result.describe(), facts, as_json=as_json)
