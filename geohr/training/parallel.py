"""One network trained by several processes, each on its share of every batch.

Every process holds the whole network and starts from the same weights. After the passes of a
step, one all-reduce puts the mean over the processes into gradients and running statistics, so
that all of them take the same step. It covers whatever the optimiser holds and whatever a loss
reached into, which `DistributedDataParallel`, a wrapper of one forward call, does not; networks
of this size have little to gain from its overlap of sums and passes.
"""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from queue import Empty
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import nn

from geohr._runtime.child import Child, Parent
from geohr._runtime.stop import POLL_SECONDS, Stop
from geohr.engines.cores import cores
from geohr.errors import EngineError, GeohrError, InterruptedRunError, UsageError

# How long a process waits for the others: one of them validates meanwhile. That one of them was
# lost is seen from outside.
PATIENCE = timedelta(days=7)
# After the first process failed, the others have this long to tell why they did.
GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Team:
    """The processes that train one network, as one of them sees it.

    Attributes:
        rank: The number of this process, from 0. Process 0 validates, logs and writes.
        size: Processes in all; one trains alone, without `torch.distributed`.
        device: The device of this process; empty until it is chosen.
        stop: Set when the run is to end after the step in hand.
    """

    rank: int = 0
    size: int = 1
    device: str = ""
    stop: Stop = field(default_factory=Stop)

    @property
    def leads(self) -> bool:
        """Whether this is the process that validates, logs and writes."""
        return self.rank == 0

    def share(self, windows: int) -> range:
        """Indices of this process's windows: every `size`-th.

        Args:
            windows: How many there are, whole batches. A batch that one process would see is
                made of the shares that all see in one pass.
        """
        return range(self.rank, windows, self.size)

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process. All must ask, as often and in the same order."""
        if self.size == 1:
            return flag
        flags = torch.tensor([float(flag)], device=self.device)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags.item())

    def average(self, loss: float, network: nn.Module, optimizer: torch.optim.Optimizer) -> float:
        """Put the mean over the processes into gradients and running statistics, in place.

        A loss is a mean over the pixels of a process's share that are annotated, and this is the
        plain mean of these means: where unknown ground is spread unevenly, its neighbours in the
        batch weigh more than they do in one process. Dice and Lovász, which are no means over
        pixels, are those of a share.

        Args:
            loss: The loss of this process's share.
            network: Whose running statistics are averaged, where the share is normalised by its
                own statistics; see `share_statistics`.
            optimizer: Whose parameters' gradients are averaged.

        Returns:
            The mean loss, the same number in all processes.
        """
        if self.size == 1:
            return loss
        held = [each for group in optimizer.param_groups for each in group["params"]]
        total = torch.tensor([loss], device=self.device)
        tensors = [total, *(each.grad for each in held if each.grad is not None)]
        tensors += [each for each in network.buffers() if each.is_floating_point()]
        # One sum of all: many small ones would wait for the network each.
        flat = torch.cat([each.flatten() for each in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        means = torch.split(flat, [each.numel() for each in tensors])
        for each, mean in zip(tensors, means, strict=True):
            each.copy_(mean.view_as(each))
        return float(total)

    def share_statistics(self, network: nn.Module) -> nn.Module:
        """The network with batch statistics over all processes, on CUDA.

        On a CPU torch has no synchronised batch normalisation: each process normalises by the
        statistics of its share, as it would with a batch as small.
        """
        if self.size == 1 or not self.device.startswith("cuda"):
            return network
        convert = nn.SyncBatchNorm.convert_sync_batchnorm
        shared: nn.Module = convert(network)  # type: ignore[no-untyped-call]
        return shared


# A function that is called with the steps done and the steps in all.
Progress = Callable[[int, int], None]
# A function that is called after steps and validations; see `geohr.training.train.train`.
Watch = Callable[[Mapping[str, float]], None]
# The work of each process of a team; process 0 gets the functions to report to.
Work = Callable[[Team, Progress | None, Watch | None], object]


def devices(device: str, size: int) -> list[str]:
    """The devices of `size` processes: a GPU each, or all on the CPU.

    Args:
        device: A device that is there.
        size: Processes.

    Raises:
        UsageError: When it is none that processes can share out, or there are too few.
    """
    if device == "cpu":
        return [device] * size
    if device != "cuda":
        raise UsageError(
            f"{size} processes train on cuda, a GPU each, or on cpu; got device {device}"
        )
    there = torch.cuda.device_count()
    if there < size:
        raise UsageError(f"{size} processes need a GPU each; there are {there}, lower --processes")
    return [f"cuda:{rank}" for rank in range(size)]


def run_team(
    work: Work,
    places: Sequence[str],
    *,
    stop: Stop,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> None:
    """Do the work in several processes that are told of each other, and wait for them.

    None of them outlives this call, however it ends.

    Args:
        work: Can be pickled, as all it holds; see `Work`.
        places: The device of each process; see `devices`.
        stop: When requested, the teams of the processes are told to stop.
        progress: Told of process 0's steps.
        watch: Told of process 0's losses and scores.

    Raises:
        EngineError: When a process was lost.
        Exception: Whatever the work raises.
    """
    with tempfile.TemporaryDirectory(prefix="geohr-") as folder:
        meeting = Path(folder) / "meeting"
        members: list[Child] = []
        try:
            for rank, place in enumerate(places):
                team = Team(rank, len(places), place)
                members.append(Child(partial(take_part, work, team, meeting)))
            follow(members, stop, progress, watch)
        finally:
            for member in members:
                member.end(at_once=True)


def follow(
    members: Sequence[Child], stop: Stop, progress: Progress | None, watch: Watch | None
) -> None:
    """Hear the processes until all have ended; raise what ended one of them.

    Raises:
        EngineError: When a process was lost.
        Exception: The error that a process reported.
    """
    waiting = list(members)
    failures: list[Failure] = []
    codes: list[int] = []
    told = False
    deadline = float("inf")
    while waiting and time.monotonic() < deadline:
        if stop.requested and not told:
            told = True
            for member in waiting:
                member.stop()
        for member in list(waiting):
            try:
                message = member.receive(POLL_SECONDS / len(waiting))
            except Empty:
                continue
            if message is None:
                waiting.remove(member)
                codes.append(member.end())
            elif isinstance(message, Failure):
                failures.append(message)
            elif isinstance(message, Mapping):
                if watch:
                    watch(message)
            elif progress:
                progress(*message)
        if failures or any(codes):
            deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
    if failures or any(codes):
        # Processes are heard in turn, not in the order in which they failed, and one that misses
        # another fails too: the cause is the earliest.
        reported = [each.error for each in sorted(failures, key=lambda each: each.at)]
        raise verdict(reported, codes, len(members), stopped=told)


def verdict(
    reported: Sequence[BaseException], codes: Sequence[int], size: int, *, stopped: bool
) -> BaseException:
    """The message for a run that failed: its cause, which may make all processes fail.

    Args:
        reported: Errors, the earliest first; those of a process that misses another come later.
        codes: Exit codes, in the order in which the processes ended.
        size: Processes in all.
        stopped: Whether the processes were asked to stop.
    """
    for error in reported:
        if isinstance(error, GeohrError):
            return error
    if stopped:
        return InterruptedRunError("stopped; go on with --resume")
    killed = [code for code in codes if code < 0]
    if reported and not killed:
        return reported[0]
    code = next(iter(killed), 0) or next(filter(None, codes))
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return EngineError(
        f"one of {size} training processes {how}, perhaps for want of memory; go on with --resume"
    )


def take_part(work: Work, team: Team, meeting: Path, parent: Parent) -> NoReturn:
    """The life of one process of a team; ends it with code 0, or 1 after an error.

    Args:
        work: The work of the process.
        team: This process's place in it.
        meeting: File through which the processes find each other.
        parent: Told of steps and errors; says when to stop.
    """
    if not team.leads:
        warnings.simplefilter("ignore")  # process 0 has said it
    code = 0
    try:
        join(team, meeting)
        team = replace(team, stop=parent.stop)
        if team.leads:
            work(team, lambda done, steps: parent.send((done, steps)), parent.send)
        else:
            work(team, None, None)
        dist.destroy_process_group()
    except BaseException as error:
        # All stop at the same step, and process 0, which has a checkpoint to write, says so.
        if team.leads or not isinstance(error, InterruptedRunError):
            tell(parent, error)
            code = 1
    # Threads that wait for a lost process would keep this one.
    os._exit(code)


def join(team: Team, meeting: Path) -> None:
    """Meet the other processes, so that tensors can be summed up together."""
    if team.device.startswith("cuda"):
        torch.cuda.set_device(team.device)
    else:
        torch.set_num_threads(max(cores() // team.size, 1))
    dist.init_process_group(
        "nccl" if team.device.startswith("cuda") else "gloo",
        init_method=meeting.as_uri(),
        rank=team.rank,
        world_size=team.size,
        timeout=PATIENCE,
    )


@dataclass(frozen=True)
class Failure:
    """An error that ended a process.

    Attributes:
        error: The error, with its traceback as a note.
        at: When it was raised, in seconds of the clock that all processes of a machine share.
    """

    error: BaseException
    at: float


def tell(parent: Parent, error: BaseException) -> None:
    """Send an error with its traceback as a note; one that cannot be sent, as its words."""
    at = time.monotonic()
    error.add_note(traceback.format_exc())
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    parent.send(Failure(error, at))
