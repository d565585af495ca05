"""The command line, run in the tests' own process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from geohr_cli.main import main


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Geohr = Callable[..., Ended]


def command(patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> Geohr:
    """A function that runs the command line with its arguments."""

    def run(*arguments: str | Path) -> Ended:
        patch.setattr("sys.argv", ["geohr", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capture.readouterr()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, printed.out, printed.err)

    return run
