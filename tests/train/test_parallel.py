"""Several processes train one network: as one would, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from geohr._runtime.stop import Stop
from geohr.errors import EngineError, InputError, InterruptedRunError, UsageError
from geohr.models.model import Model
from geohr.training import parallel
from geohr.training.options import TrainOptions
from geohr.training.parallel import Team, devices, run_team, verdict
from geohr.training.samples import Sample, pair
from geohr.training.train import train
from tests.makers import one_class_card
from tests.train import crews, steps
from tests.train.towns import make_town

QUICK = TrainOptions(
    encoder="hrnetv2_w18_small_v1",
    steps=9,
    batch=4,
    tile=32,
    warmup=1,
    validate_every=2,
    checkpoint_every=1,
    processes=2,
)
CPUS = ["cpu", "cpu"]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sample, ...]:
    town = make_town(tmp_path_factory.mktemp("town"), "town")
    return (
        *pair([town.image], [town.polygons], split="train"),
        *pair([town.image], [town.raster], split="validation"),
    )


def together(work: parallel.Work) -> None:
    """The work done by two processes."""
    run_team(work, CPUS, stop=Stop())


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    """Whether all tensors are the same, bit by bit."""
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_shares_are_the_batches_of_one_process() -> None:
    shares = [list(Team(rank, 3).share(12)) for rank in range(3)]
    for batch in range(2):
        seen = [index for share in shares for index in share[2 * batch : 2 * batch + 2]]
        assert sorted(seen) == list(range(6 * batch, 6 * batch + 6))


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    """Losses, accumulated gradients, clipping, optimiser and average; both hold the same."""
    together(partial(steps.take_steps, tmp_path))
    steps.take_steps(tmp_path, Team())
    for name, build in steps.NETWORKS.items():
        first, second, alone = (
            torch.load(tmp_path / f"{name}-{which}.pt") for which in ("2-0", "2-1", "1-0")
        )
        assert equal(first[0], second[0])
        assert equal(first[1], second[1])
        assert not equal(first[0], first[1])
        assert first[2] == second[2]
        moved = {key: value - alone[0][key] for key, value in build().state_dict().items()}
        if name == "plain":
            assert first[2] == pytest.approx(alone[2], rel=1e-5)
            assert all(torch.allclose(first[0][key], alone[0][key], atol=1e-6) for key in moved)
            assert all(each.abs().max() > 1e-4 for each in moved.values())


def stop_after_two(done: int, _: int) -> None:
    """Progress that sends this process SIGTERM, as a scheduler does."""
    if done == 2:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.full
def test_a_resumed_run_ends_where_the_uninterrupted_one_does(
    samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    def run(name: str, *, resume: bool = True, progress: Any = None) -> Model:
        out = tmp_path / f"{name}.safetensors"
        card = one_class_card()
        return train(samples, out, card=card, options=QUICK, resume=resume, progress=progress)

    seen: list[int] = []
    whole = run("whole", resume=False, progress=lambda done, _: seen.append(done))
    assert seen == list(range(1, QUICK.steps + 1))
    with pytest.raises(InterruptedRunError, match=rf"after step \d+ of {QUICK.steps}.*--resume"):
        run("parts", resume=False, progress=stop_after_two)
    assert not (tmp_path / "parts.safetensors").exists()
    parts = run("parts")
    assert equal(whole.network.state_dict(), parts.network.state_dict())
    assert whole.card == parts.card


def test_what_fails_in_one_process_fails_the_run() -> None:
    with pytest.raises(InputError, match="a label holds class 7"):
        together(crews.refuse)


def test_the_earliest_error_is_the_one_that_is_told() -> None:
    missed = RuntimeError("connection closed by peer")
    assert str(verdict([MemoryError("no more"), missed], [1, 1], 2, stopped=False)) == "no more"
    assert str(verdict([missed, InputError("no class 7")], [1], 2, stopped=False)) == "no class 7"


def members(folder: Path) -> list[int]:
    """The processes of a team that stays, once both are there."""
    until(lambda: len(list(folder.glob("*.pid"))) == 2, 120)
    return [int(path.read_text()) for path in sorted(folder.glob("*.pid"))]


def lives(pid: int) -> bool:
    """Whether there is a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def with_both_there(folder: Path, do: Callable[[list[int]], None]) -> threading.Thread:
    """A thread that does something as soon as both processes of a team are there."""
    thread = threading.Thread(target=lambda: do(members(folder)), daemon=True)
    thread.start()
    return thread


def test_processes_are_stopped_in_order_and_the_loss_of_one_is_told(tmp_path: Path) -> None:
    work = partial(crews.stay, tmp_path)
    thread = with_both_there(tmp_path, lambda pids: os.kill(pids[1], signal.SIGKILL))
    with pytest.raises(EngineError) as told:
        run_team(work, CPUS, stop=Stop())
    thread.join()
    assert str(told.value) == (
        "one of 2 training processes was killed by SIGKILL, perhaps for want of memory; go on "
        "with --resume"
    )
    assert not any(lives(pid) for pid in members(tmp_path))
    for path in tmp_path.glob("*.pid"):
        path.unlink()
    stop = Stop()
    with_both_there(tmp_path, lambda _: stop.request())
    with pytest.raises(InterruptedRunError, match="stopped as asked"):
        run_team(work, CPUS, stop=stop)
    assert not any(lives(pid) for pid in members(tmp_path))


def until(holds: Callable[[], bool], seconds: float) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.full)]
)
def test_no_process_outlives_the_one_that_started_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    run = subprocess.Popen([sys.executable, "-m", "tests.train.crews", tmp_path])
    try:
        started = members(tmp_path)
    finally:
        run.send_signal(number)
        run.wait()
    until(lambda: not any(lives(pid) for pid in started), 120)


def test_options_that_cannot_be_are_named() -> None:
    with pytest.raises(UsageError, match="shared out evenly; got 8 windows for 3 processes"):
        TrainOptions(processes=3)
    with pytest.raises(UsageError, match="batch 1 with tile 32"):
        TrainOptions(batch=2, processes=2, tile=32)


def test_a_gpu_each_or_the_cpu_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices("cpu", 2) == CPUS
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices("cuda", 2) == ["cuda:0", "cuda:1"]
    with pytest.raises(UsageError, match="3 processes need a GPU each; there are 2"):
        devices("cuda", 3)
    for name in ("mps", "cuda:1"):
        with pytest.raises(UsageError, match=f"a GPU each, or on cpu; got device {name}"):
            devices(name, 2)


def test_batch_statistics_are_shared_on_gpus_only() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    names = network.state_dict().keys()
    assert Team(0, 2, "cpu").share_statistics(network) is network
    assert Team(0, 1, "cuda:0").share_statistics(network) is network
    shared = Team(0, 2, "cuda:0").share_statistics(network)
    assert any(isinstance(each, nn.SyncBatchNorm) for each in shared.modules())
    assert shared.state_dict().keys() == names
