"""Who computes: this process, or the cluster at an address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from geohr.inference.executor import Executor, LocalExecutor


@contextmanager
def executor_at(dask: str | None) -> Iterator[Executor]:
    """Yield what predicts the blocks of a run.

    Args:
        dask: The address of a scheduler, `local:N` for N processes of this machine, or None for
            this process.

    Raises:
        EngineError: When Dask is not installed, or the cluster cannot be reached.
    """
    if dask is None:
        yield LocalExecutor()
        return
    from geohr.cluster import DaskExecutor, connected

    with connected(dask) as client:
        yield DaskExecutor(client)
