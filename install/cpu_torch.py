"""Install torch without CUDA where no NVIDIA driver is: `python install/cpu_torch.py`.

The torch on PyPI for Linux brings CUDA with it, four gigabytes that a machine without a GPU has no
use for. PyTorch's own index has wheels without it. This installs from there, into the environment
of the Python that runs it, and leaves things as they are where that index cannot be reached: the
installation that follows then takes torch from PyPI.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

INDEX = "https://download.pytorch.org/whl/cpu"
PACKAGES = ("torch", "torchvision")
# Long enough for a slow line, short enough not to be noticed where there is none.
SECONDS_MAX = 5.0
DRIVER = Path("/proc/driver/nvidia/version")


def wants_cpu_wheels() -> bool:
    """Whether the torch on PyPI would bring CUDA, and this machine has no driver for it."""
    # PyPI's wheels for macOS and Windows hold no CUDA.
    linux = platform.system() == "Linux" and platform.machine() == "x86_64"
    return linux and not DRIVER.exists() and shutil.which("nvidia-smi") is None


def answers(index: str) -> bool:
    """Whether a package index can be reached and has torch."""
    try:
        with urlopen(f"{index}/torch/", timeout=SECONDS_MAX) as reply:
            return bool(reply.status == 200)
    except (URLError, OSError):
        return False


def main(arguments: Sequence[str] | None = None) -> None:
    """Install torch's CPU wheels, or say in a line why not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--index", default=INDEX, help="index of wheels without CUDA")
    parser.add_argument("--constraint", help="file of versions, as pip takes it")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    chosen = parser.parse_args(arguments)
    if not wants_cpu_wheels():
        print("torch: from PyPI, which is right for this machine")
        return
    if not answers(chosen.index):
        print(f"torch: {chosen.index} does not answer; from PyPI instead, with 4 GB of CUDA")
        return
    print(f"torch: no NVIDIA driver here, so without CUDA, from {chosen.index}", flush=True)
    if chosen.dry_run:
        return
    limits = ["--constraint", chosen.constraint] if chosen.constraint else []
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--index-url", chosen.index]
    if subprocess.run([*command, *limits, *PACKAGES], check=False).returncode:
        print("torch: the wheels without CUDA cannot be installed; from PyPI instead")


if __name__ == "__main__":
    main()
