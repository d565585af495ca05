"""`geohr change`: what changed between two dates."""

from __future__ import annotations

from pathlib import Path

import click

from geohr.errors import UsageError
from geohr.options import ClusterOptions, ResumeOptions, SegmentOptions
from geohr.workflows.change.options import ChangeOptions
from geohr_cli.facts import json_option, tell
from geohr_cli.flags import chosen, config_option, creation_option, debug_option, options_of
from geohr_cli.progress import progress
from geohr_cli.signals import stop_on_signals


@click.command()
@click.argument("dates", metavar="BEFORE AFTER", nargs=-1, required=True)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.gpkg",
    help="The GeoPackage of changes.",
)
@click.option(
    "--against",
    metavar="FILE",
    help="Existing footprints (OSM, Overture, a cadastre, an earlier result) instead of BEFORE.",
)
@click.option(
    "--probs-before", metavar="FILE.tif", help="Probabilities of BEFORE, written by geohr."
)
@click.option("--probs-after", metavar="FILE.tif", help="Probabilities of AFTER, written by geohr.")
@click.option(
    "--out-raster",
    type=click.Path(path_type=Path),
    metavar="FILE.tif",
    help="The probability of change, pixel by pixel; needs the probabilities of both dates.",
)
@click.option(
    "--out-osm",
    type=click.Path(path_type=Path),
    metavar="FILE.osc",
    help="New buildings as an OSM change file, for review in JOSM; nothing is uploaded.",
)
@click.option(
    "--out-overture",
    type=click.Path(path_type=Path),
    metavar="FILE.parquet",
    help="New buildings as GeoParquet, with the columns of Overture's buildings.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="HTML report on what changed, with pictures where a date is a scene.",
)
@creation_option
@click.option(
    "--model",
    metavar="NAME|FILE",
    help="Name of a bundled model, or a .safetensors file.  [default: buildings]",
)
@options_of(ChangeOptions)
@options_of(SegmentOptions)
@options_of(ResumeOptions)
@options_of(ClusterOptions)
@config_option
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@json_option
@debug_option
def change(
    dates: tuple[str, ...],
    out: Path,
    against: str | None,
    probs_before: str | None,
    probs_after: str | None,
    out_raster: Path | None,
    out_osm: Path | None,
    out_overture: Path | None,
    report: Path | None,
    co: dict[str, str],
    model: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Find objects that are new, gone, grown, shrunk or the same between BEFORE and AFTER.

    BEFORE and AFTER are scenes, which are segmented first, or vector files of objects. With
    --against, give only AFTER.

    Example: geohr change 2019.tif 2024.tif --out changes.gpkg
    """
    if against is not None and len(dates) == 1:
        dates = (against, *dates)
    elif against is not None or len(dates) != 2:
        raise UsageError(
            "name two dates, BEFORE and AFTER, or AFTER alone with --against FILE; "
            f"got {len(dates)}{' and --against' if against else ''}"
        )
    segment_options, kept = chosen(SegmentOptions), chosen(ResumeOptions)
    where = chosen(ClusterOptions)

    from geohr._runtime.files import check_writable
    from geohr.tiling.blocks import BlockSize
    from geohr.workflows.change.dates import change as compare_dates
    from geohr.workflows.change.inputs import ChangeOutputs
    from geohr.workflows.executors import executor_at

    targets = ChangeOutputs(out, out_raster, out_osm, out_overture, co)
    if report is not None:
        inputs = [*dates, probs_before, probs_after, model, segment_options.aoi]
        check_writable(report, overwrite=overwrite, inputs=inputs)
    with (
        stop_on_signals() as stop,
        executor_at(where.dask) as executor,
        progress(f"change {out.name}") as show,
    ):
        counts = compare_dates(
            *dates,
            targets,
            against=against is not None,
            probabilities=(probs_before, probs_after),
            model=model,
            options=chosen(ChangeOptions),
            segment_options=segment_options,
            executor=executor,
            block_size=BlockSize.parse(where.block),
            overwrite=overwrite,
            progress=show,
            work_dir=kept.work_dir,
            resume=kept.resume,
            stop=stop,
        )
        if report is not None:
            from geohr.viewer.change_report import write_change_report

            write_change_report(out, report, before=dates[0], after=dates[1])
    outputs = [each for each in (out, out_raster, out_osm, out_overture, report) if each]
    tell(counts.describe(), {"outputs": outputs, **counts.as_dict()}, as_json=as_json)
