"""`geohr change`: what changed between two dates."""

from __future__ import annotations

import json
from pathlib import Path

import click

from geohr.change.options import ChangeOptions
from geohr.errors import UsageError
from geohr.options import ResumeOptions, SegmentOptions
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
    help="Footprints that exist (OSM, Overture, a cadastre, an earlier result) in place of BEFORE.",
)
@click.option("--probs-before", metavar="FILE.tif", help="Probabilities of BEFORE, as geohr wrote.")
@click.option("--probs-after", metavar="FILE.tif", help="Probabilities of AFTER, as geohr wrote.")
@click.option(
    "--out-osm",
    type=click.Path(path_type=Path),
    metavar="FILE.osc",
    help="New buildings as an OSM change file, to be reviewed in JOSM; nothing is uploaded.",
)
@click.option("--model", metavar="NAME|FILE", help="Model for scenes; see `geohr models`.")
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
    out_osm: Path | None,
    model: str | None,
    as_json: bool,
    overwrite: bool,
) -> None:
    """Tell what is new, gone, grown, shrunk or the same between BEFORE and AFTER.

    Each is a scene, which is segmented first, or a vector file of objects. With --against, name
    AFTER alone.

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
    from geohr.change.dates import change as compare_dates
    from geohr.change.osm import write_osm

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
            overwrite=overwrite,
            progress=report,
            work_dir=kept.work_dir,
            stop=stop,
        )
    if out_osm is not None:
        write_osm(out, out_osm, source=f"geohr, {Path(dates[1]).name}")
    click.echo(json.dumps(counts.as_dict(), indent=1) if as_json else counts.describe())
