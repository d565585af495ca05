"""`geohr segment`: a scene in, objects out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from geohr.errors import UsageError
from geohr.options import ClusterOptions, ResumeOptions, SegmentOptions
from geohr_cli.facts import json_option
from geohr_cli.flags import (
    Target,
    chosen,
    config_option,
    creation_option,
    debug_option,
    options_of,
)
from geohr_cli.logs import Log, LogOptions
from geohr_cli.signals import stop_on_signals


@click.command()
@click.argument("scenes", metavar="SCENE...", nargs=-1, required=True)
@click.option(
    "--out",
    multiple=True,
    type=Target(),
    metavar="FILE|URL",
    help="Polygons (.gpkg, .geojson, .fgb, .parquet, .shp) or a class raster (.tif), on disk or in "
    "an object store (s3://, gs://, az://); repeatable.",
)
@click.option(
    "--probs",
    type=Target(),
    metavar="FILE.tif",
    help="Raster of probabilities, one band per class.",
)
@click.option(
    "--disagreement",
    type=Target(),
    metavar="FILE.tif",
    help="Raster of how far overlapping windows differ; such a run cannot be resumed.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="HTML report on the run; needs a .gpkg among the outputs.",
)
@click.option(
    "--stac",
    is_flag=True,
    help="Write a STAC Item beside the first output: NAME.stac.json.",
)
@creation_option
@click.option(
    "--model",
    metavar="NAME|FILE",
    help="Name of a bundled model, or a .safetensors file.  [default: buildings]",
)
@options_of(SegmentOptions)
@options_of(ResumeOptions)
@options_of(ClusterOptions)
@options_of(LogOptions)
@config_option
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@json_option
@debug_option
def segment(
    scenes: tuple[str, ...],
    out: tuple[str | Path, ...],
    probs: str | Path | None,
    disagreement: str | Path | None,
    report: Path | None,
    stac: bool,
    co: dict[str, str],
    model: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Find objects in the raster SCENE: a file, a URL, or a STAC item.

    Several scenes are read as one mosaic; where they overlap, the last valid pixel is used.

    Example: geohr segment scene.tif --out buildings.gpkg --out classes.tif --probs probs.tif
    """
    if not out and probs is None:
        raise UsageError("no output named; add --out objects.gpkg, --out classes.tif or --probs")
    packages = [each for each in out if isinstance(each, Path) and each.suffix.lower() == ".gpkg"]
    if report is not None and not packages:
        raise UsageError("--report is made from a GeoPackage on disk; add --out objects.gpkg")
    options, kept = chosen(SegmentOptions), chosen(ResumeOptions)
    where = chosen(ClusterOptions)
    log = Log(chosen(LogOptions), as_json=as_json)

    from geohr._runtime.files import check_writable
    from geohr.api.segment import segment_to_files
    from geohr.models.model import resolve_model
    from geohr.scene.prepare import display_name
    from geohr.scene.provenance import files_behind
    from geohr.scene.stac import is_stac
    from geohr.tiling.blocks import BlockSize
    from geohr.workflows.executors import executor_at

    if report is not None:
        if len(scenes) > 1 or is_stac(scenes[0]):
            raise UsageError("--report shows one raster file; leave it out for a mosaic")
        inputs = [*files_behind(scenes[0]), options.aoi, options.calibrate, model]
        check_writable(report, overwrite=overwrite, inputs=inputs)
    network, block_size = resolve_model(model), BlockSize.parse(where.block)
    with (
        stop_on_signals() as stop,
        executor_at(where.dask) as executor,
        log.progress(f"segment {Path(display_name(scenes)).name}") as progress,
    ):
        summary = segment_to_files(
            scenes,
            out,
            probs=probs,
            disagreement=disagreement,
            model=network,
            options=options,
            stac=stac,
            creation_options=co,
            block_size=block_size,
            executor=executor,
            overwrite=overwrite,
            progress=progress,
            work_dir=kept.work_dir,
            resume=kept.resume,
            stop=stop,
        )
    if report is not None:
        from geohr.viewer.report import write_report

        write_report(scenes[0], packages[0], report, model=network, summary=summary)
    log.summary("segmented", summary.describe(), dataclasses.asdict(summary))
