"""The recipe for Slurm, with Slurm's own daemons on this machine."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.cells.slurm import missing, slurm_cluster
from tests.cells.test_cells import assert_same, objects_of
from tests.command import Geohr

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "cells.md"
TASKS = 3


def recipe() -> str:
    """The command of the page that submits the array."""
    found = re.search(r"^sbatch .*?(?<!\\)$", PAGE.read_text("utf-8"), re.M | re.S)
    assert found is not None
    return found[0].replace("\\\n", " ")


@pytest.mark.full
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_the_array_of_the_recipe_makes_the_map(
    scenes: list[Path], model: Path, tmp_path: Path, geohr: Geohr
) -> None:
    plan, one = tmp_path / "plan.json", tmp_path / "one.parquet"
    options = ["--model", model, "--instances", "1", "--backend", "torch"]
    assert geohr("segment", *scenes, "--out", one, *options).code == 0
    ended = geohr("cells", "plan", *scenes, "--cell", "60m", "--out", plan, *options)
    assert ended.code == 0, ended.err
    command = recipe().replace("/data/plan.json", str(plan)).replace("1-400", f"1-{TASKS}")
    command = command.replace("--cpus-per-task=4", "--cpus-per-task=1")
    command = command.replace("geohr cells", f"{sys.executable} -m geohr_cli cells")
    with (
        tempfile.TemporaryDirectory() as folder,
        slurm_cluster(Path(folder)) as environment,
    ):
        submitted = subprocess.run(
            [*shlex.split(command), "--wait"],
            env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        logs = [path.read_text() for path in sorted(tmp_path.glob("slurm-*.out"))]
        assert submitted.returncode == 0, (submitted.stderr, logs)
    assert len(logs) == TASKS
    joined = geohr("cells", "join", plan, "--out", tmp_path / "map.parquet")
    assert joined.code == 0, joined.err
    assert_same(objects_of(tmp_path / "map.parquet"), objects_of(one))
