"""`geohr segment`: a scene in, objects out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from geohr.errors import UsageError
from geohr.options import ResumeOptions, SegmentOptions
from geohr_cli.flags import chosen, config_option, debug_option, options_of
from geohr_cli.logs import Log, LogOptions
from geohr_cli.signals import stop_on_signals


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
    "--disagreement",
    type=click.Path(path_type=Path),
    metavar="FILE.tif",
    help="How far overlapping windows differ; such a run keeps nothing to go on from.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="A page about the run; needs an --out that is a .gpkg.",
)
@click.option(
    "--model",
    metavar="NAME|FILE",
    help="A bundled model's name or a .safetensors file.  [default: buildings]",
)
@options_of(SegmentOptions)
@options_of(ResumeOptions)
@options_of(LogOptions)
@config_option
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@debug_option
def segment(
    scene: str,
    out: tuple[Path, ...],
    probs: Path | None,
    disagreement: Path | None,
    report: Path | None,
    model: str | None,
    overwrite: bool,
) -> None:
    """Find objects in the raster SCENE.

    Example: geohr segment scene.tif --out buildings.gpkg --out classes.tif --probs probs.tif
    """
    if not out and probs is None:
        raise UsageError("no output named; add --out objects.gpkg, --out classes.tif or --probs")
    packages = [path for path in out if path.suffix.lower() == ".gpkg"]
    if report is not None and not packages:
        raise UsageError("--report is made from a GeoPackage; add --out objects.gpkg")
    options, kept = chosen(SegmentOptions), chosen(ResumeOptions)
    log = Log(chosen(LogOptions))

    from geohr.files import check_writable
    from geohr.model import resolve_model
    from geohr.segmenting import segment_to_files

    if report is not None:
        check_writable(report, overwrite=overwrite)
    network = resolve_model(model)
    with stop_on_signals() as stop, log.progress(f"segment {Path(scene).name}") as progress:
        summary = segment_to_files(
            scene,
            out,
            probs=probs,
            disagreement=disagreement,
            model=network,
            options=options,
            overwrite=overwrite,
            progress=progress,
            work_dir=kept.work_dir,
            resume=kept.resume,
            stop=stop,
        )
    if report is not None:
        from geohr.report import write_report

        write_report(scene, packages[0], report, model=network, summary=summary)
    log.summary("segmented", summary.describe(), dataclasses.asdict(summary))
