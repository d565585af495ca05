"""Cells joined into one map: what crosses their edges becomes whole, and nothing is read again."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geohr._runtime.file_store import FileStore, FolderStore, open_file_store
from geohr._runtime.messages import amount, warn
from geohr.errors import InputError
from geohr.inference.job import Job
from geohr.inference.pipeline import Progress
from geohr.models.model import resolve_model
from geohr.outputs.vector import VectorWriter
from geohr.outputs.write import vector_writer
from geohr.polygons.fragments import Fragment, FragmentJoiner
from geohr.workflows.cells.catalog import write_catalog
from geohr.workflows.cells.files import FRAGMENTS, objects_name
from geohr.workflows.cells.plan import Cell, CellPlan, Zone
from geohr.workflows.cells.run import DONE, CellResult
from geohr.workflows.cells.scene import zone_job

# Files that are read or copied at the same time.
THREADS = 16
# The file of a data set that says which cells are in it.
JOINED = "_joined.json"
# The partition of the objects that cross edges.
EDGES = "cell=edges"


@dataclass(frozen=True)
class JoinSummary:
    """The summary of a join.

    Attributes:
        out: The data set.
        cells: Cells in the plan.
        done: Cells that are in the data set.
        copied: Cells whose objects were copied to it now.
        objects: Objects in it.
        joined: Those of them that cross edges or wait near them.
        open: Objects that go on in cells that are not done; they are left out.
        files: What was written beside it.
    """

    out: str
    cells: int
    done: int
    copied: int
    objects: int
    joined: int
    open: int
    files: tuple[str, ...]

    def describe(self) -> str:
        """The summary in one line."""
        done = f"{self.done:,} of " if self.done < self.cells else ""
        cells = done + amount(self.cells, "cell")
        left = f"; {self.open} left out that go on in cells not done" if self.open else ""
        return (
            f"{self.out}: {amount(self.objects, 'object')} of {cells}, {self.joined:,} of them "
            f"at edges{left}; {amount(self.copied, 'cell')} copied"
        )


def done_results(plan: CellPlan) -> dict[str, CellResult]:
    """What the markers of the plan's cells say, by the names of the cells."""
    there = plan.store.sizes(DONE)
    names = {cell.name: plan.marker(cell) for cell in plan.cells}
    found = [(cell, name) for cell, name in names.items() if name in there]
    with ThreadPoolExecutor(THREADS) as pool:
        contents = list(pool.map(lambda each: plan.store.read(each[1]), found))
    return {
        cell: CellResult.read(content)
        for (cell, _), content in zip(found, contents, strict=True)
        if content is not None
    }


def join_cells(
    plan: CellPlan,
    out: str | Path,
    *,
    progress: Progress | None = None,
) -> JoinSummary:
    """Join the cells that are done into a data set, with virtual rasters and a STAC collection.

    The data set is a folder of GeoParquet files, one for each cell and one for what crosses edges.
    Cells that it has already are not copied again.

    Args:
        plan: The plan.
        out: The folder, or the address in an object store, of the data set.
        progress: Called with cells joined and cells in all.

    Raises:
        InputError: When no cell is done, a file of one is gone or damaged, or the model is.
        OutputError: When the data set cannot be written.
        LockedError: When another run is joining into it.
    """
    results = done_results(plan)
    if not results:
        raise InputError(f"{plan.root}: no cell of the plan is done; run geohr cells run first")
    engines = sorted({each.engine for each in results.values()})
    if len(engines) > 1:
        warn(
            f"cells were made by several engines ({', '.join(engines)}), whose scores may differ "
            "in the last bits; objects may not meet at the edges between them"
        )
    target, model = open_file_store(out), resolve_model(plan.model)
    with target.locked("join", what=str(out)):
        joined = left = copied = 0
        jobs = [zone_job(plan, zone, [zone.scenes[0]], model) for zone in plan.zones]
        if plan.asked.polygons:
            report = _counted(progress, len(results))
            for number, (zone, job) in enumerate(zip(plan.zones, jobs, strict=True)):
                cells = [
                    each for each in plan.cells if each.zone == number and each.name in results
                ]
                more, still = _join_zone(plan, zone, cells, job, target, report)
                joined, left = joined + more, left + still
            copied = _copy(plan, [each for each in plan.cells if each.name in results], target)
        files = write_catalog(plan, results, jobs, target, str(out))
    if left and len(results) == len(plan.cells):
        warn(
            f"{amount(left, 'object')} left out, whose parts in different cells do not meet at "
            "the cells' edges"
        )
    return JoinSummary(
        out=str(out),
        cells=len(plan.cells),
        done=len(results),
        copied=copied,
        objects=joined + sum(each.objects for each in results.values()),
        joined=joined,
        open=left,
        files=tuple(files),
    )


