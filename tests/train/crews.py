"""What the processes of a team are given to do in tests; they import little besides torch."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from geohr._runtime.stop import Stop
from geohr.errors import InputError, InterruptedRunError
from geohr.training.parallel import Team, run_team


def stay(folder: Path, team: Team, *_: object) -> None:
    """Say which process this is, and remain until told to stop."""
    part = folder / f".{team.rank}"
    part.write_text(str(os.getpid()))
    part.rename(folder / f"{team.rank}.pid")
    while not team.stop.requested:
        time.sleep(0.1)
    raise InterruptedRunError("stopped as asked")


def refuse(team: Team, *_: object) -> None:
    """One process cannot use its input, while the other waits for it."""
    if not team.leads:
        raise InputError("a label holds class 7")
    team.any(False)


if __name__ == "__main__":
    from functools import partial

    # By its importable name: the processes cannot find what is in `__main__` of a module run so.
    from tests.train.crews import stay as work

    run_team(partial(work, Path(sys.argv[1])), ["cpu"] * 2, stop=Stop())
