"""Steps of small networks on made-up windows, in one process or shared out."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from geohr.training.options import TrainOptions
from geohr.training.parallel import Team
from geohr.training.run import TrainingJob
from geohr.training.state import State
from geohr.training.store import Store
from geohr.training.train import step
from tests.makers import one_class_card

OPTIONS = TrainOptions(losses=("ce",), batch=4, accumulate=2, warmup=0, tile=32, steps=3)
SIDE = 12
"""Of a window in pixels."""


def plain() -> nn.Module:
    """A network that says the same of a window whatever else is in its batch."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))


def normalised() -> nn.Module:
    """A network with batch statistics."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 3, padding=2))


NETWORKS = {"plain": plain, "normalised": normalised}


def take_steps(folder: Path, team: Team, *_: object) -> None:
    """Train each network; writes weights, averaged weights and losses by name and rank."""
    for name, build in NETWORKS.items():
        state = State.start(build(), None, OPTIONS)
        run = TrainingJob(
            state.network, None, None, one_class_card(), OPTIONS, (), (), (), "cpu", Store(), team
        )
        losses = [step(run, state, share(number, team)) for number in range(OPTIONS.steps)]
        held = (state.network.state_dict(), state.average.state_dict(), losses)
        torch.save(held, folder / f"{name}-{team.size}-{team.rank}.pt")


def share(number: int, team: Team) -> list[tuple[Tensor, Tensor]]:
    """The passes of a process in a step: windows and labels."""
    generator = torch.Generator().manual_seed(number)
    windows = torch.rand(OPTIONS.batch * OPTIONS.accumulate, 3, SIDE, SIDE, generator=generator)
    labels = (windows.mean(1) > 0.5).byte()
    kept = torch.tensor(team.share(len(windows)))
    passes = zip(
        windows[kept].chunk(OPTIONS.accumulate),
        labels[kept].chunk(OPTIONS.accumulate),
        strict=True,
    )
    return list(passes)
