"""The training loop: samples in, a model file out."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from geohr.engines.torch import choose_device
from geohr.errors import InputError, InterruptedRunError, UsageError
from geohr.hrnet import auxiliary_loss
from geohr.models.card import Card
from geohr.models.model import Model
from geohr.training.augment import check_augmentations
from geohr.training.finish import finish, with_threshold
from geohr.training.logs import write_log, write_scalars
from geohr.training.losses import check_losses, check_weights, distillation, total_loss
from geohr.training.options import TrainOptions
from geohr.training.parallel import Progress, Team, devices, run_team
from geohr.training.report import write_report
from geohr.training.run import TrainingJob
from geohr.training.samples import Sample
from geohr.training.state import State, load_checkpoint, save_checkpoint
from geohr.training.validate import check_target, count_pixels, scores
from geohr.training.windows import Windows

POLY_POWER = 0.9
GRADIENT_NORM_MAX = 5.0
"""Longer gradients are shortened to this: one strange window must not undo many steps."""


def train(
    samples: Sequence[Sample],
    out: Path,
    *,
    card: Card,
    options: TrainOptions | None = None,
    resume: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Model:
    """Train a network and write it with its card.

    Checkpoints, the log and a report with curves lie in a folder beside `out` that ends in
    `.run`. The averaged weights of the best validation are kept; without validation samples, the
    last.

    With `processes` above 1 a script that calls this must be importable: the call stands under
    `if __name__ == "__main__":`.

    Args:
        samples: Those of split train are learnt from, those of validation choose the weights.
        out: The model file, `*.safetensors`.
        card: Of the new model; architecture and encoder are taken from the options, ground
            sampling distances and metrics from the run.
        options: How to train.
        resume: Go on from the last checkpoint of `out`.
        progress: Called with the steps done and the steps in all.

    Returns:
        The model as it was written.

    Raises:
        UsageError: For options that cannot be.
        InputError: For samples or model files that cannot be used.
        EngineError: When the device is not there, or one of several processes was lost.
        InterruptedRunError: After SIGINT or SIGTERM, with a checkpoint written.
        OutputError: When `out` cannot be written.
    """
    options = options or TrainOptions()
    check_losses(options.losses)
    check_weights(options.class_weights, len(card.classes))
    check_augmentations(options.augment)
    if out.suffix != ".safetensors":
        raise UsageError(f"a model file is named *.safetensors; got {out}")
    folder = out.with_suffix(".run")
    folder.mkdir(exist_ok=True)
    work = partial(take_share, tuple(samples), out, card, options, resume)
    if options.processes == 1:
        return work(Team(), progress)
    places = devices(choose_device(options.device), options.processes)
    with stop_on_signal() as stopped:
        run_team(work, places, stopped=stopped, progress=progress)
    return Model.load(out)


def take_share(
    samples: Sequence[Sample],
    out: Path,
    card: Card,
    options: TrainOptions,
    resume: bool,
    team: Team,
    progress: Progress | None,
) -> Model:
    """What each process of a team does; see `train`. Process 0 writes the model.

    Returns:
        The network with the best weights that this process knows of.
    """
    torch.manual_seed(options.seed)
    folder = out.with_suffix(".run")
    run = TrainingJob.prepare(samples, card, options, team)
    state = State.start(run.network, run.hints, options)
    if resume:
        load_checkpoint(folder / "checkpoint.pt", state, options)
    with stop_on_signal() as stopped:
        advance(run, state, folder, stopped=stopped, progress=progress)
    if not team.leads:
        return Model(state.network, run.card)
    finished = finish(run, state, out)
    write_report(folder / "report.html", state, finished)
    return finished.model


def advance(
    run: TrainingJob,
    state: State,
    folder: Path,
    *,
    stopped: Callable[[], bool],
    progress: Progress | None,
) -> None:
    """Step until the steps are done, patience ends or a signal comes."""
    options, team = run.options, run.team
    began = time.monotonic()
    if team.leads and state.step >= options.steps and state.losses:
        # Interrupted between two validations, and resumed with no more steps to do.
        note(run, state, folder, 0.0)
    for passes in step_batches(run, state.step):
        state.losses.append(step(run, state, passes))
        last = state.step == options.steps
        if team.leads and (state.step % options.validate_every == 0 or last):
            note(run, state, folder, time.monotonic() - began)
        if progress:
            progress(state.step, options.steps)
        interrupted = team.any(stopped())
        if team.leads and (state.step % options.checkpoint_every == 0 or last or interrupted):
            save_checkpoint(folder / "checkpoint.pt", state, options)
        if interrupted:
            raise InterruptedRunError(
                f"stopped after step {state.step} of {options.steps}; go on with --resume"
            )
        if options.patience and team.any(team.leads and state.stale >= options.patience):
            return


def note(run: TrainingJob, state: State, folder: Path, seconds: float) -> None:
    """Validate the averaged weights, where there is something to validate on, and log it.

    One class is scored at the threshold that suits these weights, as the finished model is.
    """
    counts = count_pixels(
        state.average, run.card, run.validation, store=run.store, device=run.device
    )
    found = scores(counts, with_threshold(run.card, counts))
    values = {
        "learning_rate": learning_rate(state.step, run.options),
        "seconds": round(seconds, 1),
    }
    # Without validation every record is the best so far: the last weights are kept.
    score = sum(found.values()) / len(found) if found else float(state.step)
    state.record(score, {**values, **found})
    write_log(folder / "log.csv", state)
    write_scalars(folder / "tensorboard", state)


def step_batches(run: TrainingJob, start: int) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """The passes of each step from `start` on."""
    options = run.options
    windows = options.batch * options.accumulate
    source = Windows(
        run.train,
        run.normalizer,
        options,
        start=start * windows,
        stop=max(options.steps, start) * windows,
    )
    loader: DataLoader[Any] = DataLoader(
        source,
        options.batch // run.team.size,
        sampler=run.team.share(len(source)),
        num_workers=options.workers,
        worker_init_fn=leave_signals,
    )
    passes = []
    for pixels, target in loader:
        passes.append((pixels, target))
        if len(passes) == options.accumulate:
            yield passes
            passes = []


def leave_signals(_: int) -> None:
    """Let a worker pass over the signals that a terminal or systemd sends to every process.

    The run itself hears them, and still needs its workers for the step in hand.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def step(run: TrainingJob, state: State, passes: Sequence[tuple[Tensor, Tensor]]) -> float:
    """One step of the optimiser; the loss."""
    options = run.options
    rate = learning_rate(state.step, options)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.network.train()
    torch.manual_seed(step_seed(options.seed, state.step, run.team.rank))
    total = 0.0
    for pixels, target in passes:
        check_target(target, len(run.card.classes))
        pixels = pixels.to(run.device, memory_format=torch.channels_last)
        loss = pass_loss(run, pixels, target.to(run.device)) / len(passes)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    total = run.team.average(total, state.network, state.optimizer)
    if not math.isfinite(total):
        raise InputError(
            f"the loss is {total} at step {state.step + 1}; lower --learning-rate, now {rate:g}"
        )
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), GRADIENT_NORM_MAX)
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.step += 1
    state.update_average(options.ema)
    return total


