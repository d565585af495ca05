"""A cluster found by its address, or started here."""

from __future__ import annotations

import logging
import re
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import dask
from distributed import Client, LocalCluster

from geohr import __version__
from geohr.cluster.worker import geohr_version
from geohr.errors import EngineError, UsageError

# The seconds that a scheduler may take to answer.
CONNECT_SECONDS = 10.0
# Dask's settings for the processes of local:N, which share their cores with the driver.
QUIET_SETTINGS = {
    # A worker's stack looked at a hundred times a second, for a page that nobody opens.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "5s",
    # By which they would give memory back after each block only to ask for it again.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
}
PROTOCOLS = ("tcp", "tls", "ucx", "ws", "wss")


@contextmanager
def connected(where: str) -> Iterator[Client]:
    """A client of the cluster that a text names; a cluster that was started for it is ended.

    Args:
        where: A scheduler's address such as tcp://scheduler:8786, or local:N for N processes on
            this machine with one thread each.

    Raises:
        UsageError: When the text is neither.
        EngineError: When the scheduler cannot be reached, or versions differ.
    """
    with started(where) as address, client_of(address) as client:
        yield client


@contextmanager
def served(where: str) -> Iterator[str]:
    """The address of the scheduler that a text names, once it has answered; as in `connected`.

    Raises:
        UsageError: When the text is neither an address nor local:N.
        EngineError: When the scheduler cannot be reached, or versions differ.
    """
    with started(where) as address:
        with client_of(address):
            pass
        yield address


@contextmanager
def started(where: str) -> Iterator[str]:
    """The address of the scheduler that a text names, which is started for local:N.

    Raises:
        UsageError: When the text is neither an address nor local:N.
    """
    processes = re.fullmatch(r"local:(\d{1,4})", where)
    if processes is None:
        if not re.fullmatch(rf"({'|'.join(PROTOCOLS)})://\S+", where):
            raise UsageError(
                f"a cluster is local:N or an address such as tcp://scheduler:8786; got {where!r}"
            )
        yield where
        return
    count = int(processes[1])
    if count < 1:
        raise UsageError(f"a cluster has at least 1 process; got {where!r}")
    with quiet(), dask.config.set(QUIET_SETTINGS):
        with deaf_to_interrupts():
            cluster = LocalCluster(
                n_workers=count, threads_per_worker=1, processes=True, dashboard_address=":0"
            )
        with cluster:
            yield cluster.scheduler_address


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Let processes that are started here pass over a terminal's Ctrl-C.

    It goes to all of a command's processes, and workers have blocks in hand to finish.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def client_of(address: str) -> Iterator[Client]:
    """A client of the scheduler at an address.

    Raises:
        EngineError: When it cannot be reached, or versions differ.
    """
    with quiet():
        try:
            # Versions are compared below, in words.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise EngineError(
                f"no scheduler answers at {address} within {CONNECT_SECONDS:g} s; check that it "
                "runs and that this machine reaches it"
            ) from error
        try:
            check_versions(cast(dict[str, Any], client.get_versions()))
            check_geohr(cast(dict[str, Any], client.run(geohr_version, on_error="return")))
            yield client
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                client.close()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Dask from telling of lost workers and connections, which are told of in one line."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def check_versions(found: Mapping[str, Any]) -> None:
    """Refuse a cluster whose processes are not of the versions here.

    Args:
        found: The result of `distributed.Client.get_versions`.

    Raises:
        EngineError: Naming the process, what it has and what is here.
    """
    here = versions(found["client"])
    scheduler = versions(found["scheduler"])
    compare({"distributed": scheduler["distributed"]}, here, "the scheduler")
    for address, worker in found["workers"].items():
        compare(versions(worker), here, f"worker {address}")


def check_geohr(found: Mapping[str, Any]) -> None:
    """Refuse workers without this geohr, by what each address answered.

    Raises:
        EngineError: Naming the worker.
    """
    for address, version in found.items():
        if isinstance(version, (ImportError, AttributeError)):
            compare({"geohr": None}, {"geohr": __version__}, f"worker {address}")
        elif isinstance(version, str):
            compare({"geohr": version}, {"geohr": __version__}, f"worker {address}")
        # Any other error is of a worker that has just died.


def versions(process: Mapping[str, Any]) -> dict[str, str | None]:
    """The versions of Python, to the minor version, and of Dask's scheduler."""
    python = ".".join(str(process["host"]["python"]).split(".")[:2])
    return {"python": python, "distributed": process["packages"].get("distributed")}


def compare(there: Mapping[str, str | None], here: Mapping[str, str | None], who: str) -> None:
    """Refuse a process whose versions differ.

    Raises:
        EngineError: When a version differs.
    """
    for name, version in there.items():
        if version != here[name]:
            had = f"has {name} {version}" if version else f"has no {name} that can do this"
            raise EngineError(
                f"{who} {had}, and here is {here[name]}; install the same versions everywhere"
            )
