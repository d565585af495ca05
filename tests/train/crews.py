"""What the processes of a team are given to do in tests; they find it by importing this."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from geohr.samples import Sample
from geohr.training.options import TrainOptions
from geohr.training.parallel import Progress, Team
from geohr.training.run import Run
from geohr.training.state import State
from geohr.training.store import Store
from geohr.training.train import advance, step
from tests.makers import one_class_card

PLAIN = TrainOptions(losses=("ce",), batch=4, accumulate=2, warmup=0, tile=32, steps=3)
SIDE = 12
"""Of the windows that `plain_steps` makes up, in pixels."""


def plain_network() -> nn.Module:
    """A network that says the same of a window whatever else is in its batch."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))


def plain_steps(folder: Path, team: Team, _: Progress | None = None) -> list[float]:
    """Steps of the plain network on made-up windows; writes its weights, gives its losses."""
    network = plain_network()
    run = Run(network, None, one_class_card(), PLAIN, (), (), "cpu", Store(), team)
    state = State.start(network, PLAIN)
    losses = []
    for number in range(PLAIN.steps):
        generator = torch.Generator().manual_seed(number)
        windows = torch.rand(PLAIN.batch * PLAIN.accumulate, 3, SIDE, SIDE, generator=generator)
        labels = (windows.mean(1) > 0.5).byte()
        kept = torch.tensor(team.share(len(windows)))
        losses.append(step(run, state, passes(windows[kept], labels[kept])))
    torch.save(network.state_dict(), folder / f"{team.rank}.pt")
    return losses


def passes(windows: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """A step's windows and labels by pass."""
    count = PLAIN.accumulate
    return list(zip(windows.chunk(count), labels.chunk(count), strict=True))


def train_steps(
    samples: tuple[Sample, ...], options: TrainOptions, folder: Path, team: Team, _: Progress | None
) -> None:
    """A run without its end; writes what each process holds then."""
    mine = folder / str(team.rank)
    mine.mkdir()
    torch.manual_seed(options.seed)
    run = Run.prepare(samples, one_class_card(), options, team)
    state = State.start(run.network, options)
    advance(run, state, mine, stopped=lambda: False, progress=None)
    torch.save((state.network.state_dict(), state.average.state_dict()), mine / "weights.pt")
    torch.save(dataclasses.asdict(state)["step"], mine / "step.pt")


def wait_for_ever(folder: Path, team: Team, _: Progress | None) -> None:
    """Say that this process is there, and stay."""
    (folder / str(team.rank)).touch()
    while True:
        time.sleep(0.1)


def leave_early(folder: Path, team: Team, _: Progress | None) -> None:
    """One process fails while the other waits for it."""
    if not team.leads:
        raise MemoryError("no more")
    team.any(False)
