"""The part of the page's server that writes: outlines that are drawn, and answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Condition
from typing import Any

import shapely
import shapely.geometry
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from geohr.errors import InputError, UsageError
from geohr.viewer.drawn import DrawnLayer, DrawnPolygon, Edit
from geohr.viewer.images import tile_bounds
from geohr.viewer.objects import NUMBER_MAX, ObjectTable
from geohr.viewer.review import keep_review
from geohr.viewer.tasks import Tasks

# A review or an answer is some fifty bytes long.
SHORT_BYTES_MAX = 1_000
# An outline of ten thousand corners, or the numbers of a hundred thousand objects, take less.
EDIT_BYTES_MAX = 1_000_000
# Tiles of each kind that are held in memory.
TILES_KEPT = 512
VECTOR = "application/vnd.mapbox-vector-tile"


class ReadersOrWriter:
    """Many threads read at the same time, or one writes.

    GDAL cannot open a GeoPackage in the moment in which SQLite commits to it.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._readers = 0
        self._writing = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep writers waiting until the block ends."""
        with self._changed:
            self._changed.wait_for(lambda: not self._writing)
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep all others waiting until the block ends."""
        with self._changed:
            self._changed.wait_for(lambda: not self._writing and self._readers == 0)
            self._writing = True
        try:
            yield
        finally:
            with self._changed:
                self._writing = False
                self._changed.notify_all()


@dataclass
class Workbench:
    """The files that the page writes to, one edit at a time.

    Attributes:
        objects: The result, whose reviews are kept.
        layers: The layers that are drawn, by name.
        tasks: The sample that is judged, if any.
        files: Who may use the files now.
    """

    objects: ObjectTable
    layers: dict[str, DrawnLayer]
    tasks: Tasks | None = None
    files: ReadersOrWriter = field(default_factory=ReadersOrWriter)
    _revision: int = 0

    def __post_init__(self) -> None:
        """Prepare to hold tiles."""
        self._kept_tile = lru_cache(TILES_KEPT)(self._cut_tile)

    def tile(self, layer: str, place: tuple[int, int, int]) -> bytes:
        """A tile of a drawn layer, as it is after the last edit."""
        return self._kept_tile(layer, place, self._revision)

    def _cut_tile(self, layer: str, place: tuple[int, int, int], revision: int) -> bytes:
        """A tile as it is at a revision, by which tiles from before an edit are told apart."""
        del revision
        with self.files.reading():
            return self.layer(layer).tile(tile_bounds(*place))

    def layer(self, name: str) -> DrawnLayer:
        """A layer that is drawn.

        Raises:
            InputError: When there is none of that name.
        """
        if name not in self.layers:
            raise InputError(f"no layer {name[:20]} is drawn here")
        return self.layers[name]

    def review(self, sent: Any) -> Any:
        """Keep a review."""
        identity, decision = parse_review(sent)
        with self.files.writing():
            keep_review(self.objects, identity, decision)
        return {"id": identity, "review": decision}

    def answer(self, sent: Any) -> Any:
        """Keep an answer to a task."""
        match sent:
            case {"layer": str(layer), "id": int(number), "answer": int() | None as answer}:
                with self.files.writing():
                    self.sample().keep(layer, whole(str(number)), answer)
                return sent
        raise UsageError("an answer is {layer, id, answer}")

    def sample(self) -> Tasks:
        """The tasks.

        Raises:
            InputError: When there are none.
        """
        if self.tasks is None:
            raise InputError("nothing is checked here; name a sample with --check")
        return self.tasks

    def edit(self, sent: Any) -> Any:
        """Put and remove polygons; split, merge or copy them."""
        layer = self.layer(str(sent.get("layer")) if isinstance(sent, dict) else "")
        with self.files.writing():
            match sent:
                case {"put": list(put), "drop": list(drop)}:
                    drawings = [parse_outline(each) for each in put]
                    undo, ids = layer.apply(Edit(drawings, parse_ids(drop)))
                case {"split": int(identity), "line": line}:
                    undo, ids = layer.split(identity, parse_shape(line, "LineString"))
                case {"merge": list(numbers)}:
                    undo, ids = layer.merge(parse_ids(numbers))
                case {"copy": list(numbers)}:
                    undo, ids = layer.copy(self.objects, parse_ids(numbers))
                case _:
                    raise UsageError("an edit is {layer, put, drop}, or split, merge or copy")
            self._revision += 1
        return {
            "undo": {
                "layer": sent["layer"],
                "put": [as_json(each) for each in undo.put],
                "drop": undo.drop,
            },
            "ids": ids,
            "count": layer.count(),
        }


