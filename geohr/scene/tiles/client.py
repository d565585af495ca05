"""Requests to a service: at a polite rate, repeated with growing pauses, and never without end."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache
from threading import Lock
from typing import Any
from urllib.parse import urljoin, urlsplit

from geohr import __version__
from geohr.errors import InputError, UsageError
from geohr.scene.tiles.address import host_of

# Connections to a service at once.
CONNECTIONS = 4
# The seconds until a server must have taken a connection, and until the next bytes must come.
CONNECT_SECONDS, READ_SECONDS = 10.0, 30.0
# The seconds that one answer may take as a whole.
ANSWER_SECONDS = 120.0
# No tile and no description of a service is larger.
BYTES_MAX = 2**26
# The times that a request is made before the run ends.
TRIES = 6
# The seconds before the second time; each wait is twice the one before.
PAUSE_SECONDS = 0.5
# The longest wait that a server may ask for.
PAUSE_MAX = 300.0
# Redirects that are followed, on the same host.
REDIRECTS = 3
# Who asks: operators want to know it.
AGENT = {"User-Agent": f"geohr/{__version__}"}
# Answers that another time may be better.
PASSING = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Reply:
    """The answer of a server.

    Attributes:
        status: HTTP status.
        headers: Headers by name in lower case.
        body: The content.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Pace:
    """The moments at which requests may start, at a fixed rate, shared by all threads."""

    def __init__(self, rate: float) -> None:
        self._gap = 1 / rate
        self._next = 0.0
        self._guard = Lock()

    def wait(self) -> None:
        """Sleep until the next request may start."""
        with self._guard:
            start = max(time.monotonic(), self._next)
            self._next = start + self._gap
        time.sleep(max(0.0, start - time.monotonic()))

    def rest(self, seconds: float) -> None:
        """Start no request for a while."""
        with self._guard:
            self._next = max(self._next, time.monotonic() + seconds)


class HttpClient:
    """Makes requests; to be used by several threads.

    Args:
        rate: Requests a second, of all threads together.

    Raises:
        UsageError: When urllib3 is not installed.
    """

    def __init__(self, rate: float) -> None:
        try:
            import urllib3
        except ImportError as error:
            raise UsageError(
                "services of tiles need urllib3; pip install 'geohr[services]'"
            ) from error
        self._urllib3 = urllib3
        self._pace = Pace(rate)
        self._pools: dict[str | None, Any] = {}

    def get(self, address: str, headers: Mapping[str, str] | None = None) -> Reply:
        """The answer to a request, once it is not one that another time may be better.

        Args:
            address: An http(s) address.
            headers: Further headers.

        Raises:
            InputError: When no such answer comes; with the host's name alone, as the address may
                hold a key.
        """
        host = host_of(address)
        reason = ""
        for attempt in range(TRIES):
            self._pace.wait()
            pause = PAUSE_SECONDS * 2**attempt
            try:
                reply = self._once(address, headers or {})
            except self._urllib3.exceptions.SSLError as error:
                raise InputError(
                    f"{host}: its TLS certificate is not accepted ({kind(error)})"
                ) from error
            except (self._urllib3.exceptions.HTTPError, OSError) as error:
                reason = self._reason(error)
            else:
                if reply.status not in PASSING:
                    return reply
                reason = f"answers with status {reply.status}"
                pause = max(pause, retry_after(reply.headers))
            if attempt < TRIES - 1:
                self._pace.rest(min(pause, PAUSE_MAX))
        advice = "; ask for less with --rate" if "429" in reason else ""
        raise InputError(
            f"{host}: {reason}, {TRIES} times in a row{advice}; what was fetched is kept, and the "
            "same command goes on"
        )

    def _once(self, address: str, headers: Mapping[str, str]) -> Reply:
        """One request, and those that redirects on the same host lead to."""
        host = host_of(address)
        for _ in range(REDIRECTS + 1):
            reply = self._exchange(address, headers)
            if reply.status not in (301, 302, 303, 307, 308) or "location" not in reply.headers:
                return reply
            address = urljoin(address, reply.headers["location"])
            if host_of(address) != host or urlsplit(address).scheme not in ("http", "https"):
                raise InputError(
                    f"{host}: redirects to {host_of(address)}, as services do that want a sign-in; "
                    "give that address if it is the one that is meant"
                )
        raise InputError(f"{host}: redirects more than {REDIRECTS} times; check the address")

    def _exchange(self, address: str, headers: Mapping[str, str]) -> Reply:
        """One request and its answer, read whole within `ANSWER_SECONDS`."""
        deadline = time.monotonic() + ANSWER_SECONDS
        answer = self._pool(address).request(
            "GET", address, headers={**AGENT, **headers}, redirect=False, preload_content=False
        )
        body = bytearray()
        try:
            for part in answer.stream(2**16):
                body += part
                if len(body) > BYTES_MAX:
                    raise InputError(f"{host_of(address)}: sends more than {BYTES_MAX} bytes")
                if time.monotonic() > deadline:
                    raise TimeoutError
        except BaseException:
            answer.close()
            raise
        answer.release_conn()
        names = {name.lower(): value for name, value in answer.headers.items()}
        return Reply(answer.status, names, bytes(body))

    def _pool(self, address: str) -> Any:
        """The connections to use for an address: directly, or by the environment's proxy."""
        parts = urlsplit(address)
        proxy = urllib.request.getproxies().get(parts.scheme)
        if proxy and urllib.request.proxy_bypass(parts.hostname or ""):
            proxy = None
        if proxy not in self._pools:
            timeout = self._urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS)
            settings: dict[str, Any] = {
                "maxsize": CONNECTIONS,
                "block": True,
                "retries": False,
                "timeout": timeout,
            }
            self._pools[proxy] = (
                self._urllib3.ProxyManager(proxy, **settings)
                if proxy
                else self._urllib3.PoolManager(**settings)
            )
        return self._pools[proxy]

    def _reason(self, error: Exception) -> str:
        """What went wrong, without the address."""
        kinds = self._urllib3.exceptions
        if isinstance(error, (kinds.ConnectTimeoutError, kinds.ReadTimeoutError, TimeoutError)):
            return "does not answer in time"
        if isinstance(error, (kinds.NameResolutionError, kinds.NewConnectionError)):
            return "cannot be reached (check the address and the network)"
        return f"breaks off its answer ({kind(error)})"


@cache
def client_of(rate: float) -> HttpClient:
    """The client of this process for a rate, so that all its readers keep to it together."""
    return HttpClient(rate)


def retry_after(headers: Mapping[str, str]) -> float:
    """The seconds that a server asks to wait (RFC 9110, section 10.2.3)."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return 0.0


def kind(error: Exception) -> str:
    """The name of an error's class: its text may hold the address."""
    return type(error).__name__
