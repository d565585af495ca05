"""The server: what it gives, and what it refuses."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pyogrio
import pytest

from geohr.errors import InputError, UsageError
from geohr.viewer import ObjectTable, page_server
from geohr.viewer.review import keep_review
from tests.view.browser import serving
from tests.view.makers import read_houses, write_result


@dataclass(frozen=True)
class Client:
    """Asks the server as anyone could."""

    address: str
    scene: Path
    objects: Path

    @property
    def port(self) -> int:
        return int(self.address.rstrip("/").rpartition(":")[2])

    def ask(
        self, path: str, *, method: str = "GET", body: str | None = None, **headers: str
    ) -> tuple[int, str, bytes]:
        """Status, type and body of the answer."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body, headers=named)
            answer = connection.getresponse()
            return answer.status, answer.headers.get_content_type(), answer.read()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    scene, objects = write_result(tmp_path)
    with serving(page_server(scene, objects)) as address:
        yield Client(address, scene, objects)


def test_it_gives_the_page_and_its_parts(client: Client) -> None:
    status, kind, page = client.ask("/")
    assert (status, kind) == (200, "text/html")
    assert b"scene.tif" in page
    assert str(client.scene.parent).encode() not in page
    for name in ("maplibre-gl.js", "maplibre-gl.css", "page.js", "page.css"):
        assert client.ask(f"/{name}")[0] == 200
    index = json.loads(client.ask("/index")[2])
    assert index["id"] == list(range(1, 26))
    assert all(0 < each < 1 for each in index["confidence"])
    one = json.loads(client.ask("/object/3")[2])
    assert (one["fid"], one["class"]) == (3, "building")


@pytest.mark.parametrize(
    "path",
    [
        "/../scene.tif", "/scene.tif", "/houses.gpkg", "/..%2f..%2fetc/passwd", "//etc/passwd",
        "/static/page.html", "/page.html", "/image/1/2", "/image/3/9/0", "/image/-1/0/0",
        "/image/99/0/0", "/image/0/0/0/0", "/objects/a/b/c", "/object/0", "/object/../1",
        "/object/9999999", "/object/9223372036854775808", "/image/9/9223372036854775808/0",
        f"/object/{'9' * 5000}", f"/image/9/0/{'9' * 5000}",
        "/image/1e1/0/0", "/image/%00/0/0", "/docs", "/openapi.json",
        "/maplibre-gl.LICENSE.txt", "/.git/config",
    ],
)  # fmt: skip
def test_it_gives_nothing_else(client: Client, path: str) -> None:
    status, kind, body = client.ask(path)
    assert (status, kind) == (404, "application/json")
    assert set(json.loads(body)) == {"error"}


def test_a_review_is_only_sent(client: Client) -> None:
    status, kind, body = client.ask("/review")
    assert (status, kind, set(json.loads(body))) == (405, "application/json", {"error"})


