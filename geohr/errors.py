"""Every error that geohr raises on purpose, and the exit code the command line gives it.

GeohrError                1  unexpected
├── UsageError            2  the call itself is wrong              (also ValueError)
├── InputError            3  a scene, model or label is unusable   (also ValueError)
├── BatchError            4  some scenes of a batch failed         (also RuntimeError)
├── LockedError           5  another run holds the output          (also RuntimeError)
├── OutputError           6  no space, or not writable             (also OSError)
├── EngineError           7  engine or cluster unavailable         (also RuntimeError)
└── InterruptedRunError 130  stopped by SIGINT or SIGTERM          (also RuntimeError)

A message says what came, what is allowed, and what to do.
"""

from __future__ import annotations

from typing import ClassVar


class GeohrError(Exception):
    """Root of the tree; its `exit_code` is what the command line ends with."""

    exit_code: ClassVar[int] = 1


class UsageError(GeohrError, ValueError):
    """The call cannot be carried out as it was made."""

    exit_code = 2


class InputError(GeohrError, ValueError):
    """A scene, a model file or a label file cannot be used."""

    exit_code = 3


class BatchError(GeohrError, RuntimeError):
    """Some scenes of a batch failed; the others are done."""

    exit_code = 4


class LockedError(GeohrError, RuntimeError):
    """Another run is writing to the same place."""

    exit_code = 5


class OutputError(GeohrError, OSError):
    """An output cannot be written: no space, no permission, a folder that went away."""

    exit_code = 6


class EngineError(GeohrError, RuntimeError):
    """An engine or a cluster is not available, or refused what was asked."""

    exit_code = 7


class InterruptedRunError(GeohrError, RuntimeError):
    """The run was asked to stop and did so in order."""

    exit_code = 130
