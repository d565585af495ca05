"""A server of ranges in a process of its own, which is slow, fails and counts as it is told."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CHUNK = 2**20
SIGNATURE = "AWS4-HMAC-SHA256 Credential=local/20200101/us-east-1/s3/aws4_request"
"""Tells moto that S3 is meant."""

DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
"""What S3 says to who may not write."""


@dataclass
class Behaviour:
    """How a server behaves, and what it counted.

    Attributes:
        folder: Whose files it serves; or None.
        upstream: Host and port of a server that it stands before; or None.
        google: Whether that is fake-gcs-server, to which uploads must be put otherwise.
        latency: Seconds before each answer.
        fail_every: Every so many requests gets a 500; 0 for none.
        cut_every: Every so many answers with a body ends half way; 0 for none.
        cut_uploads: So many of the next uploads of more than `CHUNK` end half way.
        refused: Uploads whose path has this in it get a 403; empty for none.
        requests: Requests so far.
        sent: Bytes of bodies sent so far.
        failed: Requests that got a 500.
        cut: Answers that ended half way.
    """

    folder: str | None = None
    upstream: str | None = None
    google: bool = False
    latency: float = 0.0
    fail_every: int = 0
    cut_every: int = 0
    cut_uploads: int = 0
    refused: str = ""
    requests: int = 0
    sent: int = 0
    failed: int = 0
    cut: int = 0


@dataclass
class Server:
    """A server that runs."""

    address: str
    behaviour: Behaviour = field(default_factory=Behaviour)

    def ask(self, **changes: Any) -> Behaviour:
        """Change the behaviour; what is not named stays. Returns what holds now."""
        request = urllib.request.Request(
            f"{self.address}/__behaviour__", data=json.dumps(changes).encode(), method="POST"
        )
        with urllib.request.urlopen(request) as answer:
            return Behaviour(**json.load(answer))


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD, with ranges."""

    protocol_version = "HTTP/1.1"
    behaviour: Behaviour
    guard = threading.Lock()

    def log_message(self, *_: object) -> None:
        """Nothing: it is counted instead."""

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.path != "/__behaviour__":
            self.forward(body)
            return
        for name, value in json.loads(body).items():
            setattr(self.behaviour, name, value)
        told = json.dumps(asdict(self.behaviour)).encode()
        self.answer(200, {}, told)

    def do_PUT(self) -> None:
        behaviour, length = self.behaviour, int(self.headers.get("Content-Length") or 0)
        with self.guard:
            cut = behaviour.cut_uploads > 0 and length > CHUNK
            behaviour.cut_uploads -= cut
        if cut:
            self.rfile.read(length // 2)
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        body = self.rfile.read(length)
        if behaviour.refused and behaviour.refused in self.path:
            self.answer(403, {"Content-Type": "application/xml"}, DENIED)
            return
        self.forward(body)

    def do_DELETE(self) -> None:
        self.forward(b"")

    def do_HEAD(self) -> None:
        self.serve()

    def do_GET(self) -> None:
        self.serve()

    def serve(self) -> None:
        behaviour = self.behaviour
        with self.guard:
            behaviour.requests += 1
            number = behaviour.requests
        time.sleep(behaviour.latency)
        if behaviour.fail_every and number % behaviour.fail_every == 0:
            with self.guard:
                behaviour.failed += 1
            self.answer(500, {}, b"")
        elif behaviour.upstream:
            self.forward(b"")
        else:
            self.serve_file()

    def serve_file(self) -> None:
        path = Path(self.behaviour.folder or ".") / self.path.lstrip("/").partition("?")[0]
        if not path.is_file():
            self.answer(404, {}, b"")
            return
        size = path.stat().st_size
        tag = f'"{path.stat().st_mtime_ns:x}"'
        headers = {"Accept-Ranges": "bytes", "ETag": tag}
        start, stop, status = 0, size, 200
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes="):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop, status = int(first), min(int(last or size - 1) + 1, size), 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        if self.command == "HEAD":
            self.answer(200, {**headers, "Content-Length": str(size)}, b"")
            return
        with path.open("rb") as file:
            file.seek(start)
            self.answer(status, headers, file.read(stop - start))

    def forward(self, body: bytes) -> None:
        method, path = self.command, self.path
        kept = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        if self.behaviour.google:
            kept = {name: value for name, value in kept.items() if name.lower() != "host"}
            method, path = as_fake_gcs_expects(method, path, self.headers["x-goog-copy-source"])
        upstream = http.client.HTTPConnection(str(self.behaviour.upstream), timeout=120)
        upstream.request(method, path, body or None, kept)
        answer = upstream.getresponse()
        data = answer.read()
        skipped = ("transfer-encoding", "connection", "content-length", "date", "server")
        headers = {
            name: value for name, value in answer.getheaders() if name.lower() not in skipped
        }
        if self.command == "HEAD":
            headers["Content-Length"] = answer.getheader("Content-Length") or "0"
        upstream.close()
        if self.command == "PUT" and self.behaviour.google and answer.status == 200:
            headers["ETag"] = json.loads(data).get("etag", "none")
        self.answer(answer.status, headers, data)

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        behaviour = self.behaviour
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "GET":
            self.wfile.write(body if self.command != "HEAD" else b"")
            return
        with self.guard:
            cut = behaviour.cut_every and behaviour.requests % behaviour.cut_every == 0
            cut = bool(cut and status in (200, 206) and len(body) > 1)
            view = memoryview(body)[: len(body) // 2 if cut else len(body)]
            behaviour.sent += len(view)
            behaviour.cut += cut
        for place in range(0, len(view), CHUNK):
            self.wfile.write(view[place : place + CHUNK])
        if cut:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True


def as_fake_gcs_expects(method: str, path: str, source: str | None) -> tuple[str, str]:
    """Method and path of a request of Google's XML API, and what it copies.

    It answers all of that API but uploads and copies, which become those of the JSON API.
    """
    if method != "PUT":
        return method, path
    bucket, new = object_of(path)
    if source is None:
        return "POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={new}"
    origin, old = object_of(source)
    return "POST", f"/storage/v1/b/{origin}/o/{old}/copyTo/b/{bucket}/o/{new}"


def object_of(path: str) -> tuple[str, str]:
    """Bucket and quoted key that a path names."""
    bucket, _, key = path.lstrip("/").partition("?")[0].partition("/")
    return bucket, urllib.parse.quote(urllib.parse.unquote(key), safe="")


@contextmanager
def range_server(
    folder: Path | None = None, upstream: str | None = None, *, google: bool = False
) -> Iterator[Server]:
    """A server of a folder's files, or in front of another server, in a process of its own."""
    behaviour = Behaviour(
        folder=None if folder is None else str(folder), upstream=upstream, google=google
    )
    process = subprocess.Popen(
        [sys.executable, __file__, json.dumps(asdict(behaviour))],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Server(f"http://127.0.0.1:{int(process.stdout.readline())}", behaviour)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def moto_server() -> Iterator[str]:
    """The host and port of an S3-compatible server, moto's, in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "import sys; from moto.server import main; main(sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(2**30)},
    )
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def put_object(address: str, bucket: str, path: Path) -> None:
    """Put a file into a bucket, which is made, of a server that checks no signature."""
    for name, body in (("", b""), (f"/{path.name}", path.read_bytes())):
        request = urllib.request.Request(f"{address}/{bucket}{name}", data=body, method="PUT")
        request.add_header("Authorization", SIGNATURE)
        request.add_header("Content-Type", "application/octet-stream")
        with urllib.request.urlopen(request):
            pass


def main() -> None:
    Handler.behaviour = Behaviour(**json.loads(sys.argv[1]))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
