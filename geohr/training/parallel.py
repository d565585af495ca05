"""One network trained by several processes, each on its share of every batch.

Every process holds the whole network and starts from the same weights. After the passes of a
step, one all-reduce puts the mean over the processes into gradients and running statistics, so
that all of them take the same step. It covers whatever the optimiser holds and whatever a loss
reached into, which `DistributedDataParallel`, a wrapper of one forward call, does not; networks
of this size have little to gain from its overlap of sums and passes.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import nn

from geohr._runtime.messages import show_warning
from geohr.engines.cores import cores
from geohr.errors import EngineError, GeohrError, InterruptedRunError, UsageError

PATIENCE = timedelta(days=7)
"""How long a process waits for the others: one of them validates meanwhile. That one of them was
lost is seen from outside."""
LOOK_SECONDS = 0.5
"""Time between two looks at whether the processes live."""
GRACE_SECONDS = 5.0
"""After the first process failed, the others have this long to tell why they did."""


@dataclass(frozen=True)
class Team:
    """The processes that train one network, as one of them sees it.

    Attributes:
        rank: Of this process, from 0. Process 0 validates, logs and writes.
        size: Processes in all; one trains alone, without `torch.distributed`.
        device: What this process trains on; empty where nobody has chosen yet.
    """

    rank: int = 0
    size: int = 1
    device: str = ""

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
            loss: Of this process's share.
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


Progress = Callable[[int, int], None]
"""Called with the steps done and the steps in all."""
Work = Callable[[Team, Progress | None], object]
"""What each process of a team does; process 0 is told where to report its progress."""


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


@dataclass(frozen=True)
class Member:
    """A process of the team, as the one that started it sees it.

    Attributes:
        process: The process.
        reports: Steps done and errors come from here; it ends with the process.
    """

    process: SpawnProcess
    reports: Connection


def run_team(
    work: Work, places: Sequence[str], *, stopped: Callable[[], bool], progress: Progress | None
) -> None:
    """Do the work in several processes that are told of each other, and wait for them.

    None of them outlives this call, however it ends.

    Args:
        work: Can be pickled, as all it holds; see `Work`.
        places: The device of each process; see `devices`.
        stopped: Whether the run is to stop; the processes then get SIGTERM.
        progress: Told what process 0 reports.

    Raises:
        EngineError: When a process was lost.
        Exception: Whatever the work raises.
    """
    with tempfile.TemporaryDirectory(prefix="geohr-") as folder:
        meeting = Path(folder) / "meeting"
        members: list[Member] = []
        try:
            for rank, place in enumerate(places):
                members.append(start(work, Team(rank, len(places), place), meeting))
            follow(members, stopped, progress)
        finally:
            for member in members:
                member.process.kill()
            for member in members:
                member.process.join()
                member.reports.close()


def start(work: Work, team: Team, meeting: Path) -> Member:
    """Start one process of a team."""
    context = multiprocessing.get_context("spawn")
    reports, end = context.Pipe(duplex=False)
    process = context.Process(
        target=take_part, args=(work, team, meeting, end), name=f"geohr-train-{team.rank}"
    )
    process.start()
    end.close()
    return Member(process, reports)


def follow(
    members: Sequence[Member], stopped: Callable[[], bool], progress: Progress | None
) -> None:
    """Hear the processes until all have ended; raise what ended one of them.

    Raises:
        EngineError: When a process was lost.
        Exception: What a process reported.
    """
    waiting = list(members)
    reported: list[BaseException] = []
    told = False
    deadline = float("inf")
    while waiting and time.monotonic() < deadline:
        if stopped() and not told:
            told = True
            for member in waiting:
                member.process.terminate()
        ended = [each for each in waiting if each.process.exitcode is not None]
        wait([each.reports for each in waiting], 0 if ended else LOOK_SECONDS)
        for said in heard(waiting):
            if isinstance(said, BaseException):
                reported.append(said)
            elif progress:
                progress(*said)
        waiting = [each for each in waiting if each not in ended]
        if reported or any(each.process.exitcode for each in ended):
            deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
    lost = [each.process for each in members if each.process.exitcode]
    if reported or lost:
        raise verdict(reported, lost, len(members), stopped=told)


def heard(members: Iterable[Member]) -> Iterator[tuple[int, int] | BaseException]:
    """What the processes have said since the last look."""
    for member in members:
        try:
            while member.reports.poll():
                yield member.reports.recv()
        except (EOFError, OSError):
            continue


def verdict(
    reported: Sequence[BaseException],
    lost: Sequence[SpawnProcess],
    size: int,
    *,
    stopped: bool,
) -> BaseException:
    """What to say of a run that failed: one cause, though it makes all processes fail.

    Args:
        reported: Errors, in the order they came; those of a process that misses another are last.
        lost: Processes that ended with a code other than 0.
        size: Processes in all.
        stopped: Whether the processes were asked to stop.
    """
    for error in reported:
        if isinstance(error, (GeohrError, KeyboardInterrupt)):
            return error
    if stopped:
        return InterruptedRunError("stopped; go on with --resume")
    killed = [each for each in lost if (each.exitcode or 0) < 0]
    if reported and not killed:
        return reported[0]
    gone = (killed or lost)[0]
    code = gone.exitcode or 0
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return EngineError(
        f"one of {size} training processes {how}, perhaps for want of memory; go on with --resume"
    )


def take_part(work: Work, team: Team, meeting: Path, reports: Connection) -> NoReturn:
    """The life of one process of a team; ends it with code 0, or 1 after an error.

    Args:
        work: What to do.
        team: This process's place in it.
        meeting: File through which the processes find each other.
        reports: Where to tell of steps and errors.
    """
    # A terminal sends SIGINT to every process; this one is told by the one that started it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, interrupt)
    threading.Thread(target=end_with_parent, daemon=True).start()
    warnings.showwarning = show_warning
    if not team.leads:
        warnings.simplefilter("ignore")  # process 0 has said it
    try:
        join(team, meeting)
        work(team, partial(report, reports) if team.leads else None)
        dist.destroy_process_group()
    except BaseException as error:
        # All stop at the same step, and process 0, which has a checkpoint to write, says so.
        if team.leads or not isinstance(error, InterruptedRunError):
            tell(reports, error)
            # Threads that wait for a lost process would keep this one.
            os._exit(1)
    sys.exit(0)


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


def report(reports: Connection, done: int, steps: int) -> None:
    """Send the steps done and the steps in all."""
    reports.send((done, steps))


def tell(reports: Connection, error: BaseException) -> None:
    """Send an error with its traceback as a note; one that cannot be sent, as its words."""
    error.add_note(traceback.format_exc())
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    reports.send(error)


def interrupt(_: int, __: FrameType | None) -> None:
    """Take SIGTERM as an interruption, so that temporary files are removed."""
    raise KeyboardInterrupt


def end_with_parent() -> None:
    """Wait for the process that started this one, and do not outlive it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
