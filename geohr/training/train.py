"""The training loop: samples in, a model file out."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from geohr._runtime.stop import Stop
from geohr.engines.torch import choose_device
from geohr.errors import InputError, InterruptedRunError, UsageError
from geohr.hrnet import auxiliary_loss
from geohr.models.card import Card
from geohr.models.model import Model, resolve_model
from geohr.training.augment import check_augmentations
from geohr.training.depthwise import ExactDepthwise
from geohr.training.finish import finish, with_threshold
from geohr.training.logs import write_log, write_scalars
from geohr.training.losses import check_losses, check_weights, distillation, total_loss
from geohr.training.options import TrainOptions
from geohr.training.parallel import Progress, Team, Watch, devices, run_team
from geohr.training.report import write_report
from geohr.training.run import TrainingJob
from geohr.training.samples import Sample
from geohr.training.state import State, load_checkpoint, save_checkpoint
from geohr.training.validate import check_target, count_pixels, scores
from geohr.training.windows import Windows

CHECKPOINT = "checkpoint.pt"
# As Sun et al., High-Resolution Representations for Labeling Pixels and Regions, 2019.
POLY_POWER = 0.9
# Longer gradients are shortened to this: one strange window must not undo many steps.
GRADIENT_NORM_MAX = 5.0


def train(
    samples: Sequence[Sample],
    out: str | Path,
    *,
    card: Card,
    options: TrainOptions | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    watch: Watch | None = None,
) -> Model:
    """Train a network and write it with its card.

    Checkpoints, the log and a report with curves lie in a folder beside `out` that ends in
    `.run`. The averaged weights of the best validation are kept; without validation samples, the
    last. An initial model is validated first, and kept where no step makes it better.

    Args:
        samples: Those of split train are learnt from, those of validation choose the weights, and
            the finished model is scored on those of test.
        out: The model file, `*.safetensors`.
        card: Of the new model; architecture and encoder are taken from the options, ground
            sampling distances and metrics from the run.
        options: The options of training.
        resume: Go on from the last checkpoint of `out`.
        overwrite: Start over where there is such a checkpoint.
        progress: Called with the steps done and the steps in all.
        watch: Called with `step` and `loss` after each step, and with the record of each
            validation, which has a `score` and the intersection over union by place besides.

    Returns:
        The model as it was written.

    Raises:
        UsageError: For options that cannot be, and where a checkpoint of `out` would be lost.
        InputError: For samples or model files that cannot be used.
        EngineError: When the device is not there, or one of several processes was lost.
        InterruptedRunError: After SIGINT or SIGTERM, with a checkpoint written.
        OutputError: When `out` cannot be written.
    """
    options = options or TrainOptions()
    check_losses(options.losses)
    check_weights(options.class_weights, len(card.classes))
    check_augmentations(options.augment)
    out = Path(out)
    if out.suffix != ".safetensors":
        raise UsageError(f"a model file is named *.safetensors; got {out}")
    folder = out.with_suffix(".run")
    if (folder / CHECKPOINT).exists() and not (resume or overwrite):
        raise UsageError(
            f"{folder / CHECKPOINT}: the checkpoint of an earlier run; go on with --resume, or "
            "start over with --overwrite"
        )
    for model in (options.init, options.teacher):
        if model is not None:
            resolve_model(model)  # refused here, it leaves no folder behind
    folder.mkdir(exist_ok=True)
    work = partial(take_share, tuple(samples), out, card, options, resume)
    if options.processes == 1:
        return work(Team(), progress, watch)
    places = devices(choose_device(options.device), options.processes)
    stop = Stop()
    with stop_on_signal(stop):
        run_team(work, places, stop=stop, progress=progress, watch=watch)
    return Model.load(out)


def take_share(
    samples: Sequence[Sample],
    out: Path,
    card: Card,
    options: TrainOptions,
    resume: bool,
    team: Team,
    progress: Progress | None,
    watch: Watch | None,
) -> Model:
    """The work of each process of a team; see `train`. Process 0 writes the model.

    Returns:
        The network with the best weights that this process knows of.
    """
    torch.manual_seed(options.seed)
    folder = out.with_suffix(".run")
    run = TrainingJob.prepare(samples, card, options, team)
    state = State.start(run.network, run.hints, options)
    if resume:
        load_checkpoint(folder / CHECKPOINT, state, options)
    # A team is told by the process that has started it, which hears the signals.
    with stop_on_signal(team.stop) if team.size == 1 else nullcontext():
        advance(run, state, folder, progress=progress, watch=watch)
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
    progress: Progress | None,
    watch: Watch | None,
) -> None:
    """Step until the steps are done, patience ends or a signal comes."""
    options, team = run.options, run.team
    began = time.monotonic()

    def validate() -> None:
        record = note(run, state, folder, time.monotonic() - began)
        if watch:
            watch(record)

    begins = state.step == 0 and options.init is not None and bool(run.validation)
    # Interrupted between two validations, and resumed with no more steps to do.
    ends = state.step >= options.steps and bool(state.losses)
    if team.leads and (begins or ends):
        validate()
    for passes in step_batches(run, state.step):
        state.losses.append(step(run, state, passes))
        last = state.step == options.steps
        if watch:
            watch({"step": state.step, "loss": state.losses[-1]})
        if team.leads and (state.step % options.validate_every == 0 or last):
            validate()
        if progress:
            progress(state.step, options.steps)
        interrupted = team.any(team.stop.requested)
        if team.leads and (state.step % options.checkpoint_every == 0 or last or interrupted):
            save_checkpoint(folder / CHECKPOINT, state, options)
        if interrupted:
            raise InterruptedRunError(
                f"stopped after step {state.step} of {options.steps}; go on with --resume"
            )
        if options.patience and team.any(team.leads and state.stale >= options.patience):
            return


def note(run: TrainingJob, state: State, folder: Path, seconds: float) -> dict[str, float]:
    """Validate the averaged weights, where there is something to validate on, and log the record.

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
    return state.history[-1]


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
    """Take one step of the optimiser, and return the loss."""
    options = run.options
    rate = learning_rate(state.step, options)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.network.train()
    # Each step by itself, so that a resumed run needs no state of the generator.
    torch.manual_seed(step_seed(options.seed, state.step, run.team.rank))
    total = 0.0
    for pixels, target in passes:
        check_target(target, len(run.card.classes))
        pixels = pixels.to(run.device, memory_format=torch.channels_last)
        loss = pass_loss(run, pixels, target.to(run.device)) / len(passes)
        loss.backward()
        total += float(loss.detach())
    # The same in all processes: either all go on, or all refuse.
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
    """The seed of dropout in a step, so that a resumed run draws the same on any device."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1)[0])


def pass_loss(run: TrainingJob, pixels: Tensor, target: Tensor) -> Tensor:
    """The loss of one pass: the labels' and, with a teacher, what the teacher says and sees."""
    options = run.options
    with torch.autocast(run.device.split(":")[0], torch.bfloat16, enabled=uses_bfloat16(run)):
        with ExactDepthwise() if run.device == "cpu" and uses_bfloat16(run) else nullcontext():
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
def stop_on_signal(stop: Stop) -> Iterator[None]:
    """Within the block SIGINT and SIGTERM only ask to stop.

    Signals can be caught in the main thread only; elsewhere nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: stop.request()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