def edit_routes(bench: Workbench) -> list[Route]:
    """The routes by which the page writes, and reads what it may write."""

    def writes(path: str, keep: Callable[[Any], Any], most: int) -> Route:
        async def answer(request: Request) -> Response:
            sent = await read_json(request, most)
            return JSONResponse(await run_in_threadpool(keep, sent))

        return Route(path, answer, methods=["POST"])

    def tile(request: Request) -> Response:
        told = bench.tile(request.path_params["layer"], place_of(request))
        return Response(told, media_type=VECTOR)

    def one(request: Request) -> Response:
        layer, number = bench.layer(request.path_params["layer"]), request.path_params["number"]
        with bench.files.reading():
            return JSONResponse(as_json(layer.outline(whole(number))))

    def tasks(_: Request) -> Response:
        with bench.files.reading():
            return JSONResponse(bench.sample().listed())

    def estimate(_: Request) -> Response:
        from geohr.workflows.check.estimate import estimate

        with bench.files.reading():
            return JSONResponse(estimate(bench.sample().path).describe().splitlines())

    return [
        writes("/review", bench.review, SHORT_BYTES_MAX),
        writes("/answer", bench.answer, SHORT_BYTES_MAX),
        writes("/edit", bench.edit, EDIT_BYTES_MAX),
        Route("/drawn/{layer}/{number}", one),
        Route("/drawn/{layer}/{zoom}/{col}/{row}", tile),
        Route("/tasks", tasks),
        Route("/estimate", estimate),
    ]


def place_of(request: Request) -> tuple[int, int, int]:
    """Zoom, column and row of the tile that is asked for.

    Raises:
        InputError: When they are no numbers.
    """
    zoom, col, row = (whole(request.path_params[name]) for name in ("zoom", "col", "row"))
    return zoom, col, row


def whole(text: str) -> int:
    """A part of a path as a number that SQLite can hold.

    Raises:
        InputError: When it is none.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(NUMBER_MAX))):
        raise InputError(f"{text[:20]} is no number of an object or a tile")
    return min(int(text), NUMBER_MAX)


async def read_json(request: Request, most: int) -> Any:
    """Read the JSON that the page sent, of at most so many bytes.

    Raises:
        UsageError: When it is too long, or no JSON.
    """
    # A form of another site cannot send this type without asking first.
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise UsageError("what is kept is sent as application/json")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            raise UsageError(f"what is kept is at most {most} bytes long")
    try:
        return json.loads(body)
    except ValueError as error:
        raise UsageError("what is kept is JSON") from error


def parse_review(sent: Any) -> tuple[int, str | None]:
    """Number and decision of a review; whether the decision is one is for `keep_review` to say.

    Raises:
        UsageError: When it is something else.
        InputError: When no object can have the number.
    """
    match sent:
        case {"id": int(identity), "review": str() | None as decision} if identity is not True:
            return whole(str(identity)), decision
    raise UsageError("a review is {id, review}")


def parse_ids(sent: list[Any]) -> list[int]:
    """Numbers of rows.

    Raises:
        UsageError: When they are something else.
        InputError: When no row can have such a number.
    """
    if any(not isinstance(each, int) or isinstance(each, bool) for each in sent):
        raise UsageError("rows are named by their numbers")
    return [whole(str(each)) for each in sent]


def parse_outline(sent: Any) -> DrawnPolygon:
    """A polygon that the page sent as GeoJSON.

    Raises:
        UsageError: When it is something else.
    """
    match sent:
        case {"id": int() | None as identity, "geometry": geometry, "properties": dict(values)}:
            if not all(
                each is None or isinstance(each, str | int | float) for each in values.values()
            ):
                raise UsageError("a column holds text or a number")
            number = None if identity is None else whole(str(identity))
            return DrawnPolygon(number, parse_shape(geometry, "Polygon", "MultiPolygon"), values)
    raise UsageError("an outline is {id, geometry, properties}")


def parse_shape(sent: Any, *kinds: str) -> shapely.Geometry:
    """A geometry in degrees, out of GeoJSON.

    Raises:
        UsageError: When it is none of these kinds, or lies nowhere.
    """
    if not isinstance(sent, dict) or sent.get("type") not in kinds:
        raise UsageError(f"what is drawn is GeoJSON of type {' or '.join(kinds)}")
    try:
        shape = shapely.geometry.shape(sent)
        west, south, east, north = shape.bounds
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        shapely.GEOSException,
    ) as error:
        raise UsageError(f"what is drawn cannot be read ({error})") from error
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise UsageError("what is drawn lies outside the world in degrees")
    return shape


def as_json(drawing: DrawnPolygon) -> dict[str, Any]:
    """An outline as the page knows it."""
    return {
        "id": drawing.identity,
        "geometry": shapely.geometry.mapping(drawing.shape),
        "properties": drawing.values,
    }
