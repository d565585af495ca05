"""Plans written, on disk or in an object store."""

from __future__ import annotations

from pathlib import Path

from geohr._runtime.depots import open_depot
from geohr._runtime.files import check_writable
from geohr._runtime.stores import check_absent, is_object
from geohr.workflows.cells.plan import CellPlan


def write_plan(plan: CellPlan, out: str | Path, *, overwrite: bool = False) -> None:
    """Write a plan, whole or not at all.

    Args:
        plan: The plan.
        out: A file, or an address in an object store.
        overwrite: Replace one that exists.

    Raises:
        UsageError: When it exists and `overwrite` is not set.
        OutputError: When it cannot be written.
    """
    if is_object(out):
        check_absent(str(out), overwrite=overwrite)
        folder, _, name = str(out).rpartition("/")
        open_depot(folder).put(name, plan.to_json().encode())
        return
    path = Path(out)
    check_writable(path, overwrite=overwrite)
    open_depot(path.parent).put(path.name, plan.to_json().encode())


def beside_plan(out: str | Path) -> str | Path:
    """Where cells write, if nothing else is said: a folder named after the plan."""
    if is_object(out):
        return str(out).removesuffix(".json") + ".cells"
    return Path(out).with_suffix(".cells")
