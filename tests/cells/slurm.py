"""A cluster of one machine: Slurm's own daemons, with all that they write in one folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.imagery.emulators import free_port

DAEMONS = ("munged", "slurmctld", "slurmd")
START_SECONDS = 120.0
CONFIGURATION = """
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={control}
SlurmdPort={daemon}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why there can be no cluster here; None where there can."""
    search = f"{os.environ.get('PATH', '')}:/usr/sbin"
    lacking = [each for each in (*DAEMONS, "sbatch") if shutil.which(each, path=search) is None]
    if lacking:
        return f"{', '.join(lacking)} not installed (apt-get install slurm-wlm munge)"
    return None if os.geteuid() == 0 else "Slurm's daemons are started by root"


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which `sbatch` finds a cluster of this machine."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    configuration = folder / "slurm.conf"
    configuration.write_text(
        CONFIGURATION.format(
            host=socket.gethostname(), folder=folder, cores=os.cpu_count(),
            control=free_port(), daemon=free_port(),
        )
    )  # fmt: skip
    environment = os.environ | {
        "SLURM_CONF": str(configuration), "PATH": f"{os.environ['PATH']}:/usr/sbin"
    }  # fmt: skip
    files = {name: folder / name for name in ("munge.socket", "munged.pid", "munged.log", "seed")}
    munged = [
        "munged", "--foreground", "--force", f"--key-file={key}",
        f"--socket={files['munge.socket']}", f"--pid-file={files['munged.pid']}",
        f"--log-file={files['munged.log']}", f"--seed-file={files['seed']}",
    ]  # fmt: skip
    commands = [munged, ["slurmctld", "-D"], ["slurmd", "-D"]]
    running = []
    try:
        for command in commands:
            running.append(
                subprocess.Popen(
                    command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            )
            if command is munged:
                wait_for(files["munge.socket"].exists, running[0])
        wait_for(lambda: "idle" in told(["sinfo", "-h", "-o", "%T"], environment), *running)
        yield environment
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait()


def told(command: list[str], environment: dict[str, str]) -> str:
    """What a command prints; nothing where it fails."""
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return ended.stdout


def wait_for(condition: object, *processes: subprocess.Popen[bytes]) -> None:
    """Wait until something holds, while daemons run."""
    assert callable(condition)
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        ended = [each for each in processes if each.poll() is not None]
        if ended or time.monotonic() > deadline:
            raise RuntimeError(f"Slurm did not start: {[each.args for each in ended]}")
        time.sleep(0.1)
