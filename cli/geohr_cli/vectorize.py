"""`geohr vectorize`: a class raster in, polygons out."""

from __future__ import annotations

from pathlib import Path

import click

from geohr.options import VectorizeOptions
from geohr_cli.flags import chosen, config_option, debug_option, options_of
from geohr_cli.progress import progress


@click.command()
@click.argument("raster")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Polygons: .gpkg, .geojson, .fgb, .parquet or .shp.",
)
@click.option(
    "--probs",
    metavar="FILE.tif",
    help="Probabilities on the same grid: uint8, probability x 254, one band per class.",
)
@options_of(VectorizeOptions)
@config_option
@click.option("--overwrite", is_flag=True, help="Replace an output that exists.")
@debug_option
def vectorize(raster: str, out: Path, probs: str | None, overwrite: bool) -> None:
    """Trace the objects of a class RASTER of any size.

    Example: geohr vectorize mask.tif --out objects.gpkg --simplify 0.5
    """
    options = chosen(VectorizeOptions)

    from geohr.api.vectorize import vectorize as trace

    with progress(f"vectorize {Path(raster).name}") as report:
        count = trace(
            raster,
            out,
            options=options,
            probabilities=probs,
            overwrite=overwrite,
            progress=report,
        )
    if count == 0:
        click.echo(f"{out}: no object found; the layer is empty")
    else:
        click.echo(f"{out}: {count} polygons")
