"""`geohr report`: an HTML report on a result."""

from __future__ import annotations

from pathlib import Path

import click

from geohr._runtime.progress import phase
from geohr_cli.facts import json_option, tell
from geohr_cli.flags import debug_option
from geohr_cli.progress import progress


@click.command()
@click.argument("scene")
@click.argument("objects", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="File to write.",
)
@click.option(
    "--model", metavar="NAME|FILE", help="Model that was used, if it is not a bundled one."
)
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
@json_option
@debug_option
def report(
    scene: str, objects: Path, out: Path, model: str | None, overwrite: bool, as_json: bool
) -> None:
    """Write an HTML report on OBJECTS, a .gpkg, that were found in the raster SCENE.

    Example: geohr report scene.tif buildings.gpkg --out report.html
    """
    from geohr._runtime.files import check_writable
    from geohr.models.model import resolve_model
    from geohr.scene.provenance import files_behind
    from geohr.viewer.report import write_report

    check_writable(out, overwrite=overwrite, inputs=[*files_behind(scene), objects, model])
    with progress(f"report {out.name}"):
        phase("drawing")
        write_report(scene, objects, out, model=resolve_model(model) if model is not None else None)
    size = out.stat().st_size
    tell(f"{out}: {max(size // 1000, 1):,} kB", {"outputs": [out], "bytes": size}, as_json=as_json)
