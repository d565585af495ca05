"""A Hugging Face hub on this machine: enough of its protocol to fetch, resume and push."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

COMMIT = "0" * 40


@dataclass
class LocalHub:
    """What the server has and what it was asked.

    Attributes:
        folder: A folder a repository, `owner/name`.
        requested: Method and path of every request.
        cut: Bytes after which the next download of a file breaks off, or None.
        lies: Files whose announced digest is not theirs.
        uploads: What was uploaded, by digest, whether a commit names it or not.
        held: Keeps an upload that has arrived without an answer until it is set; or None.
        arrived: Set when such an upload has arrived.
    """

    folder: Path
    address: str = ""
    requested: list[str] = field(default_factory=list)
    cut: int | None = None
    lies: set[str] = field(default_factory=set)
    uploads: dict[str, bytes] = field(default_factory=dict)
    held: threading.Event | None = None
    arrived: threading.Event = field(default_factory=threading.Event)

    def put(self, repo: str, name: str, content: bytes | str) -> None:
        """Put a file into a repository."""
        path = self.folder / repo / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def lead_here(self, patch: pytest.MonkeyPatch, cache: Path) -> None:
        """Lead the hub's client of this process here: it reads its variables on import only."""
        constants = {
            "ENDPOINT": self.address,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.address
            + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(cache / "hub"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_TELEMETRY": True,
            "HF_HUB_DOWNLOAD_TIMEOUT": 5,
        }
        for name, value in constants.items():
            patch.setattr(f"huggingface_hub.constants.{name}", value)
        patch.setenv("HF_TOKEN", "hf_local")

    def environment(self, cache: Path) -> dict[str, str]:
        """Variables that lead the hub's client of another process here, and nowhere else."""
        return {
            "HF_ENDPOINT": self.address,
            "HF_HOME": str(cache),
            "HF_TOKEN": "hf_local",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DOWNLOAD_TIMEOUT": "5",
        }


def handler(hub: LocalHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self, value: Any, code: int = 200, headers: dict[str, str] | None = None) -> None:
            content = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(code)
            for name, text in (headers or {}).items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def missing(self, code: str) -> None:
            self.reply({"error": code}, 404, {"X-Error-Code": code})

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            hub.requested.append(f"{self.command} {self.path}")
            parts = self.path.split("?")[0].strip("/").split("/")
            if parts[0] == "api":
                repo = "/".join(parts[2:4])
                if not (hub.folder / repo).is_dir():
                    self.missing("RepoNotFound")
                    return
                files = [
                    {"rfilename": str(path.relative_to(hub.folder / repo))}
                    for path in sorted((hub.folder / repo).rglob("*"))
                    if path.is_file()
                ]
                self.reply({"id": repo, "sha": COMMIT, "siblings": files, "tags": []})
                return
            repo, name = "/".join(parts[:2]), "/".join(parts[4:])
            path = hub.folder / repo / name
            if not (hub.folder / repo).is_dir():
                self.missing("RepoNotFound")
            elif not path.is_file():
                self.missing("EntryNotFound")
            else:
                self.give(path.read_bytes(), name)

        def give(self, content: bytes, name: str) -> None:
            digest = hashlib.sha256(b"other" if name in hub.lies else content).hexdigest()
            asked = self.headers.get("Range", "")
            start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
            self.send_response(206 if asked else 200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Linked-Etag", f'"{digest}"')
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("ETag", f'"{digest}"')
            self.send_header("Accept-Ranges", "bytes")
            if asked:
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if self.command == "HEAD":
                return
            if hub.cut is not None and name != "config.json":
                self.wfile.write(content[start : start + hub.cut])
                hub.cut = None
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(content[start:])

        def do_POST(self) -> None:
            hub.requested.append(f"POST {self.path}")
            body = self.rfile.read(int(self.headers["Content-Length"]))
            parts = self.path.strip("/").split("/")
            if self.path.startswith("/api/repos/create"):
                asked = json.loads(body)
                owner = asked.get("organization") or "me"
                (hub.folder / owner / asked["name"]).mkdir(parents=True, exist_ok=True)
                self.reply(
                    {
                        "url": f"{hub.address}/{owner}/{asked['name']}",
                        "id": f"{owner}/{asked['name']}",
                    }
                )
            elif self.path.startswith("/api/validate-yaml"):
                self.reply({"errors": [], "warnings": []})
            elif "preupload" in parts:
                files = [
                    {
                        "path": each["path"],
                        "uploadMode": "lfs" if each["path"].endswith(".safetensors") else "regular",
                        "shouldIgnore": False,
                    }
                    for each in json.loads(body)["files"]
                ]
                self.reply({"files": files})
            elif self.path.endswith("/info/lfs/objects/batch"):
                objects = [
                    {
                        "oid": each["oid"],
                        "size": each["size"],
                        "actions": {"upload": {"href": f"{hub.address}/upload/{each['oid']}"}},
                    }
                    for each in json.loads(body)["objects"]
                ]
                self.reply({"transfer": "basic", "objects": objects})
            elif "commit" in parts:
                repo = "/".join(parts[2:4])
                for line in body.decode().splitlines():
                    entry = json.loads(line)
                    value = entry["value"]
                    if entry["key"] == "file":
                        hub.put(repo, value["path"], base64.b64decode(value["content"]))
                    elif entry["key"] == "lfsFile":
                        hub.put(repo, value["path"], hub.uploads[value["oid"]])
                self.reply(
                    {"commitUrl": f"{hub.address}/{repo}/commit/{COMMIT}", "commitOid": COMMIT}
                )
            else:
                self.missing("Unknown")

        def do_PUT(self) -> None:
            hub.requested.append(f"PUT {self.path}")
            content = self.rfile.read(int(self.headers["Content-Length"]))
            hub.uploads[self.path.rsplit("/", 1)[1]] = content
            if hub.held is not None:
                hub.arrived.set()
                hub.held.wait()
                self.close_connection = True
                return
            self.reply({})

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@contextmanager
def local_hub(folder: Path) -> Iterator[LocalHub]:
    """A running hub that holds nothing yet."""
    hub = LocalHub(folder)
    folder.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