def _counted(progress: Progress | None, total: int) -> Progress:
    """Adds up cells that are joined."""
    done = 0

    def report(more: int, _: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, total)

    return report


def _join_zone(
    plan: CellPlan,
    zone: Zone,
    cells: Sequence[Cell],
    job: Job,
    target: FileStore,
    report: Progress,
) -> tuple[int, int]:
    """Write the objects at the edges of a zone's cells; how many, and how many are left open."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "objects.parquet"
        with vector_writer(job, path) as writer:
            left = _joined(plan, zone, cells, job, writer, report)
        name = f"{EDGES}/objects{zone.name.rstrip('-') and '-' + zone.name.rstrip('-')}.parquet"
        if writer.count:
            target.put(name, path)
        else:
            target.delete(name)
    return writer.count, left


def _joined(
    plan: CellPlan,
    zone: Zone,
    cells: Sequence[Cell],
    job: Job,
    writer: VectorWriter,
    report: Progress,
) -> int:
    """Join rows of cells from top to bottom; how many objects are open at the end."""
    joiner = FragmentJoiner(job.trace_settings)
    for row, fragments in _rows(plan, cells):
        polygons, _ = joiner.add(fragments, stop=zone.rows[row + 1])
        writer.write(job.to_crs(polygons))
        report(len(fragments), 0)
    return len(joiner)


def _rows(plan: CellPlan, cells: Sequence[Cell]) -> Iterator[tuple[int, list[Fragment]]]:
    """The fragments of rows of cells, each row read while the one before is joined."""
    by_row: dict[int, list[Cell]] = {}
    for cell in cells:
        by_row.setdefault(cell.row, []).append(cell)

    def read(cell: Cell) -> Fragment:
        name = f"{FRAGMENTS}/{cell.name}.npz"
        content = plan.store.read(name)
        address = plan.store.address(name)
        if content is None:
            raise InputError(
                f"{address}: is gone; remove {plan.store.address(plan.marker(cell))} and run the "
                "cell again"
            )
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return Fragment.from_arrays(dict(arrays))
        except Exception as error:  # zip, zlib and numpy each raise kinds of their own
            raise InputError(
                f"{address}: is damaged ({error}); remove it and its marker, and run the cell again"
            ) from error

    rows = sorted(by_row)
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = [pool.submit(read, cell) for cell in by_row[rows[0]]] if rows else []
        for place, row in enumerate(rows):
            after = [pool.submit(read, each) for each in by_row[rows[place + 1]]] if (
                place + 1 < len(rows)
            ) else []  # fmt: skip
            yield row, [each.result() for each in waiting]
            waiting = after


def _copy(plan: CellPlan, cells: Iterable[Cell], target: FileStore) -> int:
    """Copy the objects of cells that the data set does not have; how many cells that were."""
    wanted = {cell.name: plan.marker(cell) for cell in cells}
    known = _known(target)
    missing = [name for name, marker in wanted.items() if known.get(name) != marker]

    def copy(name: str) -> None:
        source, partition = objects_name(name), f"cell={name}/objects.parquet"
        if isinstance(target, FolderStore):
            plan.store.fetch(source, target.root / partition)
            return
        content = plan.store.read(source)
        if content is None:
            raise InputError(
                f"{plan.store.address(source)}: is gone; remove the cell's marker in {DONE} and "
                "run it again"
            )
        target.put(partition, content)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(copy, missing))
        gone = [f"cell={name}/objects.parquet" for name in known if name not in wanted]
        list(pool.map(target.delete, gone))
    target.put(JOINED, json.dumps(wanted).encode())
    return len(missing)


def _known(target: FileStore) -> Mapping[str, str]:
    """The cells that a data set has, and the marker that each was made by."""
    content = target.read(JOINED)
    if content is None:
        return {}
    try:
        return dict(json.loads(content))
    except (ValueError, TypeError):
        return {}
