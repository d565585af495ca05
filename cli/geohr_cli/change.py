"""`geohr change`: what changed between two dates."""

from __future__ import annotations

import json
from pathlib import Path

import click

from geohr.errors import UsageError
from geohr.options import ResumeOptions, SegmentOptions
from geohr.workflows.change.options import ChangeOptions
from geohr_cli.flags import chosen, config_option, debug_option, options_of
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
    "--model",
    metavar="NAME|FILE",
    help="Name of a bundled model, or a .safetensors file.  [default: buildings]",
)
@options_of(ChangeOptions)
@options_of(SegmentOptions)
@options_of(ResumeOptions)
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist.")
@debug_option
def change(
    dates: tuple[str, ...],
    out: Path,
    against: str | None,
    probs_before: str | None,
    probs_after: str | None,
    out_raster: Path | None,
    out_osm: Path | None,
    model: str | None,
    as_json: bool,
    overwrite: bool,
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
    options, segment_options = chosen(ChangeOptions), chosen(SegmentOptions)
    kept = chosen(ResumeOptions)

    from geohr._runtime.files import check_writable
    from geohr.workflows.change.dates import change as compare_dates
    from geohr.workflows.change.osm import write_osm

    if out_osm is not None:
        check_writable(out_osm, overwrite=overwrite)
    with stop_on_signals() as stop, progress(f"change {out.name}") as report:
        counts = compare_dates(
            *dates,
            out,
            probabilities=(probs_before, probs_after),
            model=model,
            options=options,
            segment_options=segment_options,
            raster=out_raster,
            overwrite=overwrite,
            progress=report,
            work_dir=kept.work_dir,
            stop=stop,
        )
    if out_osm is not None:
        write_osm(out, out_osm, source=f"geohr, {Path(dates[1]).name}")
    click.echo(json.dumps(counts.as_dict(), indent=1) if as_json else counts.describe())
