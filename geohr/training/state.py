"""What a training run holds between two steps, and its checkpoint."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geohr._runtime.files import written_whole
from geohr.errors import InputError, UsageError
from geohr.training.options import TrainOptions

# Options that a resumed run may have otherwise than the run it goes on with.
MAY_CHANGE = frozenset(
    {"steps", "processes", "workers", "validate_every", "checkpoint_every", "patience", "device"}
)
# The average forgets faster in the first steps: decay (1 + step) / (this + step) at most.
WARM_AVERAGE = 10


# The optimisers, by the names that `--optimizer` takes.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    # Loshchilov and Hutter, 2019.
    "adamw": torch.optim.AdamW,
    # As HRNet's authors train.
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
}


@dataclass
class State:
    """The state of a run between two steps.

    Attributes:
        network: Being trained.
        average: The network with averaged weights.
        hints: The projections of features, which are discarded at the end, or None.
        optimizer: The optimiser of the network and the hints.
        step: Steps done.
        best: Best validation score so far; below 0 before the first.
        best_weights: The average's weights when it was reached.
        stale: Validations since then.
        history: One record for each validation.
        losses: The losses of the steps since the last record.
    """

    network: nn.Module
    average: nn.Module
    hints: nn.Module | None
    optimizer: torch.optim.Optimizer
    step: int = 0
    best: float = -1.0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    stale: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @classmethod
    def start(cls, network: nn.Module, hints: nn.Module | None, options: TrainOptions) -> State:
        """The state before the first step."""
        every = [*network.parameters(), *(hints.parameters() if hints else ())]
        # Shrinking biases and the scales of normalisation would regularise nothing.
        decayed = [each for each in every if each.ndim > 1]
        others = [each for each in every if each.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": options.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer = OPTIMIZERS[options.optimizer](groups, lr=options.learning_rate)
        average = copy.deepcopy(network).eval().requires_grad_(False)
        return cls(network, average, hints, optimizer)

    def update_average(self, decay: float) -> None:
        """Move the averaged weights towards the network's (exponential moving average)."""
        decay = min(decay, (1 + self.step) / (WARM_AVERAGE + self.step))
        current = self.network.state_dict()
        for name, kept in self.average.state_dict().items():
            # Counters of batches are whole numbers.
            if kept.is_floating_point():
                kept.lerp_(current[name], 1 - decay)
            else:
                kept.copy_(current[name])

    def record(self, score: float, values: dict[str, float]) -> None:
        """Note a validation; a better score keeps the averaged weights."""
        record = {"step": float(self.step), "score": score}
        if self.losses:  # before the first step there are none
            record["loss"] = sum(self.losses) / len(self.losses)
        self.losses.clear()
        self.history.append({**record, **values})
        self.stale += 1
        if score > self.best:
            self.best, self.stale = score, 0
            self.best_weights = {
                name: each.detach().clone() for name, each in self.average.state_dict().items()
            }


def save_checkpoint(path: Path, state: State, options: TrainOptions) -> None:
    """Write all that the run needs to go on, whole or not at all.

    Raises:
        OutputError: When it cannot be written.
    """
    content = {
        "options": json.dumps(plain(options)),
        "network": state.network.state_dict(),
        "average": state.average.state_dict(),
        "hints": state.hints.state_dict() if state.hints else None,
        "optimizer": state.optimizer.state_dict(),
        "best_weights": state.best_weights,
        "step": state.step,
        "best": state.best,
        "stale": state.stale,
        "history": state.history,
        "losses": state.losses,
    }
    with written_whole(path) as part:
        torch.save(content, part)


def plain(options: TrainOptions) -> dict[str, Any]:
    """Options as JSON gives them back."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(options)))
    return values


def load_checkpoint(path: Path, state: State, options: TrainOptions) -> None:
    """Bring `state` to where the checkpoint's run was.

    Raises:
        InputError: When the file is missing or damaged.
        UsageError: When the run had other options that matter.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no checkpoint to resume; start without --resume") from error
    except Exception as error:  # torch raises many kinds for a damaged file
        raise InputError(
            f"{path}: the checkpoint is damaged ({type(error).__name__}); start without --resume"
        ) from error
    # An option that is younger than the checkpoint had its default then.
    before = plain(TrainOptions()) | json.loads(content["options"])
    now = plain(options)
    changed = [name for name in now if now[name] != before[name] and name not in MAY_CHANGE]
    if changed:
        name = changed[0]
        raise UsageError(
            f"{path}: the run had {name}={before[name]}, now {now[name]}; resume with the "
            "same options or start without --resume"
        )
    state.network.load_state_dict(content["network"])
    state.average.load_state_dict(content["average"])
    if state.hints:
        state.hints.load_state_dict(content["hints"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.best_weights = content["best_weights"]
    state.step, state.best = content["step"], content["best"]
    state.stale, state.history = content["stale"], content["history"]
    state.losses = content["losses"]
