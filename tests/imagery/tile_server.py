"""A server of tiles in this process, that misbehaves as it is told and counts each request."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, str], bytes]
MISSING: Answer = (404, {}, b"")
PAGE: Answer = (200, {"Content-Type": "text/html"}, b"<html>Sign in, SECRET</html>")


@dataclass
class TileServer:
    """A server that runs.

    Attributes:
        address: `http://host:port`.
        tile: The answer for a path with its query, once nothing is wrong with it.
        wrong: Answers by path that come first, each once, in order; None closes the connection.
        asked: How often each path was asked for.
        given: How often each path was answered with what `tile` gives.
        unchanged: How often each path was answered with 304.
        headers: Headers of each request.
    """

    address: str
    tile: Callable[[str], Answer]
    wrong: dict[str, list[Answer | None]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    given: Counter[str] = field(default_factory=Counter)
    unchanged: Counter[str] = field(default_factory=Counter)
    headers: list[dict[str, str]] = field(default_factory=list)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def forget(self) -> None:
        """Begin to count anew."""
        for each in (self.asked, self.given, self.unchanged):
            each.clear()


class QuietServer(ThreadingHTTPServer):
    """A server that says nothing of clients that have gone."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def tile_server(tile: Callable[[str], Answer]) -> Iterator[TileServer]:
    """A server of what `tile` gives for a path."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Nothing: it is counted instead."""

        def do_GET(self) -> None:
            with served.guard:
                served.asked[self.path] += 1
                served.headers.append(dict(self.headers))
                waiting = served.wrong.get(self.path, [])
                answer = waiting.pop(0) if waiting else served.tile(self.path)
            if answer is None:
                self.close_connection = True
                return
            status, headers, body = answer
            tag = headers.get("ETag")
            if tag and self.headers.get("If-None-Match") == tag:
                status, body = 304, b""
            with served.guard:
                served.unchanged[self.path] += status == 304
                served.given[self.path] += status == 200
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = QuietServer(("127.0.0.1", 0), Handler)
    served = TileServer(f"http://127.0.0.1:{server.server_address[1]}", tile)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
