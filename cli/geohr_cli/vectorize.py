"""`geohr vectorize`: a raster of classes or probabilities in, polygons out."""

from __future__ import annotations

from pathlib import Path

import click

from geohr._runtime.redact import redact
from geohr.api.options import VectorizeOptions
from geohr_cli.facts import json_option, tell
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
@json_option
@debug_option
def vectorize(raster: str, out: Path, probs: str | None, overwrite: bool, as_json: bool) -> None:
    """Trace the objects of a RASTER of any size.

    RASTER holds class ids, or probabilities that geohr segment wrote by --probs. Probabilities give
    what segment itself gives, at any --threshold; where segment resampled the scene (--gsd), walls
    may lie up to a pixel elsewhere. Class ids do not tell touching objects apart, nor which are too
    small: every connected group of pixels becomes an object, and these are more, or others, than
    those of segment.

    Example: geohr vectorize probs.tif --out objects.gpkg --threshold 0.4
    """
    options = chosen(VectorizeOptions)

    from geohr.api.vectorize import vectorize as trace

    with progress(f"vectorize {redact(Path(raster).name)}") as report:
        result = trace(
            raster,
            out,
            options=options,
            probabilities=probs,
            overwrite=overwrite,
            progress=report,
        )
    facts = {
        "outputs": [result.path],
        "objects": result.objects,
        "area_m2": result.area_m2,
        "classes": result.classes,
    }
    tell(result.describe(), facts, as_json=as_json)