def strict(text: bytes) -> Any:
    """JSON as browsers read it, without NaN and Infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_objects_without_confidence_and_review_are_shown_and_reviewed(tmp_path: Path) -> None:
    scene, objects = write_result(tmp_path, 4)
    bare = tmp_path / "bare.gpkg"
    pyogrio.write_dataframe(read_houses(objects)[["geometry"]], bare, layer="houses")
    with serving(page_server(scene, bare)) as address:
        client = Client(address, scene, bare)
        index = strict(client.ask("/index")[2])
        assert index["id"] == [1, 2, 3, 4]
        assert index["confidence"] == index["review"] == [None] * 4
        body = '{"id": 2, "review": "rejected"}'
        sent = client.ask("/review", method="POST", body=body, Content_Type="application/json")
        assert sent[0] == 200
        assert strict(client.ask("/index")[2])["review"] == [None, "rejected", None, None]


def test_what_json_cannot_say_is_left_out(tmp_path: Path) -> None:
    scene, objects = write_result(tmp_path, 4)
    with closing(sqlite3.connect(objects)) as file, file:
        for name in ("ST_IsEmpty", "ST_MinX", "ST_MinY", "ST_MaxX", "ST_MaxY"):
            file.create_function(name, 1, lambda _: 0)
        file.execute("UPDATE houses SET confidence = 9e999 WHERE fid = 1")
        file.execute("UPDATE houses SET geom = NULL WHERE fid = 2")
    with serving(page_server(scene, objects)) as address:
        client = Client(address, scene, objects)
        index = strict(client.ask("/index")[2])
        assert index["confidence"][0] is None
        assert [index[side][1] for side in ("west", "south", "east", "north")] == [None] * 4
        assert strict(client.ask("/object/1")[2])["confidence"] == "inf"
        assert client.ask("/objects/0/0/0")[0] == 200


def test_text_for_confidence_is_no_confidence(tmp_path: Path) -> None:
    scene, objects = write_result(tmp_path, 4)
    frame = read_houses(objects)
    frame["confidence"] = ["high", "0.75", None, ""]
    text = tmp_path / "text.gpkg"
    pyogrio.write_dataframe(frame, text, layer="houses")
    with serving(page_server(scene, text)) as address:
        client = Client(address, scene, text)
        assert strict(client.ask("/index")[2])["confidence"] == [None, 0.75, None, None]
        assert client.ask("/objects/0/0/0")[:2] == (200, "application/vnd.mapbox-vector-tile")


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's list of sockets")
def test_it_listens_on_loopback_only(client: Client) -> None:
    listening = [
        line.split()
        for name in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(name).read_text().splitlines()[1:]
    ]
    ports = [row[1].split(":") for row in listening if row[3] == "0A"]
    ours = [host for host, port in ports if int(port, 16) == client.port]
    assert ours == ["0100007F"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
    ],
    ids=str,
)
def test_it_answers_nobody_but_its_own_page(client: Client, headers: dict[str, str]) -> None:
    filled = {name: value.format(port=client.port) for name, value in headers.items()}
    assert client.ask("/index", **filled)[0] == 403
    body = json.dumps({"id": 1, "review": "accepted"})
    asked = {**filled, "Content_Type": "application/json"}
    assert client.ask("/review", method="POST", body=body, **asked)[0] == 403
    assert "review" not in read_houses(client.objects)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ('{"id": 1, "review": "accepted"}', "text/plain", 400),
        ('{"id": 1, "review": "maybe"}', "application/json", 400),
        ('{"id": 1}', "application/json", 400),
        ("[]", "application/json", 400),
        ("{", "application/json", 400),
        ('{"id": 99, "review": "accepted"}', "application/json", 404),
        ('{"id": 9223372036854775808, "review": "accepted"}', "application/json", 404),
        ('{"id": -1, "review": "accepted"}', "application/json", 404),
        ('{"id": Infinity, "review": "accepted"}', "application/json", 400),
        ('{"id": 1.5, "review": "accepted"}', "application/json", 400),
        ('{"id": true, "review": "accepted"}', "application/json", 400),
        ('{"id": 1, "review": "accepted"' + " " * 2000 + "}", "application/json", 400),
    ],
)
def test_it_takes_no_other_review(client: Client, body: str, kind: str, status: int) -> None:
    got = client.ask("/review", method="POST", body=body, Content_Type=kind)
    assert got[0] == status
    assert "review" not in read_houses(client.objects)


def test_a_review_is_written_and_the_rest_is_as_it_was(client: Client) -> None:
    before = read_houses(client.objects)
    for identity, decision in ((3, "accepted"), (5, "rejected"), (5, None), (7, "rejected")):
        body = json.dumps({"id": identity, "review": decision})
        sent: tuple[Any, ...] = client.ask(
            "/review", method="POST", body=body, Content_Type="application/json"
        )
        assert (sent[0], json.loads(sent[2])) == (200, {"id": identity, "review": decision})
    after = read_houses(client.objects)
    assert after["review"].dropna().to_dict() == {3: "accepted", 7: "rejected"}
    assert after.drop(columns="review").equals(before)
    with closing(sqlite3.connect(client.objects)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    # The spatial index still finds what it found.
    box = tuple(before.geometry.iloc[6].bounds)
    assert len(pyogrio.read_dataframe(client.objects, layer="houses", bbox=box)) >= 1


def test_a_review_of_a_file_that_is_held_says_so(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geohr.viewer.database.WAIT_SECONDS", 0.1)
    with closing(sqlite3.connect(client.objects)) as other:
        other.execute("BEGIN EXCLUSIVE")
        body = json.dumps({"id": 1, "review": "accepted"})
        status, _, text = client.ask(
            "/review", method="POST", body=body, Content_Type="application/json"
        )
    assert status == 500
    assert "close other programs that hold the file" in json.loads(text)["error"]


def test_a_taken_port_is_refused_in_words(client: Client) -> None:
    with pytest.raises(UsageError, match="choose another with --port"):
        page_server(client.scene, client.objects, port=client.port)


def test_objects_must_be_a_geopackage_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="convert with ogr2ogr"):
        ObjectTable.open(tmp_path / "a.geojson")
    with pytest.raises(InputError, match="no such file"):
        ObjectTable.open(tmp_path / "a.gpkg")
    (tmp_path / "b.gpkg").write_text("no")
    with pytest.raises(InputError, match="not a GeoPackage"):
        ObjectTable.open(tmp_path / "b.gpkg")


def test_a_review_that_is_none_of_the_two_is_refused(tmp_path: Path) -> None:
    _, path = write_result(tmp_path, 4)
    with pytest.raises(UsageError, match="accepted or rejected; got 'good'"):
        keep_review(ObjectTable.open(path), 1, "good")


def test_no_port_is_open_after_the_block(tmp_path: Path) -> None:
    scene, objects = write_result(tmp_path, 4)
    with serving(page_server(scene, objects)) as address:
        port = int(address.rstrip("/").rpartition(":")[2])
    with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.1", port), 5):
        pass
