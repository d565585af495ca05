"""A server for one page, on this machine only."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from geohr.errors import GeohrError, InputError, UsageError
from geohr.options import SceneOptions
from geohr.scene import Scene
from geohr.scene.vectors import LABELLED, LABELS
from geohr.viewer.drawn import TRACED, DrawnLayer
from geohr.viewer.edits import TILES_KEPT, VECTOR, Workbench, edit_routes, place_of, whole
from geohr.viewer.images import Images, tile_bounds
from geohr.viewer.objects import ObjectTable
from geohr.viewer.page import STATIC, served_page, static
from geohr.viewer.tasks import Tasks, is_sample

HOST = "127.0.0.1"
# The seconds that answers in progress may take after a request to stop.
GOODBYE_SECONDS = 2

# Pages of this machine that may show the page inside a cell.
NOTEBOOKS = "http://localhost:* http://127.0.0.1:* vscode-webview:"

# The map draws its tiles in workers that it makes from blobs, and its pictures from blobs too.
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; worker-src blob:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self'; frame-ancestors "
)


@dataclass(frozen=True)
class PageContent:
    """What a page shows.

    Attributes:
        images: The scene.
        bench: The objects, and what the page writes.
        before: The scene at an earlier date, if any.
    """

    images: Images
    bench: Workbench
    before: Images | None = None


class PageServer:
    """Serves the page of one scene and its objects on 127.0.0.1, and nothing else.

    Args:
        content: The scene and its objects.
        port: The port to listen on; 0 takes a free one.
        framed: Whether a notebook on this machine may show the page inside a cell.

    Raises:
        UsageError: When the port is taken.
    """

    def __init__(self, content: PageContent, *, port: int = 0, framed: bool = False) -> None:
        try:
            self._socket = socket.create_server((HOST, port))
        except OSError as error:
            raise UsageError(
                f"port {port} cannot be used ({error.strerror}); choose another with --port, "
                "or leave it out for a free one"
            ) from error
        app = page_app(content, self.port, NOTEBOOKS if framed else "'none'")
        config = uvicorn.Config(
            app, http="h11", ws="none", lifespan="off", log_config=None, log_level="error",
            access_log=False, server_header=False, timeout_graceful_shutdown=GOODBYE_SECONDS,
        )  # fmt: skip
        self._server = uvicorn.Server(config)

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return int(self._socket.getsockname()[1])

    @property
    def address(self) -> str:
        """The URL of the page."""
        return f"http://{HOST}:{self.port}/"

    def serve_forever(self) -> None:
        """Answer until `shutdown` is called, or in the main thread until SIGINT or SIGTERM."""
        self._server.run(sockets=[self._socket])

    def shutdown(self) -> None:
        """Ask `serve_forever` to return; may be called from any thread."""
        self._server.should_exit = True

    def __enter__(self) -> Self:
        """Return the server itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the port."""
        self._socket.close()


def page_server(
    scene: str | Path,
    objects: Path,
    *,
    before: str | Path | None = None,
    labels: Path | None = None,
    check: Path | None = None,
    options: SceneOptions | None = None,
    port: int = 0,
    framed: bool = False,
) -> PageServer:
    """A server that listens; `serve_forever` makes it answer.

    Args:
        scene: A raster file, or any name GDAL can open.
        objects: A GeoPackage.
        before: The scene at an earlier date, to swipe to.
        labels: The GeoPackage that labels are drawn into; by default
            SCENE.labels.gpkg beside `objects`.
        check: A sample of `geohr check sample`, to be judged.
        options: Bands and nodata where the file does not say.
        port: The port to listen on; 0 takes a free one.
        framed: Whether a notebook on this machine may show the page inside a cell.

    Raises:
        InputError: When scene or objects cannot be used.
        UsageError: When the objects are no GeoPackage, or the port is taken.
    """
    table = ObjectTable.open(objects)
    tasks = None if check is None else Tasks.open(check)
    layers = drawn_layers(
        labels or objects.with_name(f"{Path(scene).stem}.labels.gpkg"), table, tasks
    )
    content = PageContent(
        Images.of(Scene.open(scene, options)),
        Workbench(table, layers, tasks),
        None if before is None else Images.of(Scene.open(before, options)),
    )
    return PageServer(content, port=port, framed=framed)


def drawn_layers(labels: Path, objects: ObjectTable, tasks: Tasks | None) -> dict[str, DrawnLayer]:
    """The layers that are drawn, by what the page calls them.

    Labels go into the first layer of a file that is there, as `geohr train` reads it; a result and
    a sample get a layer of their own.

    Raises:
        InputError: When the file of labels cannot be read.
        UsageError: When it is no GeoPackage.
    """
    own = LABELS
    theirs = labels.exists() and labels.resolve() != objects.path.resolve()
    if labels.suffix.lower() != ".gpkg" or (theirs and not is_sample(labels)):
        own = ObjectTable.open(labels, prefer=LABELS).layer
    layers = {
        LABELS: DrawnLayer(labels, LABELS if own == LABELLED else own, objects.crs),
        LABELLED: DrawnLayer(labels, LABELLED, objects.crs),
    }
    if tasks is not None:
        layers[TRACED] = DrawnLayer(tasks.path, TRACED, tasks.crs)
    return layers


def page_app(content: PageContent, port: int, ancestors: str) -> Starlette:
    """The page, its tiles and what it writes as a web application.

    Args:
        content: The scene, its objects, and what is drawn and judged.
        port: The port that requests must name.
        ancestors: Which pages may show this one in a frame, as a content security policy says it.
    """
    images, objects, files = content.images, content.bench.objects, content.bench.files
    image = lru_cache(TILES_KEPT)(images.tile)
    before = lru_cache(TILES_KEPT)((content.before or images).tile)
    vector = lru_cache(TILES_KEPT)(objects.tile)

    # Functions that are not async run in threads, so that a slow tile keeps no other waiting.
    def page(_: Request) -> Response:
        with files.reading():
            return HTMLResponse(served_page(images, content.bench, content.before))

    def part(request: Request) -> Response:
        name = request.url.path.removeprefix("/")
        return Response(static(name), media_type=STATIC[name])

    def index(_: Request) -> Response:
        with files.reading():
            return JSONResponse(objects.index())

    def image_tile(request: Request) -> Response:
        return Response(image(*place_of(request)), media_type="image/png")

    def before_tile(request: Request) -> Response:
        return Response(before(*place_of(request)), media_type="image/png")

    def vector_tile(request: Request) -> Response:
        with files.reading():
            return Response(vector(tile_bounds(*place_of(request))), media_type=VECTOR)

    def one_object(request: Request) -> Response:
        with files.reading():
            return JSONResponse(objects.attributes(whole(request.path_params["number"])))

    place = "{zoom}/{col}/{row}"
    return Starlette(
        routes=[
            Route("/", page),
            *(Route(f"/{name}", part) for name in STATIC),
            Route("/index", index),
            Route(f"/image/{place}", image_tile),
            Route(f"/before/{place}", before_tile),
            Route(f"/objects/{place}", vector_tile),
            Route("/object/{number}", one_object),
            *edit_routes(content.bench),
        ],
        middleware=[Middleware(OwnPageOnly, port=port, policy=POLICY + ancestors)],
        exception_handlers={
            HTTPException: lambda _, error: failure(error.status_code, "no such page"),
            InputError: lambda _, error: failure(404, str(error)),
            UsageError: lambda _, error: failure(400, str(error)),
            GeohrError: lambda _, error: failure(500, str(error)),
            Exception: lambda _, error: failure(500, f"unexpected {type(error).__name__}"),
        },
    )


class OwnPageOnly:
    """Refuses what does not come from the page itself, and says what the page may do.

    Another site could point a name of its own at 127.0.0.1, or send a form here. Starlette's
    `TrustedHostMiddleware` does not look at the port, behind which another program may be.

    Args:
        app: The application that answers.
        port: The port that requests must name.
        policy: The content security policy of every answer.
    """

    def __init__(self, app: ASGIApp, port: int, policy: str) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}" for name in (HOST, "localhost")}
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Cache-Control"] = "no-store"
                headers["Content-Security-Policy"] = self._policy
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        headers = Headers(scope=scope)
        origin = headers.get("origin")
        own = headers.get("host") in self._hosts and (
            origin is None or origin.removeprefix("http://") in self._hosts
        )
        app = self._app if own else failure(403, "not asked by the page itself")
        await app(scope, receive, send_with_headers)


def failure(status: int, text: str) -> JSONResponse:
    """The JSON answer for an error."""
    return JSONResponse({"error": text}, status)
