"""What the processes of a team are given to do in tests; they import little besides torch."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from geohr.errors import InputError
from geohr.training.parallel import Progress, Team, run_team


def stay(folder: Path, team: Team, _: Progress | None) -> None:
    """Say that this process is there, and remain."""
    (folder / str(team.rank)).touch()
    while True:
        time.sleep(0.1)


def fail(error: Exception, team: Team, _: Progress | None) -> None:
    """One process fails while the other waits for it."""
    if not team.leads:
        raise error
    team.any(False)


def refuse(team: Team, _: Progress | None) -> None:
    """One process cannot use its input."""
    fail(InputError("a label holds class 7"), team, None)


def give_in(team: Team, _: Progress | None) -> None:
    """One process fails in a way that nobody meant."""
    fail(MemoryError("no more"), team, None)


if __name__ == "__main__":
    from functools import partial

    # By its importable name: the processes cannot find what is in `__main__` of a module run so.
    from tests.train.crews import stay as work

    run_team(partial(work, Path(sys.argv[1])), ["cpu"] * 2, stopped=lambda: False, progress=None)