def step_seed(seed: int, step: int, rank: int) -> int:
    """What dropout draws from in a step, on any device: a resumed run draws the same."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1)[0])


def pass_loss(run: TrainingJob, pixels: Tensor, target: Tensor) -> Tensor:
    """The loss of one pass: the labels' and, with a teacher, what the teacher says and sees."""
    options = run.options
    with torch.autocast(run.device.split(":")[0], torch.bfloat16, enabled=uses_bfloat16(run)):
        outputs = run.network(pixels)
        taught = None
        if run.teacher is not None:
            with torch.no_grad():
                taught = ask(run.teacher, pixels, says=options.teacher_weight > 0)
        seen = run.hints() if run.hints is not None else None
    loss = auxiliary_loss(
        lambda logits, truth: total_loss(
            logits.float(), truth, options.losses, options.class_weights
        ),
        outputs,
        target,
    )
    if taught is not None:
        logits = outputs if isinstance(outputs, Tensor) else outputs[0]
        loss = loss + options.teacher_weight * distillation(logits.float(), taught)
    if seen is not None:
        loss = loss + options.feature_weight * seen
    return loss


def ask(teacher: nn.Module, pixels: Tensor, *, says: bool) -> Tensor | None:
    """The teacher's logits; None, with its encoder run alone, where only features are learnt."""
    if says:
        logits: Tensor = teacher(pixels)
        return logits.float()
    teacher.get_submodule("encoder")(pixels)
    return None


def uses_bfloat16(run: TrainingJob) -> bool:
    """Whether passes run in bfloat16: as asked, by default on CUDA devices that have it."""
    asked = run.options.precision
    if asked == "auto":
        return run.device.startswith("cuda") and torch.cuda.is_bf16_supported()
    return asked == "bfloat16"


def learning_rate(step: int, options: TrainOptions) -> float:
    """The learning rate of a step: a linear rise, then a fall to zero, or level.

    It falls by half a cosine, or by a polynomial of power 0.9, as HRNet's authors train.
    """
    if step < options.warmup:
        return options.learning_rate * (step + 1) / options.warmup
    if options.schedule == "constant":
        return options.learning_rate
    done = min((step - options.warmup) / max(options.steps - options.warmup, 1), 1)
    if options.schedule == "poly":
        return float(options.learning_rate * (1 - done) ** POLY_POWER)
    return options.learning_rate * (1 + math.cos(math.pi * done)) / 2


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Within the block SIGINT and SIGTERM only raise a flag, which the value tells.

    Signals can be caught in the main thread only; elsewhere the flag stays down.
    """
    seen: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        seen.append(number)

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    except ValueError:
        before = {}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
