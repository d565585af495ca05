"""`geohr segment`: a scene in, objects out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geohr.errors import UsageError
from geohr.options import ClusterOptions, ResumeOptions, SegmentOptions
from geohr_cli.flags import chosen, config_option, debug_option, options_of
from geohr_cli.logs import Log, LogOptions
from geohr_cli.signals import stop_on_signals

if TYPE_CHECKING:
    from geohr.segmenting import Workplace


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
@options_of(ClusterOptions)
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
    where = chosen(ClusterOptions)
    log = Log(chosen(LogOptions))

    from geohr.blocks import Cut
    from geohr.files import check_writable
    from geohr.model import resolve_model
    from geohr.segmenting import segment_to_files

    if report is not None:
        check_writable(report, overwrite=overwrite)
    network, cut = resolve_model(model), Cut.parse(where.block)
    with (
        stop_on_signals() as stop,
        workplace_of(where.dask) as workplace,
        log.progress(f"segment {Path(scene).name}") as progress,
    ):
        summary = segment_to_files(
            scene,
            out,
            probs=probs,
            disagreement=disagreement,
            model=network,
            options=options,
            cut=cut,
            workplace=workplace,
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


@contextmanager
def workplace_of(dask: str | None) -> Iterator[Workplace | None]:
    """The cluster that `--dask` names; None where blocks are predicted in this process."""
    if dask is None:
        yield None
        return
    from geohr.cluster import Cluster, connected

    with connected(dask) as client:
        yield Cluster(client)
