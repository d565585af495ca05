"""A server for one page, on this machine only."""

from __future__ import annotations

import json
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from geohr.errors import GeohrError, InputError, UsageError
from geohr.options import SceneOptions
from geohr.scene import Scene
from geohr.viewer.images import Images
from geohr.viewer.objects import ObjectTable
from geohr.viewer.page import STATIC, served_page, static
from geohr.viewer.review import keep_review
from geohr.viewer.web import WebTile

HOST = "127.0.0.1"
BODY_BYTES_MAX = 1_000
"""A review is some fifty bytes long."""
TILES_KEPT = 512
"""Tiles of each kind that are held in memory."""

HTML, JSON, PNG = "text/html; charset=utf-8", "application/json", "image/png"
VECTOR = "application/vnd.mapbox-vector-tile"

# The map draws its tiles in workers that it makes from blobs, and its pictures from blobs too.
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; worker-src blob:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self'; frame-ancestors 'none'"
)


class PageServer(ThreadingHTTPServer):
    """Serves the page of one scene and its objects on 127.0.0.1, and nothing else.

    Args:
        images: The scene.
        objects: The layer of objects.
        port: To listen on; 0 takes a free one.

    Attributes:
        images: The scene.
        objects: The layer of objects.

    Raises:
        UsageError: When the port is taken.
    """

    daemon_threads = True

    def __init__(self, images: Images, objects: ObjectTable, port: int = 0) -> None:
        self.images = images
        self.objects = objects
        self.image = lru_cache(TILES_KEPT)(images.tile)
        self.vector = lru_cache(TILES_KEPT)(objects.tile)
        self.writing = Lock()
        try:
            super().__init__((HOST, port), Handler)
        except OSError as error:
            raise UsageError(
                f"port {port} cannot be used ({error.strerror}); choose another with --port, "
                "or leave it out for a free one"
            ) from error

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"


def page_server(
    scene: str | Path, objects: Path, *, options: SceneOptions | None = None, port: int = 0
) -> PageServer:
    """A server, listening; `serve_forever` makes it answer.

    Args:
        scene: A raster file, or any name GDAL can open.
        objects: A GeoPackage.
        options: Bands and nodata where the file does not say.
        port: To listen on; 0 takes a free one.

    Raises:
        InputError: When scene or objects cannot be used.
        UsageError: When the objects are no GeoPackage, or the port is taken.
    """
    return PageServer(Images.of(Scene.open(scene, options)), ObjectTable.open(objects), port)


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: PageServer
    server_version = "geohr"
    sys_version = ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Give the page or one of its parts."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Take a review."""
        self._answer(self._post)

    def log_message(self, *_: object) -> None:
        """Say nothing: a page asks for hundreds of tiles."""

    def _answer(self, respond: Any) -> None:
        """Refuse what does not come from the page itself, respond, and turn errors into words."""
        try:
            if not self._is_own():
                self._send(HTTPStatus.FORBIDDEN, JSON, failure("not asked by the page itself"))
                return
            respond(urlsplit(self.path).path.strip("/").split("/"))
        except InputError as error:
            self._send(HTTPStatus.NOT_FOUND, JSON, failure(str(error)))
        except UsageError as error:
            self._send(HTTPStatus.BAD_REQUEST, JSON, failure(str(error)))
        except GeohrError as error:
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, JSON, failure(str(error)))

    def _is_own(self) -> bool:
        """Whether the request names this server, and comes from its page where it says so.

        Another site could point a name of its own at 127.0.0.1, or send a form here.
        """
        hosts = {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}
        origin = self.headers.get("Origin")
        return self.headers.get("Host") in hosts and (
            origin is None or origin in {f"http://{host}" for host in hosts}
        )

    def _get(self, parts: list[str]) -> None:
        server = self.server
        match parts:
            case [""]:
                page = served_page(server.images, server.objects)
                self._send(HTTPStatus.OK, HTML, page.encode())
            case [name] if name in STATIC:
                self._send(HTTPStatus.OK, STATIC[name], static(name).encode())
            case ["index"]:
                index = json.dumps(server.objects.index())
                self._send(HTTPStatus.OK, JSON, index.encode())
            case ["image", *place]:
                self._send(HTTPStatus.OK, PNG, server.image(web_tile(place)))
            case ["objects", *place]:
                self._send(HTTPStatus.OK, VECTOR, server.vector(web_tile(place)))
            case ["object", number] if number.isdecimal():
                found = server.objects.attributes(int(number))
                if found is None:
                    raise InputError(f"no object {number}")
                self._send(HTTPStatus.OK, JSON, json.dumps(found, default=str).encode())
            case _:
                raise InputError("no such page")

    def _post(self, parts: list[str]) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            self.close_connection = True
            raise UsageError(f"a review is at most {BODY_BYTES_MAX} bytes long")
        body = self.rfile.read(int(length))
        if parts != ["review"]:
            raise InputError("no such page")
        # A form of another site cannot send this type without asking first.
        if self.headers.get_content_type() != JSON:
            raise UsageError(f"a review is {JSON}")
        try:
            asked = json.loads(body)
            identity, decision = int(asked["id"]), asked["review"]
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError("a review is {id, review}") from error
        with self.server.writing:
            keep_review(self.server.objects, identity, decision)
        self._send(HTTPStatus.OK, JSON, json.dumps({"id": identity, "review": decision}).encode())

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            # The browser no longer wants a tile that has left the screen.
            self.close_connection = True


def web_tile(place: list[str]) -> WebTile:
    """The tile of a path such as `14/8400/7600`.

    Raises:
        InputError: When there is none.
    """
    try:
        zoom, col, row = (int(each) for each in place if each.isdecimal())
        return WebTile(zoom, col, row)
    except ValueError as error:
        raise InputError(f"no tile {'/'.join(place)}") from error


def failure(text: str) -> bytes:
    """An error as JSON."""
    return json.dumps({"error": text}).encode()
