"""What a cluster will take, from what a block takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geohr.cluster.scaling import Costs, forecast
from tests.command import Geohr, command
from tests.makers import noise, one_class_card, random_model, write_scene

COSTS = Costs(
    blocks=1000, across=10, startup=5.0, block=8.0, assembly=0.1, dispatch=0.002, bytes=10**7
)


@pytest.mark.parametrize(
    ("workers", "binds", "most"),
    [(1, "workers", 8000.0), (40, "workers", 200.0), (200, "driver", 100.0)],
)  # fmt: skip
def test_what_needs_longest_binds(workers: int, binds: str, most: float) -> None:
    made = forecast(COSTS, workers)
    assert made.binds == binds
    # Startup, half a block that is waited for, and the driver's last row.
    assert made.seconds == pytest.approx(most + 5.0 + 4.0 + 1.0)
    assert made.enough == 80
    assert made.stored == 10**10
    assert made.rate == pytest.approx(made.stored / most)


@given(workers=st.integers(1, 10_000), blocks=st.integers(1, 10**6))
def test_more_workers_never_take_longer(workers: int, blocks: int) -> None:
    costs = Costs(blocks, min(blocks, 100), 5.0, 8.0, 0.1, 0.002, 10**7)
    assert forecast(costs, workers + 1).seconds <= forecast(costs, workers).seconds


def test_the_plan_tells_of_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    geohr: Geohr = command(monkeypatch, capsys)
    scene = write_scene(tmp_path / "scene.tif", noise(200, 200))
    model = random_model(tmp_path / "model.safetensors", card=one_class_card(threshold=0.5))
    arguments = ("plan", scene, "--model", model, "--backend", "torch")
    # The command's process ends; that of the tests goes on.
    monkeypatch.setattr("geohr.engines.cores._callers", None)
    ended = geohr(*arguments, "--workers", "3", "--block", "1x1")
    assert ended.code == 0, ended.err
    assert "cluster: 3 workers of one core, " in ended.out
    assert "work folder: " in ended.out
    ended = geohr(*arguments, "--block", "1x1")
    assert (ended.code, ended.err) == (2, "geohr: --block is for a cluster; add --workers N\n")
