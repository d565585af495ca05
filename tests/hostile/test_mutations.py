"""A hundred mutated files: each run ends well or with an error of geohr's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from geohr.errors import GeohrError
from tests.hostile.mutations import RUNS, cases, scene_seeds

CASES = {"scene": 90, "model": 10}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", CASES)
def test_mutated_files_end_well_or_are_refused(kind: str, model: Path, tmp_path: Path) -> None:
    seeds = scene_seeds(tmp_path) if kind == "scene" else [model.read_bytes()]
    refused = 0
    for index, content in cases(kind, CASES[kind], seeds):
        path = tmp_path / f"case{index}"
        path.write_bytes(content)
        try:
            RUNS[kind](path)
        except GeohrError:
            refused += 1
    assert refused > CASES[kind] // 3
