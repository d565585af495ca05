"""A request to stop, which a run looks at between two steps."""

from __future__ import annotations

import time

from geohr.errors import InterruptedRunError

# The seconds that blocks in progress may take after a request to stop.
GRACE_SECONDS = 10.0
# The seconds between two checks for a request to stop, by whoever waits.
POLL_SECONDS = 0.2


class Stop:
    """Set by a signal handler or another thread, read by the run."""

    def __init__(self) -> None:
        self._at: float | None = None

    def request(self) -> None:
        """Ask the run to finish what it has in hand and to leave."""
        if self._at is None:
            self._at = time.monotonic()

    @property
    def requested(self) -> bool:
        """Whether the run was asked to stop."""
        return self._at is not None

    @property
    def overdue(self) -> bool:
        """Whether that was more than `GRACE_SECONDS` ago."""
        return self._at is not None and time.monotonic() - self._at > GRACE_SECONDS

    def sleep(self, seconds: float) -> None:
        """Wait, unless asked to stop."""
        until = time.monotonic() + seconds
        while not self.requested and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, POLL_SECONDS))

    def check(self) -> None:
        """Leave where the run was asked to stop.

        Raises:
            InterruptedRunError: When it was.
        """
        if self.requested:
            raise interrupted()


def interrupted() -> InterruptedRunError:
    """The error of a run that was asked to stop."""
    return InterruptedRunError("stopped as asked; the same command goes on where it stopped")
