"""How far a plan has come, told by its markers alone."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from geohr.workflows.cells.join import THREADS, done_results
from geohr.workflows.cells.plan import CellPlan
from geohr.workflows.cells.run import FAILED


@dataclass(frozen=True)
class CellStatus:
    """How far a plan has come.

    Attributes:
        cells: Cells in the plan.
        done: Cells that are done.
        failed: Cells that failed and were not done since.
        to_go: Cells that are neither.
        reasons: By reason, how many cells failed for it.
        failures: The names of the cells that failed.
        objects: Objects of the cells that are done, without those that cross their edges.
        km2: Square kilometres that are done.
        km2_to_go: Square kilometres that are not.
        km2_per_hour: Square kilometres done an hour by one task, while it worked; None before one
            is done.
        hours_to_go: Hours of one task that the rest will take at that rate.
        engines: Engines that predicted; the outputs are those of one run where it is one.
    """

    cells: int
    done: int
    failed: int
    to_go: int
    reasons: dict[str, int]
    failures: tuple[str, ...]
    objects: int
    km2: float
    km2_to_go: float
    km2_per_hour: float | None
    hours_to_go: float | None
    engines: tuple[str, ...]

    def describe(self) -> str:
        """The status for a person, a line an entry."""
        lines = [
            f"cells: {self.cells}, {self.done} done, {self.failed} failed, {self.to_go} to go",
            f"area: {self.km2:.3g} of {self.km2 + self.km2_to_go:.3g} km2 done",
        ]
        if self.km2_per_hour is not None and self.hours_to_go is not None:
            lines.append(
                f"rate: {self.km2_per_hour:.3g} km2 per hour and task; "
                f"{self.hours_to_go:.3g} hours of one task to go"
            )
        if len(self.engines) > 1:
            lines.append(f"engines: {', '.join(self.engines)}; results may differ in the last bits")
        for reason, count in sorted(self.reasons.items(), key=lambda each: (-each[1], each[0])):
            lines.append(f"failed: {count} x {reason}")
        return "\n".join(lines)


def cells_status(plan: CellPlan) -> CellStatus:
    """Look how far a plan has come.

    Raises:
        OutputError: When the place of its files cannot be read.
        UsageError: When that is in an object store and obstore is not installed.
    """
    results = done_results(plan)
    there = plan.store.sizes(FAILED)
    failed = [
        (cell.name, plan.marker(cell, FAILED))
        for cell in plan.cells
        if cell.name not in results and plan.marker(cell, FAILED) in there
    ]
    with ThreadPoolExecutor(THREADS) as pool:
        contents = list(pool.map(lambda each: plan.store.read(each[1]), failed))
    reasons = Counter(str(json.loads(each)["error"]) for each in contents if each is not None)
    done = sum(cell.km2 for cell in plan.cells if cell.name in results)
    to_go = sum(cell.km2 for cell in plan.cells if cell.name not in results)
    seconds = sum(each.seconds for each in results.values())
    rate = done / seconds * 3600 if seconds else None
    return CellStatus(
        cells=len(plan.cells),
        done=len(results),
        failed=len(failed),
        to_go=len(plan.cells) - len(results) - len(failed),
        reasons=dict(reasons),
        failures=tuple(name for name, _ in failed),
        objects=sum(each.objects for each in results.values()),
        km2=round(done, 6),
        km2_to_go=round(to_go, 6),
        km2_per_hour=rate,
        hours_to_go=to_go / rate if rate else None,
        engines=tuple(sorted({each.engine for each in results.values()})),
    )
