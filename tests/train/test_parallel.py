"""Several processes train one network: as one would, and none is left behind."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from geohr.errors import EngineError, InputError, InterruptedRunError, UsageError
from geohr.model import Model
from geohr.samples import Sample, pair
from geohr.training import parallel
from geohr.training.options import TrainOptions
from geohr.training.parallel import Team, devices, run_team
from geohr.training.train import train
from tests.makers import noise, one_class_card, write_scene
from tests.train import crews
from tests.train.towns import make_town

QUICK = TrainOptions(
    encoder="hrnetv2_w18_small_v1",
    steps=6,
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
    run_team(work, CPUS, stopped=lambda: False, progress=None)


def weights(model: Model) -> dict[str, torch.Tensor]:
    """All tensors of a model."""
    held: dict[str, torch.Tensor] = model.network.state_dict()
    return held


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    """Whether all tensors are the same, bit by bit."""
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_shares_are_the_batches_of_one_process() -> None:
    shares = [list(Team(rank, 3).share(12)) for rank in range(3)]
    for batch in range(2):
        seen = [index for share in shares for index in share[2 * batch : 2 * batch + 2]]
        assert sorted(seen) == list(range(6 * batch, 6 * batch + 6))


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    """Losses, accumulated gradients, clipping and the optimiser, without batch statistics."""
    together(partial(crews.plain_steps, tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    alone = tmp_path / "alone"
    alone.mkdir()
    losses = crews.plain_steps(alone, Team())
    assert losses[-1] < losses[0]
    one = torch.load(alone / "0.pt")
    assert equal(first, second)
    start = crews.plain_network().state_dict()
    for name, tensor in one.items():
        assert torch.allclose(first[name], tensor, atol=1e-6)
        assert not torch.allclose(start[name], tensor, atol=1e-4)


def test_processes_hold_the_same_network_to_the_end(
    samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    options = dataclasses.replace(QUICK, steps=3)
    together(partial(crews.train_steps, samples, options, tmp_path))
    (mine, average), (other, others) = (
        torch.load(tmp_path / str(rank) / "weights.pt") for rank in range(2)
    )
    assert equal(mine, other)
    assert equal(average, others)
    assert not equal(mine, average)
    assert (tmp_path / "0" / "log.csv").exists()
    assert [each.name for each in (tmp_path / "1").iterdir()] != []
    assert not (tmp_path / "1" / "log.csv").exists()
    assert not (tmp_path / "1" / "checkpoint.pt").exists()


def stop_after(step: int) -> Callable[[int, int], None]:
    """Progress that sends this process SIGTERM after a step."""

    def progress(done: int, _: int) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return progress


def test_a_resumed_run_ends_where_the_uninterrupted_one_does(
    samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    options = dataclasses.replace(QUICK, steps=12)
    seen: list[int] = []
    whole = train(
        samples,
        tmp_path / "whole.safetensors",
        card=one_class_card(),
        options=options,
        progress=lambda done, _: seen.append(done),
    )
    assert seen == list(range(1, 13))
    out = tmp_path / "parts.safetensors"
    with pytest.raises(InterruptedRunError, match=r"after step \d+ of 12.*--resume"):
        train(samples, out, card=one_class_card(), options=options, progress=stop_after(1))
    assert not out.exists()
    assert not multiprocessing.active_children()
    parts = train(samples, out, card=one_class_card(), options=options, resume=True)
    assert equal(weights(whole), weights(parts))
    assert whole.card == parts.card


def command(samples: tuple[Sample, ...], out: Path) -> list[str]:
    """The command line of a run that does not end by itself."""
    scene, label = samples[1].scene.path, samples[1].label or ""
    return [
        *(sys.executable, "-m", "geohr_cli", "train", "--scene", scene, "--labels", label),
        *("--out", str(out), "--processes", "2", "--encoder", "hrnetv2_w18_small_v1"),
        *("--steps", "100000", "--batch", "4", "--tile", "32", "--checkpoint-every", "1"),
    ]


def members(pid: int) -> list[int]:
    """The processes of the team that a process has started."""
    started = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in started if b"spawn_main" in read(f"/proc/{each}/cmdline")]


def read(path: str) -> bytes:
    """A file's bytes; none where it went away."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def runs(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    status = read(f"/proc/{pid}/status")
    return status != b"" and b"State:\tZ" not in status


def until(holds: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("lost", ["child", "parent"])
def test_a_killed_process_ends_the_run(
    samples: tuple[Sample, ...], tmp_path: Path, lost: str
) -> None:
    run = subprocess.Popen(
        command(samples, tmp_path / "m.safetensors"), stderr=subprocess.PIPE, text=True
    )
    try:
        until((tmp_path / "m.run" / "checkpoint.pt").exists)
        team = members(run.pid)
        assert len(team) == 2
        os.kill(team[1] if lost == "child" else run.pid, signal.SIGKILL)
        _, said = run.communicate(timeout=60)
    finally:
        run.kill()
    until(lambda: not any(map(runs, team)), 20)
    if lost == "child":
        assert run.returncode == EngineError.exit_code
        assert said.splitlines()[-1] == (
            "geohr: one of 2 training processes was killed by SIGKILL, perhaps for want of "
            "memory; go on with --resume"
        )


def test_an_error_in_one_process_is_the_runs(tmp_path: Path) -> None:
    """It comes from one label of two, which one of the processes sees first."""
    image = write_scene(tmp_path / "a.tif", noise(40, 40))
    labels = write_scene(tmp_path / "b.tif", noise(40, 40)[:1] | 1)
    with pytest.raises(InputError, match="a label holds class"):
        train(
            pair([image], [labels], split="train"),
            tmp_path / "m.safetensors",
            card=one_class_card(),
            options=QUICK,
        )
    assert not multiprocessing.active_children()
    with pytest.raises(MemoryError, match="no more"):
        together(partial(crews.leave_early, tmp_path))


def test_a_team_that_is_stopped_before_its_first_step_is_interrupted(tmp_path: Path) -> None:
    def stopped() -> bool:
        return (tmp_path / "0").exists() and (tmp_path / "1").exists()

    with pytest.raises(KeyboardInterrupt):
        run_team(partial(crews.wait_for_ever, tmp_path), CPUS, stopped=stopped, progress=None)
    assert not multiprocessing.active_children()


def test_options_that_cannot_be_are_named() -> None:
    with pytest.raises(UsageError, match="shared out evenly; got 8 windows for 3 processes"):
        TrainOptions(processes=3)
    with pytest.raises(UsageError, match="batch 1 with tile 32"):
        TrainOptions(batch=2, processes=2, tile=32)


def test_a_gpu_each_or_the_cpu_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices("cpu", 2) == CPUS
    monkeypatch.setattr(parallel, "choose_device", lambda name: name)
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
