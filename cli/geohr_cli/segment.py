"""`geohr segment`: a scene in, objects out."""

from __future__ import annotations

from pathlib import Path

import click

from geohr.errors import UsageError
from geohr.options import SegmentOptions
from geohr_cli.flags import chosen, config_option, debug_option, options_of
from geohr_cli.progress import progress


@click.command()
@click.argument("scene")
@click.option(
    "--out",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Polygons (.gpkg, .geojson, .fgb, .parquet, .shp) or classes (.tif); repeatable.",
)
@click.option(
    "--probs",
    type=click.Path(path_type=Path),
    metavar="FILE.tif",
    help="Probabilities, a band a class.",
)
@click.option(
    "--model",
    metavar="NAME|FILE",
    help="A bundled model's name or a .safetensors file.  [default: buildings]",
)
@options_of(SegmentOptions)
@config_option
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@debug_option
def segment(
    scene: str, out: tuple[Path, ...], probs: Path | None, model: str | None, overwrite: bool
) -> None:
    """Find objects in the raster SCENE.

    Example: geohr segment scene.tif --out buildings.gpkg --out classes.tif --probs probs.tif
    """
    if not out and probs is None:
        raise UsageError("no output named; add --out objects.gpkg, --out classes.tif or --probs")
    options = chosen(SegmentOptions)

    from geohr.model import resolve_model
    from geohr.segmenting import segment_to_files

    with progress(f"segment {Path(scene).name}") as report:
        summary = segment_to_files(
            scene,
            out,
            probs=probs,
            model=resolve_model(model),
            options=options,
            overwrite=overwrite,
            progress=report,
        )
    click.echo(summary.describe())
