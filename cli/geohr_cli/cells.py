"""`geohr cells`: a mosaic in cells, each made anywhere by itself, and joined into one map."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geohr._runtime.messages import amount
from geohr.errors import BatchError, LockedError, UsageError
from geohr.options import ResumeOptions, SegmentOptions
from geohr.workflows.cells.options import CellOptions
from geohr_cli.facts import json_option, tell
from geohr_cli.flags import Target, chosen, config_option, debug_option, options_of
from geohr_cli.logs import Log, LogOptions
from geohr_cli.signals import stop_on_signals

if TYPE_CHECKING:
    from geohr.workflows.cells.plan import Cell, CellPlan


@click.group()
def cells() -> None:
    """Segment a mosaic cell by cell, with whatever runs an array of jobs.

    Example: geohr cells plan scenes/*.tif --cell 10km --out plan.json
    """


@cells.command()
@click.argument("scenes", metavar="SCENE...", nargs=-1, required=True)
@click.option(
    "--out",
    required=True,
    type=Target(),
    metavar="FILE.json|URL",
    help="The plan, on disk or in an object store.",
)
@click.option(
    "--to",
    type=Target(),
    metavar="FOLDER|URL",
    help="Where cells write, a folder or a part of a bucket.  [default: beside the plan]",
)
@click.option(
    "--model",
    metavar="NAME|FILE",
    help="Name of a bundled model, or a .safetensors file.  [default: buildings]",
)
@options_of(CellOptions)
@options_of(SegmentOptions)
@config_option
@click.option("--overwrite", is_flag=True, help="Replace a plan that exists.")
@json_option
@debug_option
def plan(
    scenes: tuple[str, ...],
    out: str | Path,
    to: str | Path | None,
    model: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Cut SCENES, read as one mosaic, into cells.

    Says how many cells there are, and what they will take: time, bytes, and money at --price.

    Example: geohr cells plan scenes/*.tif --cell 10km --to s3://bucket/country --out plan.json
    """
    asked, options = chosen(CellOptions), chosen(SegmentOptions)

    from geohr.workflows.cells.plan import beside_plan, write_plan
    from geohr.workflows.cells.planner import plan_cells

    made = plan_cells(
        scenes, beside_plan(out) if to is None else to, model=model, options=options, asked=asked
    )
    write_plan(made, out, overwrite=overwrite)
    estimated = made.estimate()
    facts = {"outputs": [out], **dataclasses.asdict(estimated)}
    tell(f"{out}: {estimated.describe()}", facts, as_json=as_json)


@cells.command()
@click.argument("plan", type=Target(), metavar="PLAN")
@click.option(
    "--task",
    metavar="N/COUNT",
    help="Make every COUNTth cell, from the Nth on: the share of task N of an array of COUNT.",
)
@click.option("--cell", "names", multiple=True, metavar="NAME", help="Make this cell; repeatable.")
@click.option(
    "--dask",
    metavar="ADDRESS|local:N",
    help="Make cells on the workers of a Dask cluster, which write them.",
)
@options_of(ResumeOptions)
@options_of(LogOptions)
@config_option
@json_option
@debug_option
def run(
    plan: str | Path,
    task: str | None,
    names: tuple[str, ...],
    dask: str | None,
    as_json: bool,
) -> None:
    """Make cells of PLAN: all, the share of one task, or those named.

    A cell that is done is skipped; one that was cut short goes on; one that another task is making
    is left to it.

    Example: geohr cells run plan.json --task 17/400
    """
    kept, log = chosen(ResumeOptions), Log(chosen(LogOptions), as_json=as_json)

    from geohr.workflows.cells.plan import read_plan
    from geohr.workflows.cells.run import run_cells

    read = read_plan(plan)
    wanted = chosen_cells(read, task, names)
    reporter = CellReporter(log)
    if dask is not None:
        from geohr.workflows.cells.cluster import run_on_cluster

        with stop_on_signals() as stop:
            counts = run_on_cluster(
                read, wanted, dask, reporter, work_dir=kept.work_dir, resume=kept.resume, stop=stop
            )
    else:
        with stop_on_signals() as stop:
            counts = run_cells(
                read,
                wanted,
                listener=reporter,
                work_dir=kept.work_dir,
                resume=kept.resume,
                stop=stop,
            )
    text = " ".join(f"{name}={value}" for name, value in counts.items())
    log.summary("cells", f"geohr cells: {text}", dict(counts))
    if counts["failed"]:
        raise BatchError(
            f"{counts['failed']:,} of {amount(len(wanted), 'cell')} failed; see geohr cells status "
            f"{plan}"
        )
    if counts["locked"]:
        raise LockedError(
            f"{amount(counts['locked'], 'cell')} left to other tasks that are making them; run "
            "again when these have ended"
        )


class CellReporter:
    """Says what becomes of each cell.

    Args:
        log: Where it is said.
    """

    def __init__(self, log: Log) -> None:
        self._log = log

    def began(self, cell: Cell, *, place: int, count: int) -> None:
        """A cell is being made."""
        values: dict[str, object] = {"cell": cell.name, "place": place, "count": count}
        self._log.info("began", f"[{place}/{count}] {cell.name}", values)

    def ended(self, cell: Cell, state: str, detail: str) -> None:
        """A cell is done, was skipped, is another task's, or failed."""
        say = self._log.warn if state in ("failed", "locked") else self._log.info
        why = f": {detail}" if detail else ""
        say(state, f"{cell.name}: {state}{why}", {"cell": cell.name, "detail": detail})


def chosen_cells(plan: CellPlan, task: str | None, names: tuple[str, ...]) -> list[Cell]:
    """The cells that `--task` or `--cell` name; all without them.

    Raises:
        UsageError: When both are given, or one names none.
    """
    if task is not None and names:
        raise UsageError("--task and --cell both choose cells; give one of them")
    if names:
        return [plan.cell(name) for name in dict.fromkeys(names)]
    if task is None:
        return list(plan.cells)
    found = re.fullmatch(r"([1-9]\d{0,8})/([1-9]\d{0,8})", task)
    if found is None or int(found[1]) > int(found[2]):
        raise UsageError(
            f"--task must be N/COUNT with N from 1 to COUNT, such as 17/400; got {task}"
        )
    return plan.task(int(found[1]), int(found[2]))


@cells.command()
@click.argument("plan", type=Target(), metavar="PLAN")
@click.option(
    "--out",
    required=True,
    type=Target(),
    metavar="FOLDER.parquet|URL",
    help="The data set: a folder of GeoParquet files, on disk or in an object store.",
)
@click.option(
    "--pmtiles",
    type=click.Path(path_type=Path),
    metavar="FILE.pmtiles",
    help="Also write vector tiles of the objects, for maps on the web.",
)
@options_of(LogOptions)
@config_option
@json_option
@debug_option
def join(plan: str | Path, out: str | Path, pmtiles: Path | None, as_json: bool) -> None:
    """Join the cells of PLAN that are done: objects that cross their edges become one.

    Beside the data set come virtual rasters (.vrt) over the cells' rasters and a STAC collection.
    Run it again when more cells are done; those that the data set has are not copied again.

    Example: geohr cells join plan.json --out country.parquet
    """
    log = Log(chosen(LogOptions), as_json=as_json)

    from geohr.workflows.cells.join import join_cells
    from geohr.workflows.cells.plan import read_plan

    if pmtiles is not None:
        from geohr.workflows.cells.tiles import check_tiles, write_tiles

        check_tiles(out, pmtiles, overwrite=True)
    read = read_plan(plan)
    with log.progress(f"join {Path(str(out)).name}") as progress:
        summary = join_cells(read, out, progress=progress)
        if pmtiles is not None:
            write_tiles(out, pmtiles, overwrite=True)
    outputs = [summary.out, *summary.files, *([] if pmtiles is None else [pmtiles])]
    log.summary(
        "joined", summary.describe(), dataclasses.asdict(summary), more={"outputs": outputs}
    )


@cells.command()
@click.argument("plan", type=Target(), metavar="PLAN")
@config_option
@json_option
@debug_option
def status(plan: str | Path, as_json: bool) -> None:
    """Say how far PLAN has come: cells done, failed and to go, and how fast it goes.

    Example: geohr cells status plan.json
    """
    from geohr.workflows.cells.plan import read_plan
    from geohr.workflows.cells.status import cells_status

    progress = cells_status(read_plan(plan))
    click.echo(json.dumps(dataclasses.asdict(progress)) if as_json else progress.describe())
