"""Cells made by the workers of a Dask cluster, which write them themselves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from geohr._runtime.stop import Stop, interrupted
from geohr.errors import EngineError
from geohr.models.model import resolve_model
from geohr.workflows.cells.plan import Cell, CellPlan, plan_of
from geohr.workflows.cells.run import STATES, CellListener, CellRunner, attempt

# Cells that are with the cluster at once, for each of its threads.
AHEAD = 2


def run_on_cluster(
    plan: CellPlan,
    cells: Sequence[Cell],
    address: str,
    listener: CellListener,
    *,
    work_dir: Path | None = None,
    resume: bool = True,
    stop: Stop | None = None,
) -> dict[str, int]:
    """Make cells on a cluster. Nothing but their names passes the scheduler, after the plan.

    Args:
        plan: The plan; its files and folders have the same names on all workers.
        cells: Which cells.
        address: The scheduler's address, or `local:N`.
        listener: Told what becomes of each.
        work_dir: See `CellRunner`.
        resume: See `CellRunner`.
        stop: When requested, cells in progress are finished and no other is begun.

    Returns:
        How many are done, skipped, locked and failed.

    Raises:
        EngineError: When the cluster is gone, or an error comes that no cell has.
        InterruptedRunError: When asked to stop.
    """
    from distributed import as_completed

    from geohr.cluster import connected

    stop = stop or Stop()
    counts = dict.fromkeys(STATES, 0)
    waiting = list(reversed(cells))
    with connected(address) as client:
        text = client.scatter(plan.to_json(), broadcast=True)
        running: Any = as_completed(loop=client.loop)
        of: dict[object, Cell] = {}

        def submit() -> None:
            cell = waiting.pop()
            listener.began(cell, place=len(cells) - len(waiting), count=len(cells))
            future = client.submit(
                make_cell, text, cell.name, work_dir, resume, pure=False, retries=1
            )
            of[future.key] = cell
            running.add(future)

        while waiting and len(of) < AHEAD * max(sum(client.nthreads().values()), 1):
            submit()
        for future in running:
            cell = of[future.key]
            try:
                state, detail = future.result()
            except Exception as error:
                raise EngineError(f"cell {cell.name}: {type(error).__name__}: {error}") from error
            counts[state] += 1
            listener.ended(cell, state, detail)
            if waiting and not stop.requested:
                submit()
        if waiting:
            raise interrupted()
    return counts


def make_cell(text: str, name: str, work_dir: Path | None, resume: bool) -> tuple[str, str]:
    """Make a cell of a plan on a worker: what became of it, and a detail."""
    plan, runner = _runner(text, work_dir, resume)
    state, detail, _ = attempt(runner, plan, plan.cell(name))
    return state, detail


@lru_cache(maxsize=2)
def _runner(text: str, work_dir: Path | None, resume: bool) -> tuple[CellPlan, CellRunner]:
    """A plan and what makes its cells, opened once in a process."""
    plan = plan_of(text, "the plan")
    model = resolve_model(plan.model)
    return plan, CellRunner(plan, model, work_dir=work_dir, resume=resume)
